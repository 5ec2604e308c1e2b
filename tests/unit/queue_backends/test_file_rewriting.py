"""A rewritten log has lost what no longer counts, and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from nuvom.core.record import JobStatus, StoredError
from nuvom.core.views import WorkerInfo
from nuvom.queue_backends.file_log import Log
from nuvom.scheduler.record import ScheduleChange
from nuvom.testing.builders import make_job, make_schedule, make_settlement
from tests.unit.queue_backends.stories import open_queue

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.queue_backends.file import FileJobQueue

ERROR = StoredError("ValueError", "no", "Traceback ...", "here")


@pytest.fixture(autouse=True)
def little_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Log, "spare_bytes", 4000)


def opened(root: Path) -> FileJobQueue:
    return open_queue(root, durability="normal")


def churn(queue: FileJobQueue) -> None:
    """Have jobs that come, run and are removed, until the log was rewritten."""
    first = queue._log.numbers()
    for number in range(300):
        queue.enqueue(make_job("shop.send", queue="rubbish", priority=-1))
        (job,) = queue.claim(1, "churner", ["rubbish"])
        queue.settle([make_settlement(job, finished_at=1.0)])
        queue.prune(success_before=2.0, failed_before=0)
        queue.reap()
        if number > 10 and queue._log.numbers() > first:
            return
    pytest.fail("the log only grows")


def test_schedules_alone_do_not_let_the_log_grow(tmp_path: Path) -> None:
    """No worker takes care of a store that ``scheduler_backend`` names for schedules alone."""
    queue = opened(tmp_path)
    schedules, seen = queue.schedules(), make_schedule("often", due_at=0.0)
    assert schedules.apply([ScheduleChange("often", 0, seen)]) == [True]
    for fired in range(1, 200):
        after = replace(seen, fired=fired, revision=seen.revision + 1)
        assert schedules.apply([ScheduleChange("often", seen.revision, after)]) == [True]
        seen = after
    assert queue.store_size().used < 10_000
    assert opened(tmp_path).schedules().page() == [seen]


def full_of_life(queue: FileJobQueue) -> None:
    """Have a job of every kind, and everything else that a store knows."""
    for name in ("waits", "runs", "succeeds", "fails", "parks", "stops", "is late"):
        queue.enqueue(make_job("shop.send", name * 300, id=name.replace(" ", "-"), priority=1))
    queue.cancel("stops")
    queue.enqueue(make_job("shop.send", id="keyed", unique_key="k", unique_for=1e9, priority=2))
    claimed = {job.id: job for job in queue.claim(6, "w1")}
    queue.report_progress(claimed["runs"], 1, 2, "half")
    queue.release([claimed["waits"]])
    queue.settle(
        [
            make_settlement(claimed["succeeds"], value="well" * 400),
            make_settlement(claimed["fails"], JobStatus.FAILED, error=ERROR),
            make_settlement(claimed["parks"], JobStatus.PARKED),
            make_settlement(claimed["is-late"], JobStatus.PENDING, run_at=9e9, error=ERROR),
        ]
    )
    queue.enqueue(make_job("shop.send", id="elsewhere", queue="elsewhere"))
    queue.claim(1, "never-announced", ["elsewhere"])
    queue.pause("mail", "me")
    queue.announce(WorkerInfo(id="w1", pid=1, started_at=5.0))
    queue.command("w1", "quiet")
    queue.extend("w1")


def known(queue: FileJobQueue) -> dict[str, Any]:
    """Return everything that can be read, comparable."""
    ids = [one.record.id for one in queue.page(limit=1000) if one.record.queue != "rubbish"]
    found: dict[str, Any] = {"order": ids}
    for job_id in ids:
        one = queue.get(job_id)
        assert one is not None
        found[job_id] = (
            json.dumps(one.record.to_dict(), sort_keys=True),
            (one.result, one.error, one.worker, one.started_at, one.finished_at, one.progress),
            [(a.number, a.outcome, a.lease_epoch, a.error) for a in queue.attempts(job_id)],
        )
    found["stats"] = [one for one in queue.stats() if one.queue != "rubbish"]
    found["workers"] = [(one.id, one.running) for one in queue.workers()]
    found["errors"] = queue.error_groups()
    found["parked"] = queue.parked_tasks
    return found


def test_everything_that_counts_stays_for_whoever_knew_it_and_whoever_comes(
    tmp_path: Path,
) -> None:
    queue, other, producer = opened(tmp_path), opened(tmp_path), opened(tmp_path)
    queue.keep_totals()
    full_of_life(queue)
    before = known(other)
    producer.enqueue(make_job("shop.send", id="first", queue="rubbish"))
    queue.purge("rubbish")
    churn(queue)
    producer.enqueue(make_job("shop.send", id="second", queue="rubbish", priority=9))
    fresh = opened(tmp_path)  # knows only what is written now
    assert known(queue) == known(other) == known(fresh) == before
    assert Counter(queue.totals()) == Counter(fresh.totals())
    assert fresh.commands("w1") == ["quiet"]
    assert fresh.enqueue(make_job("shop.send", unique_key="k")) == "keyed"
    assert [job.id for job in other.claim(9, "w2")] == ["waits", "keyed", "second"]
    for one in (queue, other, producer, fresh):
        one.stop()
