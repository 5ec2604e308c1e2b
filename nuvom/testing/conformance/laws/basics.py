"""What every queue does: the five methods, and the order and admission of jobs."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

import pytest

from nuvom.core.ids import new_id, valid_name
from nuvom.core.record import JobRecord, JobStatus, RetryPolicy
from nuvom.errors import InvalidId, QueueFull
from nuvom.queue_backends.base import BaseJobQueue, Capability
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.testing.conformance.law import needs
from nuvom.testing.conformance.laws.bench import A, B, QueueKit
from nuvom.testing.conformance.laws.values import HOSTILE, escaping, stray_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.testing.conformance.laws.bench import QueueBench

PENDING = JobStatus.PENDING
OF_LEASED_QUEUES = {Capability.LEASES, Capability.INSPECTION, Capability.CONTROL}
# What a delivery changes, and the backend's own handle; all else comes back as it was given.
_CHANGED = {"status", "attempt", "deliveries", "lease_epoch", "ref"}


class Honesty(QueueKit):
    """A backend declares what it can do: no more and no less."""

    def test_capabilities_are_known_ones(self, bench: QueueBench) -> None:
        """``capabilities`` is a frozenset of ``Capability``; ``name`` can be used in settings."""
        queue = bench.queue
        assert isinstance(queue.capabilities, frozenset)
        assert all(isinstance(one, Capability) for one in queue.capabilities)
        assert isinstance(queue.name, str)
        assert not queue.name or valid_name("backend", queue.name)

    def test_declared_methods_are_there(self, bench: QueueBench) -> None:
        """What is declared is there, and what is there is declared: else it would not be used."""
        queue = bench.open(real_time=True)
        declared = queue.capabilities & OF_LEASED_QUEUES
        expected = OF_LEASED_QUEUES if isinstance(queue, LeasedJobQueue) else set()
        assert declared == expected, "a queue with leases derives from LeasedJobQueue"
        waits = type(queue).wait_for_work is not BaseJobQueue.wait_for_work
        assert waits == bench.can(Capability.WAKE_UP)
        if bench.can(Capability.WAKE_UP):
            queue.wait_for_work(0.0)
        if bench.can(Capability.TOTALS):
            queue.keep_totals()


class FiveMethods(QueueKit):
    """What every queue does, also one with nothing but the five methods."""

    def test_a_job_is_handed_out_once(self, bench: QueueBench) -> None:
        """A job that was enqueued is handed out, and not again as long as all goes well."""
        job, queue = bench.put(), bench.queue
        assert [job.id] == [one and one.id for one in [queue.dequeue()]]
        assert queue.dequeue() is None

    def test_a_job_comes_back_as_it_was_given(self, bench: QueueBench) -> None:
        """All that a job's record says survives the queue, but for what a delivery changes."""
        job = bench.put(
            "shop.orders.send",
            "naïve \N{SNOWMAN}",
            bytes(range(256)) * 4096,  # a mebibyte
            kwargs={"n": 2**63, "deep": [{"a": (1, None)}]},
            queue="mail-1",
            priority=-3,
            max_retries=4,
            retry=RetryPolicy(1.5, "linear", 60.0, jitter=False),
            timeout_secs=2.5,
            timeout_policy="retry",
            store_result=False,
            result_ttl_secs=60.0,
            tags=("a", "b"),
            metadata={"who": "me", "n": [1, 2]},
            headers={"traceparent": "00-1-2-03"},
            retried_from="earlier-1",
        )
        assert_same(job, bench.queue.dequeue(), without=_CHANGED)

    def test_an_empty_queue_gives_none(self, bench: QueueBench) -> None:
        """``dequeue`` of an empty queue gives None: at once, or when its timeout is over."""
        queue = bench.open(real_time=True)
        assert [queue.dequeue(timeout) for timeout in (None, 0, 0.0, 0.05)] == [None] * 4
        assert queue.pop_batch(5) == []

    def test_dequeue_waits_for_a_job(self, bench: QueueBench) -> None:
        """A job that arrives while ``dequeue`` waits is handed out."""
        queue = bench.open(real_time=True)
        handed: list[JobRecord | None] = []
        longer = bench.patience_secs * 2
        thread = Thread(target=lambda: handed.append(queue.dequeue(longer)), daemon=True)
        thread.start()
        thread.join(0.05)  # let it begin to wait; the law holds whether it does or not
        job = bench.put()
        thread.join(bench.patience_secs)
        assert not thread.is_alive(), "dequeue still waits after enqueue"
        assert [job.id] == [one and one.id for one in handed]

    def test_a_batch_is_no_larger_than_asked_for(self, bench: QueueBench) -> None:
        """``pop_batch`` gives at most as many jobs as asked for, and those that there are."""
        jobs = {bench.put().id for _ in range(5)}
        first, rest = bench.popped(3), bench.popped(10)
        assert len(first) == 3
        assert sorted(jobs) == sorted(first + rest)

    def test_the_size_counts_what_waits(self, bench: QueueBench) -> None:
        """``qsize`` is the number of jobs that wait; after ``clear`` there are none."""
        queue = bench.queue
        sizes = [queue.qsize()]
        for name in ("default", "other", "other"):
            bench.put(queue=name)
        sizes.append(queue.qsize())
        queue.dequeue()
        sizes.append(queue.qsize())
        queue.clear()
        assert [*sizes, queue.qsize()] == [0, 3, 2, 0]
        assert queue.dequeue() is None
        assert [bench.put().id] == bench.popped()

    def test_enqueueing_twice_is_once(self, bench: QueueBench) -> None:
        """A waiting job that is enqueued again with the same id is there once."""
        job = bench.put()
        assert bench.queue.enqueue(job) is None
        assert bench.queue.qsize() == 1
        assert [job.id] == bench.popped()

    def test_many_are_enqueued_in_one_call(self, bench: QueueBench) -> None:
        """``enqueue_many`` takes any iterable, stores all its jobs and refuses none."""
        jobs = [bench.job() for _ in range(50)]
        assert bench.queue.enqueue_many(iter(jobs)) == {}
        assert bench.queue.enqueue_many([]) == {}
        assert sorted(job.id for job in jobs) == sorted(bench.popped())

    def test_starting_and_stopping_is_harmless(self, bench: QueueBench) -> None:
        """``stop`` before ``start``, and each of the two twice, raise nothing; nor does notify."""
        bench.open().stop()
        queue = bench.open()
        for call in (queue.start, queue.start, queue.notify, queue.interrupt):
            call()
        assert queue.qsize() == 0, "notify() made a job"
        bench.put()
        queue.stop()
        queue.stop()

    def test_hostile_names_stay_inside(self, bench: QueueBench) -> None:
        """Whatever an id or a queue is called, nothing appears outside the store's own folder."""
        queue, token = bench.queue, new_id()
        for name in escaping(bench.folder, token):
            for field in ("id", "queue"):
                try:
                    queue.enqueue(bench.job(**{field: name}))
                except InvalidId:  # refusing is as good as keeping it inside
                    continue
        bench.popped()
        assert stray_files(bench.folder, token) == []


