"""A queue's life in a few calls, and what must be true of the store whenever it was cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.config.settings import Settings
from nuvom.core.record import JobStatus
from nuvom.queue_backends.file import FileJobQueue
from nuvom.testing.builders import make_job, make_settlement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nuvom.core.record import JobRecord

S = JobStatus
WORKER = "w1"


def open_queue(root: Path, **settings: object) -> FileJobQueue:
    return FileJobQueue(Settings(root=root, **settings))  # type: ignore[arg-type]  # by name


def jobs(*names: str, **fields: object) -> list[JobRecord]:
    return [make_job("shop.send", id=name, **fields) for name in names]


def live(queue: FileJobQueue, done: Callable[[str], None]) -> None:
    """Do everything that changes a store; ``done`` is told of each step that has returned."""
    for job in jobs("one", "two", "three"):
        queue.enqueue(job)
        done(f"enqueue {job.id}")
    queue.enqueue_many(jobs("m1", "m2", "m3", "m4"))
    done("map")
    queue.enqueue(make_job("shop.send", id="key", unique_key="k"))
    done("enqueue key")
    one, two, three, first, second = queue.claim(5, WORKER)
    done("claim")
    queue.mark_started(one)
    done("mark one")
    child = make_job("shop.send", id="child")
    queue.settle([make_settlement(one, value=1, children=(child,)), make_settlement(two, S.FAILED)])
    done("settle one")
    queue.settle([make_settlement(three, S.PENDING, run_at=9e9)])
    done("settle three")
    queue.release([first])
    done("release m1")
    queue.cancel(second.id)
    done("cancel m2")
    queue.retry("two")
    done("retry two")
    queue.pause("mail", "me")
    done("pause")
    queue.extend(WORKER)
    queue.reap()
    done("reap")
    queue.purge("nothing")
    queue.prune(success_before=9e9, failed_before=0)
    done("prune one")


def check(queue: FileJobQueue, done: list[str]) -> None:
    """Assert that all that was done is there, and that nothing is there by half."""
    status = {one.record.id: one.status for one in queue.page(limit=1000)}
    for name in ("one", "two", "three", "key"):
        if f"enqueue {name}" in done and not (name == "one" and "reap" in done):
            assert name in status, f"{name} was accepted and is gone"
    mapped = {"m1", "m2", "m3", "m4"} & set(status)
    assert mapped in (set(), {"m1", "m2", "m3", "m4"}), f"half of a batch is there: {mapped}"
    assert mapped or "map" not in done
    if "settle one" in done and "reap" not in done:
        assert status["one"] is S.SUCCESS
        snapshot = queue.get("one")
        assert snapshot is not None
        assert snapshot.result == b"\x01"
    if "settle one" in done:
        assert status["two"] is (S.PENDING if "retry two" in done else status["two"])
    # What is committed together is there together.
    assert ("child" in status) == (
        status.get("two") in (S.FAILED, S.PENDING) and was_settled(queue)
    )
    if "settle three" in done:
        snapshot = queue.get("three")
        assert snapshot is not None
        assert (snapshot.status, snapshot.record.run_at) == (S.PENDING, 9e9)
    if "release m1" in done:
        assert status["m1"] is S.PENDING
    if "cancel m2" in done:
        assert status["m2"] is S.CANCELLED
    if "pause" in done:
        assert [one.paused_by for one in queue.stats() if one.queue == "mail"] == ["me"]
    if "prune one" in done:
        assert "one" not in status


def was_settled(queue: FileJobQueue) -> bool:
    return any(one.outcome == "failure" for one in queue.attempts("two"))
