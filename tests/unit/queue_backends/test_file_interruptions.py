"""What the file store does when an exception strikes in a call; the law of all queues is in
``tests/lab/laws/interruptions.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nuvom.errors import QueueFull
from nuvom.host.worker_lock import is_alive
from nuvom.testing.builders import make_job, make_settlement
from tests.unit.queue_backends.interrupting import (
    LIMIT_SECS,
    beside,
    in_thread,
    interrupt_everywhere,
    pause_everywhere,
)
from tests.unit.queue_backends.stories import jobs, open_queue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from nuvom.queue_backends.file import FileJobQueue

    Case = tuple[Callable[[], object], Callable[[bool], object]]

# Files and sockets that were just opened when the exception came are closed when forgotten.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def goes_on(queue: FileJobQueue, job_id: str) -> bool:
    """Bring a job to its end; tell whether that went well."""
    queue.enqueue(make_job("shop.send", id=job_id, queue="probe"))
    claimed = queue.claim(10, f"w-{job_id}", ["probe"])
    return job_id in [job.id for job in claimed] and all(
        queue.settle([make_settlement(job) for job in claimed])
    )


@pytest.mark.parametrize("first", ["enqueue", "claim", "wait"])
def test_the_interrupted_first_use_of_a_store_can_be_repeated(tmp_path: Path, first: str) -> None:
    open_queue(tmp_path).start()  # the project's folder is there; only the store is new

    def prepare(number: int) -> Case:
        queue = open_queue(tmp_path, file_path=f"store-{number}")
        call = {
            "enqueue": lambda: queue.enqueue(make_job("shop.send", id="a")),
            "claim": lambda: queue.claim(1, "w"),
            "wait": lambda: queue.wait_for_work(0),
        }[first]

        def check(is_cut: bool) -> None:  # noqa: FBT001  # it is told this alone
            other = open_queue(tmp_path, file_path=f"store-{number}")
            assert in_thread(lambda: goes_on(other, "b"))
            assert in_thread(lambda: goes_on(queue, "c"))
            if first == "enqueue":
                assert is_cut or queue.get("a") is not None
            for one in (queue, other):
                one.stop()

        return call, check

    assert interrupt_everywhere(prepare, step=17) > 100


def test_an_interrupted_stop_can_be_completed(tmp_path: Path) -> None:
    open_queue(tmp_path).start()

    def prepare(number: int) -> Case:
        queue = open_queue(tmp_path, file_path=f"store-{number}")
        for job in jobs("a", "b"):
            queue.enqueue(job)
        queue.claim(1, "holder")
        queue.claim(0, "idle")

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            in_thread(queue.stop)
            other = open_queue(tmp_path, file_path=f"store-{number}")
            assert not is_alive(other.directory, "idle")
            assert [job.id for job in other.reap()] == ["a"]
            other.stop()

        return queue.stop, check

    assert interrupt_everywhere(prepare) > 50


def test_an_interrupted_claim_keeps_no_slot_and_no_mark(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for job in jobs("a", "b"):
        queue.enqueue(job)
    queue.claim(0, "w")
    presence = queue.own_workers.lock_of("w")

    def prepare(_: int) -> Case:
        claimed: list[Any] = []
        free = sorted(presence._free)

        def check(is_cut: bool) -> None:  # noqa: FBT001  # as above
            assert len(queue.own_workers.marks) == len(claimed) == (0 if is_cut else 2)
            if is_cut:
                claimed.extend(in_thread(lambda: queue.claim(2, "w")))
            assert ["a", "b"] == sorted(job.id for job in claimed)
            queue.release(claimed)
            assert sorted(presence._free) == free

        return lambda: claimed.extend(queue.claim(2, "w")), check

    assert interrupt_everywhere(prepare, counts_files=False) > 100
    queue.stop()


# ---- what is derived from the log ---------------------------------------------------------


def test_a_call_that_is_refused_does_not_have_everything_read_anew(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, max_queue_size=1)
    queue.enqueue(make_job("shop.send", id="a"))
    table = queue.turn(lambda table: table)
    with pytest.raises(QueueFull):
        queue.enqueue(make_job("shop.send", id="b"))
    assert queue.turn(lambda table: table) is table
    queue.stop()


# ---- threads at the same time -------------------------------------------------------------


def test_a_start_that_is_noted_late_is_not_noted_of_the_next_delivery(tmp_path: Path) -> None:
    """Another thread gives the job back just then, and claims it: in the same slot."""
    queue = open_queue(tmp_path)

    def prepare(number: int) -> tuple[Any, Any, Any]:
        job_id = f"j{number}"
        queue.enqueue(make_job("shop.send", id=job_id))
        (job,) = queue.claim(1, "w")
        hands, again = [], []

        def claim_anew() -> None:
            queue.release([job])
            again.extend(queue.claim(1, "w"))

        def pause() -> None:
            hands.append(beside(claim_anew))

        def check() -> None:
            for hand in hands:
                hand.finish(LIMIT_SECS)
            assert not queue.own_workers.has_started(job_id, again[0].lease_epoch)
            queue.settle([make_settlement(again[0])])

        return lambda: queue.mark_started(job), pause, check

    assert pause_everywhere(prepare) > 2
    queue.stop()