@needs(Capability.BULK)
class Bulk(QueueKit):
    """Enqueueing many jobs at once: all or nothing."""

    def test_a_bulk_that_breaks_off_stores_nothing(self, bench: QueueBench) -> None:
        """Where the iterable raises, or one job is refused for its name, none is stored."""

        def broken() -> Iterator[JobRecord]:
            for _ in range(2500):  # more than a backend may handle at a time
                yield bench.job()
            raise _BrokenOffError

        with pytest.raises(_BrokenOffError):
            bench.queue.enqueue_many(broken())
        with pytest.raises(InvalidId):
            bench.queue.enqueue_many([bench.job(), bench.job(queue="no/slash"), bench.job()])
        assert bench.queue.qsize() == 0
        assert bench.popped() == []

    def test_a_bulk_that_does_not_fit_stores_nothing(self, bench: QueueBench) -> None:
        """A bulk beyond ``max_queue_size`` raises QueueFull, and none of its jobs is stored."""
        queue = bench.open(max_queue_size=3)
        bench.put()
        with pytest.raises(QueueFull):
            queue.enqueue_many([bench.job() for _ in range(3)])
        assert queue.qsize() == 1
        queue.enqueue_many([bench.job() for _ in range(2)])
        assert queue.qsize() == 3

    def test_a_bulk_with_known_ids_stores_the_others(self, bench: QueueBench) -> None:
        """Ids that are stored, or twice in a bulk, are there once; the others are stored."""
        known, fresh = bench.put(), bench.job()
        assert bench.queue.enqueue_many([known, fresh, fresh]) == {}
        assert sorted([known.id, fresh.id]) == sorted(bench.popped())

    @needs(Capability.UNIQUE)
    def test_a_bulk_tells_which_keys_were_taken(self, bench: QueueBench) -> None:
        """``enqueue_many`` stores what it can and returns, for each taken key, who has it."""
        holder = bench.put(unique_key="a")
        taken, free = bench.job(unique_key="a"), bench.job()
        first, second = bench.job(unique_key="b"), bench.job(unique_key="b")
        refused = bench.queue.enqueue_many([taken, free, first, second])
        assert refused == {taken.id: holder.id, second.id: first.id}
        assert {holder.id, free.id, first.id} == set(bench.popped())


