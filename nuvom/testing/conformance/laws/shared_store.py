"""Many who use one store at once: threads, instances and processes, some of which are killed."""

from __future__ import annotations

from collections import Counter
from threading import Event
from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance import child as actions
from nuvom.testing.conformance.law import Hand, all_at_once, needs
from nuvom.testing.conformance.laws.bench import A, B, C, QueueKit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuvom.core.record import JobRecord
    from nuvom.testing.conformance.child import KitChild
    from nuvom.testing.conformance.laws.bench import QueueBench

_MANY = 8
_LONG_SECS = 600.0  # so long that only a wake-up can have ended the wait
_SHORT_LEASE_SECS = 1.0  # for backends that learn of a death by the lease alone


@needs(Capability.WAKE_UP)
class Waking(QueueKit):
    """Waiting for work without polling.

    Waking once too often is allowed, sleeping through work is not.
    """

    def test_an_enqueue_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when jobs are enqueued, and when it is notified."""
        queue = bench.open(real_time=True)
        _assert_wakes(bench, queue.notify)
        _assert_wakes(bench, queue.interrupt)
        _assert_wakes(bench, bench.put)
        queue.clear()
        _assert_wakes(bench, lambda: queue.enqueue_many([bench.job()]))

    @needs(Capability.LEASES, Capability.CONTROL)
    def test_a_job_that_can_be_claimed_again_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when a job is given back, or its queue is resumed."""
        queue = bench.open(real_time=True)
        job = bench.put_and_claim(A)
        _assert_wakes(bench, lambda: queue.release([job]))
        queue.pause("default", by="ann")
        _assert_wakes(bench, lambda: queue.resume("default"))

    def test_work_that_came_before_is_not_slept_through(self, bench: QueueBench) -> None:
        """``wait_for_work`` does not sleep when a job is ready, also after ``recheck`` looked."""
        queue = bench.open(real_time=True)
        Hand(lambda: queue.wait_for_work(_LONG_SECS, lambda: True)).end(bench.patience_secs)

        def comes_late() -> bool:
            bench.put()
            return False

        for recheck in (comes_late, None):
            Hand(lambda recheck=recheck: queue.wait_for_work(_LONG_SECS, recheck)).end(  # type: ignore[misc]  # bound now
                bench.patience_secs
            )

    def test_a_wait_without_work_ends(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns after its timeout when nothing comes."""
        queue = bench.open(real_time=True)
        for timeout in (0.0, 0.05):
            queue.wait_for_work(timeout)

    def test_another_process_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when another process enqueues."""
        bench.open(real_time=True)
        child = bench.child(actions.produce, most=1)
        child.expect("ready")
        _assert_wakes(bench, child.go)


class Threads(QueueKit):
    """Many threads of one process on one queue."""

    def test_threads_never_share_a_job(self, bench: QueueBench) -> None:
        """Threads that enqueue and take jobs at the same time lose none and double none."""
        queue = bench.open(real_time=True)
        ids: list[str] = []
        taken: list[str] = []

        def put(number: int) -> None:
            name = f"queue-{number % 3}"
            ids.extend(bench.put(queue=name).id for _ in range(self.race_jobs // _MANY))

        def take(number: int) -> None:
            for _ in ids:  # bounded, for a queue that never gets empty
                batch = queue.pop_batch(3) if number % 2 else [queue.dequeue()]
                found = [job.id for job in batch if job is not None]
                taken.extend(found)
                if not found:
                    return

        for work in (put, take):
            all_at_once(work, threads=_MANY, limit_secs=2 * bench.patience_secs)
        _assert_each_once(ids, taken)

    @needs(Capability.LEASES)
    def test_one_settlement_of_many_wins(self, bench: QueueBench) -> None:
        """Of reapers and settlements that race for one job exactly one gets it."""
        for _ in range(20 if bench.has_fake_clock else 2):
            job = bench.put_and_claim()
            bench.end_leases()
            accepted, reaped = _race_for_one(bench, job)
            assert (accepted, reaped) in (([True, True], []), ([False, False], [job.id]))
            if reaped:
                bench.settle(bench.claim())

    @needs(Capability.UNIQUE)
    def test_threads_that_race_for_a_key_agree(self, bench: QueueBench) -> None:
        """Of threads that enqueue with one key at once one stores, and all name its job."""
        queue = bench.open(real_time=True)
        for key in ("a", "b", "c", "d", "e"):
            answers: list[tuple[str, str | None]] = []

            def put(_: int, key: str = key, answers: list[object] = answers) -> None:  # type: ignore[assignment]  # bound now
                job = bench.job(unique_key=key)
                answers.append((job.id, queue.enqueue(job)))

            all_at_once(put, threads=_MANY, limit_secs=2 * bench.patience_secs)
            _assert_agree(answers)


class Persistence(QueueKit):
    """What a second instance on the same store sees, and what outlives the first."""

    def test_jobs_outlive_the_instance(self, bench: QueueBench) -> None:
        """What one instance enqueues others hand out, once, also when the first has stopped."""
        other = bench.reopen()
        jobs = [bench.put("shop.send", b"\x00" * 5000) for _ in range(3)]
        handed = [*other.pop_batch(1), *bench.queue.pop_batch(1)]
        bench.queue.stop()
        handed += bench.reopen().pop_batch(5)
        assert sorted(job.id for job in jobs) == sorted(job.id for job in handed)
        assert {bytes(job.args) for job in jobs} == {bytes(job.args) for job in handed}
        assert other.qsize() == 0

    @needs(Capability.LEASES)
    def test_a_lease_binds_all_instances(self, bench: QueueBench) -> None:
        """A lease that is given by one instance is kept, ended and fenced by all."""
        other, job = bench.reopen(), bench.put_and_claim(A)
        assert other.claim(1, B) == []
        bench.end_leases()
        assert [job.id] == [one.id for one in other.reap()]
        assert not bench.settle(job)

    @needs(Capability.INSPECTION, Capability.LEASES, Capability.CONTROL)
    def test_what_was_settled_outlives_the_instance(self, bench: QueueBench) -> None:
        """Status, error, attempts and pauses are there when their instance has stopped."""
        earlier, job = bench.reopen(), bench.put_and_claim(A)
        bench.settle(job, JobStatus.FAILED)
        bench.put()
        bench.queue.pause("default", by="ann")
        bench.queue.stop()
        for other in (earlier, bench.reopen()):
            assert other.dequeue() is None, "the queue is not paused any more"
            snapshot = other.get(job.id)
            assert snapshot is not None
            assert snapshot.status is JobStatus.FAILED
            assert snapshot.error is not None
            assert [one.outcome for one in other.attempts(job.id)] == ["failure"]


class Processes(QueueKit):
    """Several processes on one store, some of which are killed."""

    def test_processes_never_share_a_job(self, bench: QueueBench) -> None:
        """Processes that take jobs at the same time never get the same one, and miss none."""
        queue = bench.open(real_time=True)
        children = [
            bench.child(actions.pop_all, batch=5, rounds=self.race_jobs) for _ in range(_MANY)
        ]
        jobs = [bench.job() for _ in range(self.race_jobs)]
        queue.enqueue_many(jobs)
        _let_go(children)
        taken = [job_id for child in children for job_id in child.rest()]
        _assert_each_once([job.id for job in jobs], taken)

    @needs(Capability.UNIQUE)
    def test_processes_that_race_for_a_key_agree(self, bench: QueueBench) -> None:
        """Of processes that enqueue with one key one stores, and all name its job."""
        bench.open(real_time=True)
        children = [bench.child(actions.enqueue_unique, key="once") for _ in range(_MANY)]
        _let_go(children)
        _assert_agree([child.hear() for child in children])

    @needs(Capability.LEASES)
    def test_jobs_of_a_killed_worker_come_back(self, bench: QueueBench) -> None:
        """The jobs of a killed worker come back; those that had started are charged, no others."""
        queue = bench.open(real_time=True, lease_secs=_SHORT_LEASE_SECS)
        jobs = [bench.put().id for _ in range(4)]
        charges = {job.id: job.deliveries for job in _killed_with(bench, 4, started=2)}
        unstarted = 0 if bench.has_start_marks else 1
        assert [charges[job_id] for job_id in jobs] == [1, 1, unstarted, unstarted]
        again = bench.claimed(9, suspects=1) + bench.claimed(9, C)
        assert set(jobs) == set(again)
        assert queue.qsize() == 0

    @needs(Capability.LEASES)
    def test_a_killed_worker_is_not_alive(self, bench: QueueBench) -> None:
        """A worker whose process was killed is not shown as alive for longer than its lease."""
        queue = bench.open(real_time=True, lease_secs=_SHORT_LEASE_SECS)
        child = bench.child(actions.stay, owner=A)
        child.start()
        child.expect(A)
        assert [(one.id, one.state) for one in queue.workers()] == [(A, "alive")]
        child.kill()
        bench.wait_until(
            lambda: all(one.state == "silent" for one in queue.workers()),
            "a killed worker is shown as silent or not at all",
        )

    @needs(Capability.LEASES)
    def test_a_settled_job_survives_a_kill(self, bench: QueueBench) -> None:
        """What was settled when a process is killed stays settled."""
        queue = bench.open(real_time=True, lease_secs=_SHORT_LEASE_SECS)
        job = bench.put()
        child = bench.child(actions.settle_one, owner=A)
        child.start()
        child.expect([job.id, [True]])
        child.kill()
        bench.end_leases()
        assert queue.reap() == queue.claim(1, B) == []

    def test_accepted_jobs_survive_a_kill(self, bench: QueueBench) -> None:
        """Every job whose ``enqueue`` had returned is there after its process was killed."""
        bench.open(real_time=True)
        child = bench.child(actions.produce, most=100_000)
        child.start()
        accepted = [child.hear() for _ in range(30)]
        child.kill()
        accepted += child.rest()
        present: set[str] = set()
        for _ in accepted:  # bounded, for a queue that never gets empty
            present.update(bench.popped(500))
        assert set(accepted) <= present

    @needs(Capability.BULK)
    def test_a_bulk_survives_a_kill_whole_or_not_at_all(self, bench: QueueBench) -> None:
        """A bulk whose process is killed meanwhile is stored whole or not at all."""
        queue, size = bench.open(real_time=True), 70
        child = bench.child(actions.produce_bulks, most=10_000, size=size)
        child.start()
        accepted = sum(child.hear() for _ in range(3))
        child.kill()
        accepted += sum(child.rest())
        assert queue.qsize() >= accepted
        assert queue.qsize() % size == 0


def _assert_wakes(bench: QueueBench, event: Callable[[], object]) -> None:
    """Hold that ``event`` ends a wait that would last ten minutes."""
    queue, sleeps = bench.queue, Event()

    def nothing_yet() -> bool:
        sleeps.set()
        return False

    hand = Hand(lambda: queue.wait_for_work(_LONG_SECS, nothing_yet))
    hand.start()
    assert sleeps.wait(bench.patience_secs), "wait_for_work does not call recheck"
    event()
    try:
        hand.finish(bench.patience_secs)
    finally:
        queue.interrupt()


def _race_for_one(bench: QueueBench, job: JobRecord) -> tuple[list[bool], list[str]]:
    """Let two settle and two reap one job whose lease is over; return what each got."""
    queue = bench.queue
    accepted: list[bool] = []
    reaped: list[str] = []

    def race(number: int) -> None:
        if number % 2:
            reaped.extend(one.id for one in queue.reap())
        else:
            accepted.extend(queue.settle([make_settlement(job)]))

    all_at_once(race, threads=4, limit_secs=2 * bench.patience_secs)
    return accepted, reaped


def _killed_with(bench: QueueBench, jobs: int, *, started: int) -> list[JobRecord]:
    """Kill a worker that holds jobs; return them as ``reap`` takes them back."""
    child = bench.child(actions.hold, owner=A, jobs=jobs, started=started)
    child.start()
    assert len(child.hear()) == jobs
    child.kill()
    reaped: list[JobRecord] = []

    def all_back() -> bool:
        reaped.extend(bench.queue.reap())
        return len(reaped) >= jobs

    bench.wait_until(all_back, "reap takes back the jobs of a killed worker")
    return reaped


def _let_go(children: list[KitChild]) -> None:
    for child in children:
        child.expect("ready")
    for child in children:
        child.go()


def _assert_agree(answers: Iterable[tuple[str, str | None]]) -> None:
    """Look at what racers for a key were told: one stored its job, the others know it."""
    stored = {job_id for job_id, existing in answers if existing is None}
    assert len(stored) == 1
    assert {existing for _, existing in answers} - {None} == stored


def _assert_each_once(expected: list[str], got: list[str]) -> None:
    twice = [job_id for job_id, count in Counter(got).items() if count > 1]
    assert twice == [], f"{len(twice)} of {len(expected)} jobs were handed out twice"
    assert set(expected) == set(got), "jobs were lost, or came from nowhere"
