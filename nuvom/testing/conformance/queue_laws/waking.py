"""Waiting for work without polling."""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING

from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance import child as child_actions
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.queue_backends.base import BaseJobQueue
    from nuvom.testing.conformance.queue_bench import QueueBench

_LONG_SECS = 600.0  # so long that only a wake-up can have ended the wait


class Waking(QueueKit):
    """``wait_for_work``; waking once too often is allowed, sleeping through work is not."""

    @law(Capability.WAKE_UP)
    def test_an_enqueue_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when a job is enqueued."""
        queue = bench.open(real_time=True)
        _assert_wakes(bench, lambda: queue.enqueue(bench.job()), "enqueue")

    @law(Capability.WAKE_UP)
    def test_a_bulk_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when a bulk is enqueued."""
        queue = bench.open(real_time=True)
        _assert_wakes(bench, lambda: queue.enqueue_many([bench.job()]), "enqueue_many")

    @law(Capability.WAKE_UP)
    def test_notify_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when ``notify`` is called."""
        queue = bench.open(real_time=True)
        _assert_wakes(bench, queue.notify, "notify")

    @law(Capability.WAKE_UP)
    def test_a_wait_can_be_interrupted(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when ``interrupt`` is called in another thread."""
        queue = bench.open(real_time=True)
        _assert_wakes(bench, queue.interrupt, "interrupt")

    @law(Capability.WAKE_UP, Capability.LEASES)
    def test_a_released_job_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when a job is given back."""
        queue = bench.open_leased(real_time=True)
        job = bench.put_and_claim(A)
        _assert_wakes(bench, lambda: queue.release([job]), "release")

    @law(Capability.WAKE_UP, Capability.CONTROL)
    def test_resume_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when a paused queue with jobs is resumed."""
        queue = bench.open_leased(real_time=True)
        queue.pause("default", by="ann")
        bench.put()
        _assert_wakes(bench, lambda: queue.resume("default"), "resume")

    @law(Capability.WAKE_UP)
    def test_work_that_came_before_is_not_slept_through(self, bench: QueueBench) -> None:
        """``wait_for_work`` does not sleep when a job is ready."""
        queue = bench.open(real_time=True)
        bench.put()
        woke = _wait_in_thread(queue, None)
        woke.join(bench.patience_secs)
        assert not woke.is_alive(), "wait_for_work sleeps although a job is ready"

    @law(Capability.WAKE_UP)
    def test_work_that_comes_at_the_last_moment_is_not_slept_through(
        self, bench: QueueBench
    ) -> None:
        """``wait_for_work`` does not sleep when a job came after ``recheck`` looked."""
        queue = bench.open(real_time=True)

        def comes_late() -> bool:
            queue.enqueue(bench.job())
            return False

        woke = _wait_in_thread(queue, comes_late)
        woke.join(bench.patience_secs)
        assert not woke.is_alive(), "wait_for_work sleeps although a job came meanwhile"

    @law(Capability.WAKE_UP)
    def test_what_is_found_before_sleeping_ends_the_wait(self, bench: QueueBench) -> None:
        """``recheck`` is called before the sleep, and True ends the wait at once."""
        queue = bench.open(real_time=True)
        asked = Event()

        def recheck() -> bool:
            asked.set()
            return True

        woke = _wait_in_thread(queue, recheck)
        woke.join(bench.patience_secs)
        assert asked.is_set(), "recheck was not called"
        assert not woke.is_alive(), "wait_for_work sleeps although recheck gave True"

    @law(Capability.WAKE_UP)
    def test_a_wait_without_work_ends(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns after its timeout when nothing comes."""
        queue = bench.open(real_time=True)
        for timeout in (0.0, 0.05):
            queue.wait_for_work(timeout)

    @law(Capability.WAKE_UP)
    def test_another_instance_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when another instance enqueues."""
        bench.open(real_time=True)
        other = bench.reopen()
        _assert_wakes(bench, lambda: other.enqueue(bench.job()), "enqueue by another instance")

    @law(Capability.WAKE_UP)
    def test_another_process_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when another process enqueues."""
        bench.open(real_time=True)
        child = bench.child(child_actions.produce, most=1)
        child.expect("ready")
        _assert_wakes(bench, child.go, "enqueue by another process")


def _assert_wakes(bench: QueueBench, event: Callable[[], object], what: str) -> None:
    """Hold that ``event`` ends a wait that would last ten minutes."""
    queue, limit = bench.queue, bench.patience_secs
    goes_to_sleep = Event()

    def nothing_yet() -> bool:
        goes_to_sleep.set()
        return False

    thread = _wait_in_thread(queue, nothing_yet)
    assert goes_to_sleep.wait(limit), "wait_for_work does not call recheck"
    event()
    thread.join(limit)
    if thread.is_alive():
        queue.interrupt()
        raise AssertionError(f"{what} did not wake a worker within {limit:g} s")


def _wait_in_thread(queue: BaseJobQueue, recheck: Callable[[], bool] | None) -> Thread:
    thread = Thread(target=queue.wait_for_work, args=(_LONG_SECS, recheck), daemon=True)
    thread.start()
    return thread