@needs(Capability.PRIORITY)
class Order(QueueKit):
    """Which job comes first: priorities, then the order of enqueueing."""

    def test_the_lower_priority_number_comes_first(self, bench: QueueBench) -> None:
        """Of the jobs that wait in a queue the one with the lowest priority number is next."""
        jobs = {number: bench.put(priority=number).id for number in (5, 9, -2, 0, 100, -100, 1)}
        handed = bench.popped(3) + bench.popped(3)
        jobs[-200] = bench.put(priority=-200).id  # a late one overtakes all that waits
        handed.insert(0, *bench.popped(1))
        assert handed + bench.popped() == [jobs[number] for number in sorted(jobs)]

    def test_equal_priorities_come_in_the_order_of_enqueueing(self, bench: QueueBench) -> None:
        """Jobs of one queue and priority come in the order in which they were enqueued."""
        jobs = [bench.put() for _ in range(5)]
        jobs += [bench.job() for _ in range(5)]
        bench.queue.enqueue_many(jobs[5:])
        jobs.append(bench.put())
        assert [job.id for job in jobs] == bench.popped(7) + bench.popped(7)

    @needs(Capability.LEASES)
    def test_a_released_job_keeps_its_place(self, bench: QueueBench) -> None:
        """A job that was given back comes before those that were enqueued after it."""
        jobs = [bench.put().id for _ in range(3)]
        bench.queue.release(bench.queue.claim(2, A))
        assert jobs == bench.claimed(3)

    @needs(Capability.LEASES)
    def test_queues_are_served_in_order_of_preference(self, bench: QueueBench) -> None:
        """A claim that names queues takes from the first as long as there is something."""
        jobs = {name: bench.put(queue=name).id for name in ("low", "mid", "high")}
        order = ["high", "mid", "low"]
        assert [bench.claim(queues=order).id for _ in jobs] == [jobs[name] for name in order]


