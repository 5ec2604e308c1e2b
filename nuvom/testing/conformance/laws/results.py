"""All laws of a result backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from unittest import SkipTest

import pytest

from nuvom.core.ids import new_id
from nuvom.core.record import JobStatus, StoredError
from nuvom.errors import NotStorable, NuvomError
from nuvom.result_backends.base import BaseResultBackend
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.conformance.law import Hand, Kit, all_at_once
from nuvom.testing.conformance.laws.values import STORABLE, escaping, same, stray_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nuvom.core.record import JobRecord
    from nuvom.queue_backends.leased import LeasedJobQueue

FULL_KEYS = (
    "id", "func_name", "status", "queue", "priority", "attempt", "max_retries", "args", "kwargs",
    "result", "error", "created_at", "run_at", "started_at", "finished_at", "worker", "tags",
    "metadata",
)  # fmt: skip


class ResultBench:
    """One result backend under test.

    Attributes:
        backend: Made for this law, with an empty store.
        folder: Empty, of this law alone.
        patience_secs: How long to wait for what takes no time.
    """

    def __init__(self, kit: ResultConformance, folder: Path) -> None:
        self._kit = kit
        self.folder = folder
        self.patience_secs = kit.patience_secs
        self._opened: list[BaseResultBackend] = []
        self.backend = self.open()

    def open(self) -> BaseResultBackend:
        """Return another backend, with an empty store of its own."""
        store = self.folder / f"store{len(self._opened)}"
        store.mkdir()
        self._opened.append(self._kit.make(store))
        return self._opened[-1]

    def reopen(self) -> BaseResultBackend:
        """Return a second backend on the store of ``backend``. Skips where there can be none."""
        other = self._kit.reopen(self.backend)
        if other is None:
            raise SkipTest("the store is not shared between instances")
        self._opened.append(other)
        return other

    def joined(self) -> LeasedJobQueue:
        """Return a queue that settles into the backend's store. Skips where there is none."""
        queue = self._kit.queue_beside(self.backend)
        if queue is None:
            raise SkipTest("there is no queue whose store it joins")
        assert self.backend.joins(queue) is True
        return queue

    def keep(self, value: object, job_id: str = "") -> str:
        """Keep a result; return its job's id."""
        job_id = job_id or new_id()
        assert self.backend.set_result(job_id, value) is True
        return job_id

    def fail(self, job: JobRecord) -> bool:
        """Keep an error of a delivery; return whether it was accepted."""
        return self.backend.set_error(job.id, "no", record=job)

    def error(self, job_id: str) -> StoredError:
        """Return the error of a job that has to have one."""
        error = self.backend.get_error(job_id)
        assert error is not None
        return error

    def full(self, job_id: str) -> dict[str, Any]:
        """Return ``get_full`` of a job that has to be there."""
        full = self.backend.get_full(job_id)
        assert full is not None
        return full

    def close(self) -> None:
        """Stop everything."""
        for backend in self._opened:
            backend.stop()


