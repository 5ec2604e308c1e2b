"""R18, F07, F19, F21 to F24: jobs that kill, raise or return what they should not.

Each ends after exactly as many starts as its limit says, every neighbour gets done, and the
worker's slots are all there afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.core.record import JobStatus
from nuvom.events import HookFailed
from nuvom.inspection import Inspector
from tests.engine import LIMIT_SECS, Engine
from tests.reliability import poison, tasks
from tests.reliability.site import Crew, Site, unfinished, wait_for

MAX_DELIVERIES = 3
SLOTS = 4


def tend(site: Site, crew: Crew, is_over: Callable[[], bool]) -> int:
    """Start a worker for each one that dies, until it is over; return how many died."""
    deaths = 0

    def is_over_now() -> bool:
        nonlocal deaths
        for pid, member in list(crew.members.items()):
            if not member.is_running:
                member.close()
                site.log.write("kill", pid=pid)
                del crew.members[pid]
                deaths += 1
                crew.hire()
        return is_over()

    wait_for(is_over_now, LIMIT_SECS * 3, "the poison was never through")
    return deaths


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("file", marks=pytest.mark.slow)])
def test_r18_poison_ends_at_its_limit_and_harms_no_neighbour(
    tmp_path: Path, figures: Callable[[str], None], backend: str
) -> None:
    site = Site(tmp_path, backend, {"max_deliveries": MAX_DELIVERIES, "shutdown_timeout_secs": 1})
    with site.open() as runtime:
        in_child = site.enqueue(*(poison.deadly_in_child.delay(kind) for kind in poison.DEADLY))
        harmful = site.enqueue(*(poison.harmful.delay(kind) for kind in poison.HARMFUL))
        unfit = site.enqueue(*(poison.unfit.delay(kind) for kind in poison.UNFIT))
        hooked = site.enqueue(*(poison.hooked.delay(fails=fails) for fails in (False, True)))
        neighbours = site.enqueue(*tasks.plain.map([(number,) for number in range(400)]))
        deadly: list[str] = []
        with site.crew(1, threads=SLOTS) as crew:
            deaths = tend(site, crew, lambda: not unfinished(runtime))
            assert deaths == 0
            for kind in poison.DEADLY:  # one at a time, so that each death has one cause
                deadly += site.enqueue(poison.deadly_kind.delay(kind))
                neighbours += site.enqueue(*tasks.plain.map([(n,) for n in range(200)]))
                deaths += tend(site, crew, lambda: not unfinished(runtime))
            meeting = poison.meet.map([(SLOTS,)] * SLOTS)
            assert meeting.get(timeout=LIMIT_SECS) == [SLOTS] * SLOTS
        starts, found = site.starts(), site.snapshots(runtime)
        figures(
            f"{len(neighbours)} neighbours, {deaths} deaths of workers; starts of deadly jobs "
            f"{[starts[one] for one in deadly]}, in a child {[starts[one] for one in in_child]}, "
            f"of harmful ones {[starts[one] for one in harmful]}, of unfit ones "
            f"{[starts[one] for one in unfit]}"
        )
        status = {one: str(snapshot.status) for one, snapshot in found.items()}
        assert {status[one] for one in deadly} == {"DEAD"}
        assert [starts[one] for one in deadly] == [MAX_DELIVERIES] * len(deadly)
        assert deaths == MAX_DELIVERIES * len(deadly)
        for limited in (in_child, harmful):
            assert {status[one] for one in limited} == {"FAILED"}
            assert [starts[one] for one in limited] == [poison.RETRIES + 1] * len(limited)
        assert {status[one] for one in unfit} == {"FAILED"}
        assert [starts[one] for one in unfit] == [1] * len(unfit)
        assert [status[one] for one in hooked] == ["SUCCESS", "FAILED"]
        assert len(neighbours) == 1000
        assert {status[one] for one in neighbours} == {"SUCCESS"}


def test_f07_the_attempt_number_stays_while_a_dying_job_is_delivered_again(tmp_path: Path) -> None:
    site = Site(tmp_path, settings={"max_deliveries": MAX_DELIVERIES})
    with site.open() as runtime:
        (job_id,) = site.enqueue(poison.deadly_kind.delay("kill"))
        with site.crew(1) as crew:
            tend(site, crew, lambda: not unfinished(runtime))
        starts = [one["attempt"] for one in site.events("start")]
        assert starts == [1, 1, 1]
        found = Inspector(runtime).snapshot(job_id)
        assert (found.status, found.record.deliveries) == (JobStatus.DEAD, MAX_DELIVERIES)
        lost = runtime.queue.attempts(job_id)  # type: ignore[attr-defined]  # a leased queue
        assert [one.outcome for one in lost] == ["lost"] * MAX_DELIVERIES
        runtime.control.retry(job_id)
        again = Inspector(runtime).snapshot(job_id).record
        assert (again.status, again.attempt, again.deliveries) == (JobStatus.PENDING, 0, 0)


@pytest.mark.parametrize("kind", poison.UNFIT)
def test_f21_what_cannot_be_kept_fails_its_job_and_says_why(engine: Engine, kind: str) -> None:
    job = engine.task(poison.UNFIT[kind], name="tests.unfit").delay()
    engine.work()
    found = Inspector(engine.runtime).snapshot(job.id)
    assert found.status is JobStatus.FAILED
    assert found.error is not None
    assert found.error.type in ("NotStorable", "ResultTooLarge")
    assert found.error.message


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_f22_whatever_is_raised_fails_the_attempt_alone(
    engine: Engine, error: type[BaseException]
) -> None:
    @engine.task
    def raises() -> None:
        raise error("as asked")

    job, neighbour = raises.delay(), engine.task(lambda: 1, name="tests.one").delay()
    with engine.worker(threads=1) as worker:
        engine.wait_until(lambda: worker.finished_jobs == 2)
        assert neighbour.get(timeout=0) == 1
        assert Inspector(engine.runtime).snapshot(job.id).status is JobStatus.FAILED


@pytest.mark.parametrize("kind", ["RecursionError", "MemoryError", "speechless"])
def test_f23_a_report_is_made_whatever_state_the_error_is_in(engine: Engine, kind: str) -> None:
    job = engine.task(poison.HARMFUL[kind], name="tests.harmful").delay()
    engine.work()
    error = Inspector(engine.runtime).snapshot(job.id).error
    assert error is not None
    assert error.type == {"speechless": "_Speechless"}.get(kind, kind)
    assert len(error.traceback or "") < 100_000


@pytest.mark.parametrize("fails", [False, True])
def test_f24_a_hook_that_raises_changes_no_outcome(engine: Engine, *, fails: bool) -> None:
    def raises(*_: object) -> None:
        raise SystemExit("a hook that wants to end everything")

    @engine.task(before_job=raises, after_job=raises, on_error=raises)
    def hooked() -> int:
        if fails:
            raise ValueError("as asked")
        return 7

    job = hooked.delay()
    with engine.worker():
        engine.wait_for(HookFailed, count=2)
    status = Inspector(engine.runtime).snapshot(job.id).status
    assert status is (JobStatus.FAILED if fails else JobStatus.SUCCESS)
    hooks = [event.hook for event in engine.events(HookFailed)]
    assert hooks == ["before_job", "on_error" if fails else "after_job"]