@needs(Capability.SCHEDULED)
class Scheduled(QueueKit):
    """Jobs with a ``run_at``: not before, and not forgotten."""

    def test_a_job_is_not_handed_out_before_its_time(self, bench: QueueBench) -> None:
        """A job whose ``run_at`` lies ahead waits, is handed out once it is due, and cleared."""
        queue = bench.queue
        job = bench.put(run_at=bench.after(bench.soon_secs))
        bench.put(run_at=bench.after(3600.0))
        assert queue.dequeue() is None
        assert queue.qsize() == 2, "a job that is not due waits, too"
        bench.pass_soon()
        past = bench.put(run_at=bench.after(-5.0))
        assert sorted([job.id, past.id]) == sorted(bench.popped())
        queue.clear()
        assert queue.qsize() == 0

    def test_a_job_that_is_not_due_holds_nobody_up(self, bench: QueueBench) -> None:
        """Jobs that are due come although others before them in the order are not."""
        bench.put(priority=0, run_at=bench.after(3600.0))
        assert [bench.put(priority=9).id] == bench.popped()

    @needs(Capability.PRIORITY)
    def test_due_jobs_come_in_the_order_of_enqueueing(self, bench: QueueBench) -> None:
        """Once due, a job's place is that of its enqueueing, not that of its ``run_at``."""
        jobs = [bench.put(run_at=bench.after(bench.soon_secs)).id, bench.put().id]
        bench.pass_soon()
        assert jobs == bench.popped()

    def test_dequeue_waits_for_a_job_to_become_due(self, bench: QueueBench) -> None:
        """``dequeue`` with a timeout gives a job that becomes due meanwhile."""
        queue = bench.open(real_time=True)
        job = bench.put(run_at=bench.after(0.2))
        assert [job.id] == [one and one.id for one in [queue.dequeue(bench.patience_secs)]]

    @needs(Capability.LEASES)
    def test_the_next_due_time_is_known(self, bench: QueueBench) -> None:
        """``next_due_secs`` tells how long it is until the first scheduled job, else None."""
        bench.put()
        assert bench.queue.next_due_secs() is None
        for secs in (500.0, 100.0, 300.0):
            bench.put(run_at=bench.after(secs))
        assert 90.0 < (bench.queue.next_due_secs() or 0.0) <= 100.0

    @needs(Capability.LEASES)
    def test_a_retry_waits_until_its_time(self, bench: QueueBench) -> None:
        """A job that is settled PENDING comes again at the settlement's ``run_at``, with it."""
        job = bench.put_and_claim(run_at=bench.after(-5.0))
        due_at = bench.after(bench.soon_secs)
        bench.settle(job, PENDING, run_at=due_at)
        assert bench.claimed() == []
        bench.pass_soon()
        again = bench.claim(B)
        assert (again.id, again.run_at) == (job.id, due_at)


@needs(Capability.UNIQUE)
class Unique(QueueKit):
    """Idempotent enqueueing: one live job for a task and a key."""

    def test_a_taken_key_gives_the_job_that_has_it(self, bench: QueueBench) -> None:
        """``enqueue`` with a key that a live job has stores nothing and tells that job's id."""
        job = bench.put(unique_key="once")
        _assert_taken(bench, job)
        assert bench.queue.enqueue(job) in (None, job.id), "repeated after a lost reply"
        assert bench.queue.qsize() == 1
        bench.queue.clear()
        assert [bench.put(unique_key="once").id] == bench.popped(), "its job was removed"

    def test_a_key_belongs_to_one_task(self, bench: QueueBench) -> None:
        """Keys are compared exactly, none is special, and another task's are others."""
        keys = [None, "a", "A", "a ", "a%", "a_", "", "../a", "a/b", "ä", "'; --", "x" * 1000]
        for task in ("shop.a", "shop.b"):
            for key in keys:
                bench.put(task, unique_key=key)
        answers = [bench.queue.enqueue(bench.job("shop.a", unique_key=key)) for key in keys[1:]]
        assert None not in answers

    @needs(Capability.LEASES)
    def test_a_key_is_taken_until_a_final_status(self, bench: QueueBench) -> None:
        """A key stays taken while its job runs, waits for a retry or is parked; then it is free."""
        for final in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELLED):
            job = bench.put_and_claim(unique_key="once")
            for status in (PENDING, JobStatus.PARKED, final):
                _assert_taken(bench, job)
                bench.settle(job, status)
                if status is not final:
                    _assert_taken(bench, job)
                    bench.queue.unpark([job.func_name])
                    job = bench.claim()
        bench.open(max_deliveries=1)
        bench.start(unique_key="once")
        assert bench.lose_worker().status is JobStatus.DEAD
        bench.put(unique_key="once")

    @needs(Capability.LEASES)
    def test_a_key_can_stay_taken_for_a_time(self, bench: QueueBench) -> None:
        """With ``unique_for`` a key stays taken for so many seconds, and while its job lives."""
        job = bench.put(unique_key="once", unique_for=bench.soon_secs * 2.0)
        bench.pass_soon()
        bench.settle(bench.claim())
        _assert_taken(bench, job)
        bench.pass_soon()
        job = bench.put(unique_key="once", unique_for=bench.soon_secs)
        bench.pass_soon()
        _assert_taken(bench, job)

    @needs(Capability.CONTROL, Capability.INSPECTION)
    def test_a_retry_does_not_double_a_key(self, bench: QueueBench) -> None:
        """A job that is retried by hand has its key again, unless somebody took it meanwhile."""
        first = bench.put_and_claim(unique_key="once")
        bench.settle(first, JobStatus.FAILED)
        bench.queue.retry(first.id)
        _assert_taken(bench, first)
        bench.settle(bench.claim(), JobStatus.FAILED)
        second = bench.put(unique_key="once")
        bench.queue.retry(first.id)
        assert (bench.status(first), bench.status(second)) == (JobStatus.FAILED, PENDING)

    @needs(Capability.LEASES)
    def test_children_obey_unique_keys(self, bench: QueueBench) -> None:
        """A child whose key is taken is left out; a job that ends frees its own for its child."""
        bench.put(unique_key="once", priority=9)
        parent = bench.put_and_claim(priority=1)
        child = bench.job(unique_key="once")
        assert bench.settle(parent, children=(child,))
        assert child.id not in bench.claimed(5)
        parent = bench.put_and_claim(unique_key="twice")
        child = bench.job(unique_key="twice")
        assert bench.settle(parent, children=(child,))
        _assert_taken(bench, child)


