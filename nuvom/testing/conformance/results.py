"""All laws of a result backend."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import SkipTest

from nuvom.core.ids import new_id
from nuvom.core.record import JobStatus, StoredError
from nuvom.errors import NotStorable, NuvomError
from nuvom.result_backends.base import BaseResultBackend
from nuvom.testing.builders import make_job
from nuvom.testing.conformance.crew import Hand, all_at_once
from nuvom.testing.conformance.joined import Joined
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.result_bench import ResultBench
from nuvom.testing.conformance.values import STORABLE, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nuvom.core.record import JobRecord

FULL_KEYS = (
    "id", "func_name", "status", "queue", "priority", "attempt", "max_retries", "args", "kwargs",
    "result", "error", "created_at", "run_at", "started_at", "finished_at", "worker", "tags",
    "metadata",
)  # fmt: skip


class ResultConformance(Joined):
    """The laws of a result backend; subclass it in a test module and write ``make``."""

    contract: ClassVar[str] = "result_backend"

    def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
        """Return a backend with an empty store of its own, below ``tmp_path`` if it has files."""
        raise NotImplementedError

    def reopen(self, backend: BaseResultBackend) -> BaseResultBackend | None:
        """Return a second backend on the same store, None where there can be none."""
        del backend
        return None

    @contextmanager
    def bench(self, folder: Path) -> Iterator[ResultBench]:
        bench = ResultBench(self, folder)
        try:
            yield bench
        finally:
            bench.close()

    # ---- results --------------------------------------------------------------------------

    @law()
    def test_nothing_is_known_of_an_unknown_job(self, bench: ResultBench) -> None:
        """Of an unknown id everything is None, and asking is no error."""
        one, unknown = bench.backend, new_id()
        known = (one.get_result(unknown), one.get_error(unknown), one.get_full(unknown))
        assert known == (None, None, None), f"of an unknown id {known} is known"
        assert one.list_jobs() == [], f"an empty backend lists {one.list_jobs()}"

    @law()
    def test_a_result_is_kept(self, bench: ResultBench) -> None:
        """``set_result`` returns True, and ``get_result`` gives the value."""
        job_id = new_id()
        kept = bench.backend.set_result(job_id, {"n": [1, 2]})
        assert kept is True, f"set_result returned {kept!r}"
        result = bench.backend.get_result(job_id)
        assert result == {"n": [1, 2]}, f"get_result gave {result!r}"
        assert bench.backend.get_error(job_id) is None, "a success has an error"

    @law()
    def test_every_storable_value_comes_back(self, bench: ResultBench) -> None:
        """A value of any storable type comes back equal and of the same type."""
        for value in STORABLE:
            job_id = new_id()
            bench.backend.set_result(job_id, value)
            result = bench.backend.get_result(job_id)
            assert same(result, value), f"{value!r} came back as {result!r}"

    @law()
    def test_none_is_a_result(self, bench: ResultBench) -> None:
        """A task that returned None is a SUCCESS."""
        job_id = new_id()
        bench.backend.set_result(job_id, None)
        status = bench.full(job_id)["status"]
        assert status == JobStatus.SUCCESS, f"the status is {status} after set_result(None)"

    @law()
    def test_a_kept_value_does_not_change(self, bench: ResultBench) -> None:
        """Changing a value after it was kept, or after it was read, changes nothing."""
        job_id, value = new_id(), {"n": [1]}
        bench.backend.set_result(job_id, value)
        value["n"].append(2)
        bench.backend.get_result(job_id)["n"].append(3)
        result = bench.backend.get_result(job_id)
        assert result == {"n": [1]}, f"the kept value became {result!r}"

    @law()
    def test_what_cannot_be_stored_is_refused(self, bench: ResultBench) -> None:
        """``set_result`` raises NotStorable for a value of another type, and keeps nothing."""
        job_id = new_id()
        _raises(NotStorable, lambda: bench.backend.set_result(job_id, {"n": object()}))
        assert bench.backend.get_full(job_id) is None, "something was kept of a refused value"

    @law()
    def test_a_large_result_comes_back(self, bench: ResultBench) -> None:
        """A result of several MiB comes back byte for byte."""
        job_id, content = new_id(), bytes(range(256)) * (3 << 12)
        bench.backend.set_result(job_id, content)
        assert bench.backend.get_result(job_id) == content, "3 MiB came back changed"

    # ---- errors ---------------------------------------------------------------------------

    @law()
    def test_an_error_is_kept(self, bench: ResultBench) -> None:
        """``set_error`` keeps type, text and traceback; the job is FAILED."""
        job_id, error = new_id(), StoredError("KeyError", "'naïve'", "Traceback ...\nKeyError")
        kept = bench.backend.set_error(job_id, error)
        assert kept is True, f"set_error returned {kept!r}"
        got = bench.backend.get_error(job_id)
        assert got is not None, "get_error gave None"
        shown = (got.type, got.message, got.traceback)
        expected = (error.type, error.message, error.traceback)
        assert shown == expected, f"the error came back as {shown}"
        full = bench.full(job_id)
        described = {"type": error.type, "message": error.message, "traceback": error.traceback}
        assert full["error"] == described, f"get_full describes the error as {full['error']}"
        assert full["status"] == JobStatus.FAILED, f"the status is {full['status']}"
        assert bench.backend.get_result(job_id) is None, "a failure has a result"

    @law()
    def test_an_error_may_be_an_exception_or_a_text(self, bench: ResultBench) -> None:
        """``set_error`` takes an exception or a text as well."""
        first, second = new_id(), new_id()
        bench.backend.set_error(first, KeyError("x"))
        bench.backend.set_error(second, "out of paper")
        got = bench.backend.get_error(first)
        assert got is not None, "get_error gave None for an exception"
        assert (got.type, got.message) == ("KeyError", "'x'"), f"KeyError('x') became {got}"
        got = bench.backend.get_error(second)
        assert got is not None, "get_error gave None for a text"
        assert got.message == "out of paper", f"the text became {got.message!r}"

    @law()
    def test_an_error_tells_the_status(self, bench: ResultBench) -> None:
        """``set_error`` keeps the status that it is given."""
        for status in (JobStatus.FAILED, JobStatus.DEAD, JobStatus.CANCELLED):
            job_id = new_id()
            bench.backend.set_error(job_id, "no", status=status)
            kept = bench.full(job_id)["status"]
            assert kept == status, f"{status} was kept as {kept}"

    # ---- the epoch ------------------------------------------------------------------------

    @law()
    def test_a_late_outcome_is_refused(self, bench: ResultBench) -> None:
        """An outcome of an earlier delivery is refused, and changes nothing, after a later one."""
        job, one = _claimed(epoch=2), bench.backend
        assert one.set_result(job.id, "current", record=job), "the first outcome was refused"
        late = job.replace(lease_epoch=1)
        answers = (one.set_result(job.id, "late", record=late), _fail(bench, late))
        assert answers == (False, False), f"late outcomes were answered {answers}"
        assert one.get_result(job.id) == "current", f"the result became {one.get_result(job.id)!r}"
        assert one.get_error(job.id) is None, "a late failure was kept"

    @law()
    def test_a_delivery_has_one_outcome(self, bench: ResultBench) -> None:
        """A second outcome of the same delivery is refused, and changes nothing."""
        job, one = _claimed(epoch=1), bench.backend
        one.set_result(job.id, "first", record=job)
        answers = (one.set_result(job.id, "second", record=job), _fail(bench, job))
        assert answers == (False, False), f"second outcomes were answered {answers}"
        assert one.get_result(job.id) == "first", f"the result became {one.get_result(job.id)!r}"

    @law()
    def test_a_later_delivery_replaces_the_outcome(self, bench: ResultBench) -> None:
        """The outcome of a later delivery takes the place of an earlier one, all of it."""
        job, one = _claimed(epoch=1), bench.backend
        assert _fail(bench, job), "the first outcome was refused"
        later = job.replace(lease_epoch=3)
        assert one.set_result(job.id, "well", record=later), "a later outcome was refused"
        got = (one.get_result(job.id), one.get_error(job.id), bench.full(job.id)["status"])
        assert got == ("well", None, JobStatus.SUCCESS), f"result, error, status are {got}"
        assert _fail(bench, job.replace(lease_epoch=4)), "a later failure was refused"
        assert one.get_result(job.id) is None, "a failure left the old result"

    @law()
    def test_without_a_record_the_last_outcome_wins(self, bench: ResultBench) -> None:
        """Without ``record`` an outcome is kept whatever was there."""
        job_id, one = new_id(), bench.backend
        answers = (
            one.set_result(job_id, 1),
            one.set_error(job_id, "no"),
            one.set_result(job_id, 2),
        )
        assert answers == (True, True, True), f"outcomes without a record gave {answers}"
        got = (one.get_result(job_id), one.get_error(job_id))
        assert got == (2, None), f"result and error are {got}"

    # ---- everything that is kept ----------------------------------------------------------

    @law()
    def test_the_full_form_has_all_keys(self, bench: ResultBench) -> None:
        """``get_full`` has exactly the promised keys, with and without a record."""
        job, bare = _claimed(), new_id()
        bench.backend.set_result(job.id, 1, record=job)
        bench.backend.set_result(bare, 1)
        for job_id in (job.id, bare):
            keys = set(bench.full(job_id))
            assert keys == set(FULL_KEYS), f"keys differ by {keys ^ set(FULL_KEYS)}"

    @law()
    def test_the_full_form_describes_the_job(self, bench: ResultBench) -> None:
        """``get_full`` gives the record's fields in plain form."""
        job = _claimed(priority=3, queue="mail", tags=("a",), metadata={"n": 1}, max_retries=2)
        bench.backend.set_result(job.id, "done", record=job)
        full = bench.full(job.id)
        expected = {
            "id": job.id,
            "func_name": "shop.send",
            "status": JobStatus.SUCCESS,
            "queue": "mail",
            "priority": 3,
            "attempt": 1,
            "max_retries": 2,
            "kwargs": {"to": "me"},
            "result": "done",
            "error": None,
            "created_at": job.created_at,
            "metadata": {"n": 1},
        }
        got = {key: full[key] for key in expected}
        assert got == expected, f"get_full gave {got}"
        lists = (list(full["args"]), list(full["tags"]))
        assert lists == ([1, "two"], ["a"]), f"args and tags are {lists}"
        assert full["finished_at"] is not None, "a job that is over has no finished_at"

    @law()
    def test_jobs_are_listed_newest_first(self, bench: ResultBench) -> None:
        """``list_jobs`` gives ``get_full`` of every job, newest first."""
        ids = []
        for number in range(4):
            job = _claimed(created_at=1000.0 + number)
            bench.backend.set_record(job)
            bench.backend.set_result(job.id, number, record=job)
            ids.append(job.id)
        listed = bench.backend.list_jobs()
        got = [one["id"] for one in listed]
        assert got == ids[::-1], "jobs are not listed newest first, or one is missing"
        assert listed[0] == bench.full(ids[-1]), "list_jobs tells other things than get_full"

    @law()
    def test_a_record_comes_before_its_outcome(self, bench: ResultBench) -> None:
        """``set_record`` never touches an outcome that is kept."""
        job = _claimed()
        bench.backend.set_result(job.id, "done", record=job)
        bench.backend.set_record(job.replace(status=JobStatus.PENDING))
        status = bench.full(job.id)["status"]
        assert status == JobStatus.SUCCESS, f"set_record made a success {status}"
        assert bench.backend.get_result(job.id) == "done", "set_record removed a result"

    @law()
    def test_a_record_can_be_read(self, bench: ResultBench) -> None:
        """A backend that keeps records shows their status before there is an outcome."""
        job = _claimed()
        for status in (JobStatus.PENDING, JobStatus.RUNNING):
            bench.backend.set_record(job.replace(status=status))
            full = bench.backend.get_full(job.id)
            if type(bench.backend).set_record is not BaseResultBackend.set_record:
                assert full is not None, "get_full gave None after set_record"
                assert full["status"] == status, f"{status} is shown as {full['status']}"
        assert bench.backend.get_result(job.id) is None, "a job without outcome has a result"
        assert bench.backend.set_result(job.id, 1, record=job), "its outcome was refused"

    @law()
    def test_what_is_forgotten_is_gone(self, bench: ResultBench) -> None:
        """``forget`` removes what is kept of one job, and tells whether there was something."""
        if type(bench.backend).forget is BaseResultBackend.forget:
            raise SkipTest("forget is not implemented")
        job, other = _claimed(), new_id()
        bench.backend.set_result(job.id, 1, record=job)
        bench.backend.set_result(other, 2)
        answers = [bench.backend.forget(job.id) for _ in range(2)]
        assert answers == [True, False], f"forgetting twice gave {answers}"
        assert bench.backend.get_full(job.id) is None, "a forgotten job is still known"
        assert bench.backend.get_result(other) == 2, "another job was forgotten, too"
        kept = bench.backend.set_result(job.id, 3, record=job)
        assert kept, "an outcome is refused although the earlier one was forgotten"

    # ---- the rest -------------------------------------------------------------------------

    @law()
    def test_threads_keep_one_outcome_each(self, bench: ResultBench) -> None:
        """Of threads that report on one delivery one is accepted; on others all are."""
        shared, own = _claimed(), [_claimed() for _ in range(8)]
        accepted: list[int] = []

        def report(number: int) -> None:
            if bench.backend.set_result(shared.id, number, record=shared):
                accepted.append(number)
            bench.backend.set_result(own[number].id, number, record=own[number])

        all_at_once(report, threads=8, limit_secs=bench.patience_secs)
        assert len(accepted) == 1, f"{len(accepted)} of 8 outcomes of one delivery were accepted"
        result = bench.backend.get_result(shared.id)
        assert result == accepted[0], f"{accepted[0]} was accepted, {result} is kept"
        kept = [bench.backend.get_result(job.id) for job in own]
        assert kept == list(range(8)), f"8 threads' results were kept as {kept}"

    @law()
    def test_a_waiter_learns_of_a_result(self, bench: ResultBench) -> None:
        """What ``waiter`` gives is set once a result came, or is None."""
        with bench.backend.waiter() as waiter:
            if waiter is None:
                return
            bench.backend.set_result(new_id(), 1)
            hand = Hand(lambda: waiter.wait(20 * bench.patience_secs))
            hand.start()
            hand.finish(bench.patience_secs)

    @law()
    def test_a_waiter_wakes(self, bench: ResultBench) -> None:
        """Who waits when a result comes is woken."""
        with bench.backend.waiter() as waiter:
            if waiter is None:
                return
            waiter.wait(0)
            hand = Hand(lambda: waiter.wait(20 * bench.patience_secs))
            hand.start()
            hand.join(0.05)  # let it begin to wait; the law holds whether it does or not
            bench.backend.set_result(new_id(), 1)
            hand.finish(bench.patience_secs)

    @law()
    def test_results_outlive_the_instance(self, bench: ResultBench) -> None:
        """What is kept is there when the instance that kept it has stopped."""
        job = _claimed()
        bench.backend.set_result(job.id, {"n": 1}, record=job)
        bench.backend.stop()
        other = bench.reopen()
        result = other.get_result(job.id)
        assert result == {"n": 1}, f"another instance gives {result!r}"
        again = other.set_result(job.id, 2, record=job)
        assert again is False, "another instance accepted a second outcome of one delivery"

    @law()
    def test_starting_and_stopping_is_harmless(self, bench: ResultBench) -> None:
        """``stop`` before ``start``, ``start`` twice and ``stop`` twice raise nothing."""
        bench.backend.stop()
        other = bench.open()
        other.start()
        other.start()
        other.set_result(new_id(), 1)
        other.stop()
        other.stop()

    @law()
    def test_hostile_ids_stay_inside(self, bench: ResultBench) -> None:
        """Whatever an id is called, nothing appears outside the store's own folder."""
        token = new_id()
        ids = [f"{'../' * up}{token}" for up in range(1, 7)]
        for job_id in [*ids, str(bench.folder / token), f"..\\{token}", f"a/../../{token}"]:
            try:
                bench.backend.set_result(job_id, 1)
            except NuvomError:  # refusing is as good as keeping it inside
                continue
            result = bench.backend.get_result(job_id)
            assert result == 1, f"the result of {job_id!r} came back as {result!r}"
        above = [bench.folder, *bench.folder.parents][:7]
        stray = [str(path) for folder in above for path in folder.glob(f"*{token}*")]
        assert stray == [], f"written outside the store's folder: {stray}"


def _claimed(*, epoch: int = 1, **fields: Any) -> JobRecord:
    given = {"status": JobStatus.RUNNING, "attempt": 1, "deliveries": 1, "lease_epoch": epoch}
    return make_job("shop.send", 1, "two", kwargs={"to": "me"}, **{**given, **fields})


def _fail(bench: ResultBench, record: JobRecord) -> bool:
    return bench.backend.set_error(record.id, "no", record=record)


def _raises(expected: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except expected:
        return
    raise AssertionError(f"{expected.__name__} was not raised")