class ResultConformance(Kit):
    """The laws of a result backend; subclass it in a test module and write ``make``."""

    contract: ClassVar[str] = "result_backend"

    def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
        """Return a backend with an empty store of its own, below ``tmp_path`` if it has files."""
        raise NotImplementedError

    def reopen(self, backend: BaseResultBackend) -> BaseResultBackend | None:
        """Return a second backend on the same store, None where there can be none."""
        del backend
        return None

    def queue_beside(self, backend: BaseResultBackend) -> LeasedJobQueue | None:
        """Return a queue whose store ``backend`` can join, None where there is none."""
        del backend
        return None

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[ResultBench]:
        """Give a law a backend of its own."""
        bench = ResultBench(self, tmp_path)
        try:
            yield bench
        finally:
            bench.close()

    # ---- results and errors ---------------------------------------------------------------

    def test_nothing_is_known_of_an_unknown_job(self, bench: ResultBench) -> None:
        """Of an unknown id everything is None, and asking is no error."""
        one, unknown = bench.backend, new_id()
        known = (one.get_result(unknown), one.get_error(unknown), one.get_full(unknown))
        assert known == (None, None, None)
        assert one.list_jobs() == []

    def test_every_storable_value_comes_back(self, bench: ResultBench) -> None:
        """``set_result`` keeps a value of any storable type, large ones too; the job is SUCCESS."""
        for value in (*STORABLE, bytes(range(256)) * (3 << 12)):
            result = bench.backend.get_result(bench.keep(value))
            assert same(result, value)

    def test_a_kept_value_does_not_change(self, bench: ResultBench) -> None:
        """Changing a value after it was kept, or after it was read, changes nothing."""
        value = {"n": [1]}
        job_id = bench.keep(value)
        value["n"].append(2)
        bench.backend.get_result(job_id)["n"].append(3)
        assert bench.backend.get_result(job_id) == {"n": [1]}

    def test_what_cannot_be_stored_is_refused(self, bench: ResultBench) -> None:
        """``set_result`` raises NotStorable for a value of another type, and keeps nothing."""
        job_id = new_id()
        with pytest.raises(NotStorable):
            bench.backend.set_result(job_id, {"n": object()})
        assert bench.backend.get_full(job_id) is None

    def test_an_error_is_kept(self, bench: ResultBench) -> None:
        """``set_error`` keeps type, text, traceback and status of an error, exception or text."""
        error = StoredError("KeyError", "'naïve'", "Traceback ...\nKeyError")
        described = {"type": error.type, "message": error.message, "traceback": error.traceback}
        for status in (JobStatus.FAILED, JobStatus.DEAD, JobStatus.CANCELLED):
            job_id = new_id()
            assert bench.backend.set_error(job_id, error, status=status) is True
            got, full = bench.error(job_id), bench.full(job_id)
            assert (got.type, got.message, got.traceback) == tuple(described.values())
            assert (full["error"], full["status"], full["result"]) == (described, status, None)
        bench.backend.set_error(job_id, KeyError("x"))
        assert (bench.error(job_id).type, bench.error(job_id).message) == ("KeyError", "'x'")
        bench.backend.set_error(job_id, "out of paper")
        assert bench.error(job_id).message == "out of paper"
        assert bench.full(job_id)["status"] == JobStatus.FAILED

    # ---- the epoch ------------------------------------------------------------------------

    def test_a_late_outcome_is_refused(self, bench: ResultBench) -> None:
        """A second outcome of a delivery, or one of an earlier delivery, changes nothing."""
        job, one = _claimed(epoch=2), bench.backend
        assert one.set_result(job.id, "current", record=job)
        for late in (job, job.replace(lease_epoch=1)):
            assert (one.set_result(job.id, "late", record=late), bench.fail(late)) == (False, False)
        assert (one.get_result(job.id), one.get_error(job.id)) == ("current", None)

    def test_a_later_delivery_replaces_the_outcome(self, bench: ResultBench) -> None:
        """The outcome of a later delivery takes the place of an earlier one, all of it."""
        job, one = _claimed(epoch=1), bench.backend
        assert bench.fail(job)
        assert one.set_result(job.id, "well", record=job.replace(lease_epoch=3))
        assert (one.get_result(job.id), one.get_error(job.id)) == ("well", None)
        assert bench.full(job.id)["status"] == JobStatus.SUCCESS
        assert bench.fail(job.replace(lease_epoch=4))
        assert one.get_result(job.id) is None
        bench.keep("without a record, whatever was there", job.id)
        assert one.get_error(job.id) is None

    # ---- everything that is kept ----------------------------------------------------------

    def test_the_full_form_has_all_keys(self, bench: ResultBench) -> None:
        """``get_full`` has exactly the promised keys: the record's fields in plain form."""
        assert set(bench.full(bench.keep(1))) == set(FULL_KEYS)
        job = _claimed(priority=3, queue="mail", tags=("a",), metadata={"n": 1}, max_retries=2)
        bench.backend.set_result(job.id, "done", record=job)
        full = bench.full(job.id)
        assert set(full) == set(FULL_KEYS)
        assert full["finished_at"] is not None
        lists = {name: list(full.pop(name)) for name in ("args", "tags")}
        assert lists == {"args": [1, "two"], "tags": ["a"]}
        plain = ("id", "func_name", "queue", "priority", "attempt", "max_retries", "created_at")
        expected = {name: getattr(job, name) for name in (*plain, "metadata")}
        expected |= {"status": JobStatus.SUCCESS, "kwargs": {"to": "me"}, "result": "done"}
        assert expected == {name: full[name] for name in expected}

    def test_jobs_are_listed_newest_first(self, bench: ResultBench) -> None:
        """``list_jobs`` gives ``get_full`` of every job, newest first."""
        jobs = [_claimed(created_at=1000.0 + number) for number in range(4)]
        for job in jobs:
            bench.backend.set_record(job)
            bench.backend.set_result(job.id, 1, record=job)
        assert bench.backend.list_jobs() == [bench.full(job.id) for job in jobs[::-1]]

    def test_a_record_comes_before_its_outcome(self, bench: ResultBench) -> None:
        """``set_record`` shows a job's status until it has an outcome, which it never touches."""
        job, one = _claimed(), bench.backend
        for status in (JobStatus.PENDING, JobStatus.RUNNING):
            one.set_record(job.replace(status=status))
            if type(one).set_record is not BaseResultBackend.set_record:
                assert bench.full(job.id)["status"] == status
        assert one.get_result(job.id) is None
        assert one.set_result(job.id, "done", record=job)
        one.set_record(job.replace(status=JobStatus.PENDING))
        assert bench.full(job.id)["status"] == JobStatus.SUCCESS
        assert one.get_result(job.id) == "done"

    def test_what_is_forgotten_is_gone(self, bench: ResultBench) -> None:
        """``forget`` removes what is kept of one job, and tells whether there was something."""
        if type(bench.backend).forget is BaseResultBackend.forget:
            raise SkipTest("forget is not implemented")
        job, other = _claimed(), bench.keep(2)
        bench.backend.set_result(job.id, 1, record=job)
        assert [bench.backend.forget(job.id) for _ in range(2)] == [True, False]
        assert bench.backend.get_full(job.id) is None
        assert bench.backend.get_result(other) == 2
        assert bench.backend.set_result(job.id, 3, record=job)

    # ---- the rest -------------------------------------------------------------------------

    def test_threads_keep_one_outcome_each(self, bench: ResultBench) -> None:
        """Of threads that report on one delivery one is accepted; on others all are."""
        shared, own = _claimed(), [_claimed() for _ in range(8)]
        accepted: list[int] = []

        def report(number: int) -> None:
            if bench.backend.set_result(shared.id, number, record=shared):
                accepted.append(number)
            bench.backend.set_result(own[number].id, number, record=own[number])

        all_at_once(report, threads=8, limit_secs=bench.patience_secs)
        assert [bench.backend.get_result(shared.id)] == accepted
        assert [bench.backend.get_result(job.id) for job in own] == list(range(8))

    def test_a_waiter_wakes(self, bench: ResultBench) -> None:
        """What ``waiter`` gives, if anything, is set when a result came, and wakes who waits."""
        for comes_first in (True, False):
            with bench.backend.waiter() as waiter:
                if waiter is None:
                    return
                if comes_first:
                    bench.keep(1)
                hand = Hand(lambda: waiter.wait(20 * bench.patience_secs))  # ends here
                hand.start()
                if not comes_first:
                    hand.join(0.05)  # let it begin to wait; the law holds whether it does or not
                    bench.keep(1)
                hand.finish(bench.patience_secs)

    def test_results_outlive_the_instance(self, bench: ResultBench) -> None:
        """What is kept is there when the instance that kept it has stopped."""
        job = _claimed()
        bench.backend.set_result(job.id, {"n": 1}, record=job)
        bench.backend.stop()
        other = bench.reopen()
        assert other.get_result(job.id) == {"n": 1}
        assert other.set_result(job.id, 2, record=job) is False

    def test_starting_and_stopping_is_harmless(self, bench: ResultBench) -> None:
        """``stop`` before ``start``, ``start`` twice and ``stop`` twice raise nothing."""
        bench.backend.stop()
        other = bench.open()
        other.start()
        other.start()
        other.set_result(new_id(), 1)
        other.stop()
        other.stop()

    def test_hostile_ids_stay_inside(self, bench: ResultBench) -> None:
        """Whatever an id is called, nothing appears outside the store's own folder."""
        token = new_id()
        for job_id in escaping(bench.folder, token):
            try:
                bench.keep(1, job_id)
            except NuvomError:  # refusing is as good as keeping it inside
                continue
            assert bench.backend.get_result(job_id) == 1
        assert stray_files(bench.folder, token) == []

    # ---- beside a queue whose store it joins ----------------------------------------------

    def test_what_a_joined_queue_settles_can_be_read(self, bench: ResultBench) -> None:
        """After ``joins`` what the queue accepts is read here, and nothing that it refuses."""
        queue = bench.joined()
        for _ in range(3):
            queue.enqueue(make_job())
        success, failure, refused = queue.claim(3, "worker-a")
        queue.release([refused])
        error = StoredError("KeyError", "'x'", "Traceback ...")
        queue.settle([make_settlement(success, value={"n": (1,)})])
        queue.settle([make_settlement(failure, JobStatus.FAILED, error=error)])
        queue.settle([make_settlement(refused, value="late")])
        queue.stop()
        one = bench.backend
        assert [one.get_result(job.id) for job in (success, refused)] == [{"n": (1,)}, None]
        kept = bench.error(failure.id)
        assert (kept.type, kept.message) == ("KeyError", "'x'")
        statuses = [bench.full(job.id)["status"] for job in (success, failure)]
        assert statuses == ["SUCCESS", "FAILED"]

    def test_a_joined_queue_wakes_waiters(self, bench: ResultBench) -> None:
        """What ``waiter`` gives is set once the queue settled a job."""
        queue = bench.joined()
        queue.enqueue(make_job())
        with bench.backend.waiter() as waiter:
            if waiter is not None:
                queue.settle([make_settlement(job) for job in queue.claim(1, "worker-a")])
                Hand(lambda: waiter.wait(20 * bench.patience_secs)).end(bench.patience_secs)
        queue.stop()


def _claimed(*, epoch: int = 1, **fields: Any) -> JobRecord:
    given = {"status": JobStatus.RUNNING, "attempt": 1, "deliveries": 1, "lease_epoch": epoch}
    return make_job("shop.send", 1, "two", kwargs={"to": "me"}, **{**given, **fields})