@needs(Capability.LEASES)
class LimitsLaws(QueueKit):
    """How much a queue takes, and which names; what is refused is refused as a whole."""

    def test_a_full_queue_says_so(self, bench: QueueBench) -> None:
        """With ``max_queue_size`` jobs waiting in a queue ``enqueue`` raises and stores nothing."""
        queue = bench.open(max_queue_size=2)
        jobs = [bench.put(unique_key="once"), bench.put()]
        with pytest.raises(QueueFull):
            queue.enqueue(bench.job())
        assert queue.enqueue(jobs[0]) in (None, jobs[0].id), "a stored id is answered as ever"
        if bench.can(Capability.UNIQUE):
            _assert_taken(bench, jobs[0])
        assert queue.qsize() == 2
        bench.put(queue="another")

    def test_running_jobs_make_room(self, bench: QueueBench) -> None:
        """What runs does not count; given back, tried again or as a child it is never refused."""
        queue = bench.open(max_queue_size=1)
        job = bench.put_and_claim()
        bench.put()
        assert queue.release([job]) == [True]
        assert bench.settle(bench.claim(), PENDING)
        assert queue.qsize() == 2
        assert bench.settle(bench.claim(), children=(bench.job(), bench.job()))
        assert queue.qsize() == 3

    def test_bad_queue_names_are_refused(self, bench: QueueBench) -> None:
        """``enqueue`` raises InvalidId for a queue name or id that is none, and stores nothing."""
        for name in HOSTILE:
            for field in ("queue", "id"):
                with pytest.raises(InvalidId):
                    bench.put(**{field: name})
        assert bench.queue.qsize() == 0

    def test_hostile_texts_elsewhere_are_just_text(self, bench: QueueBench) -> None:
        """Task names and tags may be any text; they come back as they were."""
        for text in HOSTILE:
            bench.put(text, tags=(text,), metadata={text: text})
        handed = sorted((job.func_name, job.tags) for job in bench.queue.pop_batch(len(HOSTILE)))
        assert handed == sorted((text, (text,)) for text in HOSTILE)


def assert_same(given: JobRecord, got: JobRecord | None, *, without: set[str]) -> None:
    """Compare two records, but for some fields."""
    assert got is not None
    for field in set(JobRecord.__struct_fields__) - without:
        ours, theirs = getattr(given, field), getattr(got, field)
        is_raw = field in ("args", "kwargs")
        assert (bytes(ours) == bytes(theirs)) if is_raw else (ours == theirs), field


class _BrokenOffError(Exception):
    """What an iterable of jobs raises half-way."""


def _assert_taken(bench: QueueBench, holder: JobRecord) -> None:
    again = bench.job(unique_key=holder.unique_key)
    assert bench.queue.enqueue(again) == holder.id, "the key is not its job's"
