"""Calls of Celery tasks on Nuvom, and what ``AsyncResult`` says of them."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from nuvom import JobFailed
from nuvom.compat.celery import (
    Celery,
    CeleryWarning,
    NotSupported,
    Signature,
    exceptions,
    group,
    shared_task,
)
from nuvom.compat.celery.exceptions import TaskRevokedError
from nuvom.compat.celery.result import AsyncResult, EagerResult, allow_join_result
from nuvom.core.record import JobRecord
from nuvom.testing.isolated_store import IsolatedStore, StoreTime, StoreWorker

SOON = 30.0


@shared_task
def unrelated() -> None:
    """Make the module like any other with tasks."""


def record(result: AsyncResult) -> JobRecord:
    return result.job.record


# ---- the call -------------------------------------------------------------------------------


def test_delay_and_apply_async_store_a_job_with_its_arguments(celery: Celery) -> None:
    @celery.task
    def add(x: int, y: int = 0) -> int:
        return x + y

    assert [5, 5, 5, 2] == [
        add.delay(2, 3).get(),
        add.delay(2, y=3).get(),
        add.apply_async((2,), {"y": 3}).get(),
        add.apply_async([2]).get(),
    ]
    assert 5 == add(2, 3)
    with pytest.raises(TypeError):
        add.delay()


def test_countdown_eta_and_expires_say_when(nuvom: IsolatedStore, nuvom_clock: StoreTime) -> None:
    app = Celery("tests")

    @app.task
    def nothing() -> None: ...

    now = nuvom_clock.now()
    later = now + timedelta(minutes=3)
    in_secs, at = nothing.apply_async(countdown=90), nothing.apply_async(eta=later)
    starts = [record(one).run_at - now.timestamp() for one in (in_secs, at)]
    assert [90, 180] == pytest.approx(starts)
    until = [60, later, timedelta(hours=1)]
    found = [record(nothing.apply_async(expires=one)).expires_at for one in until]
    assert [60, 180, 3600] == pytest.approx([(one or 0) - now.timestamp() for one in found])


def test_time_without_a_zone_is_in_that_of_the_settings(nuvom: IsolatedStore) -> None:
    app = Celery("tests")

    @app.task
    def nothing() -> None: ...

    naive = datetime(2040, 1, 1, 12)  # noqa: DTZ001  # as is tested
    assert naive.replace(tzinfo=UTC).timestamp() == record(nothing.apply_async(eta=naive)).run_at
    app.conf.timezone = "Europe/Berlin"
    at = record(nothing.apply_async(eta=naive)).run_at
    assert naive.replace(hour=11, tzinfo=UTC).timestamp() == at


def test_job_that_expired_is_revoked(nuvom: IsolatedStore, nuvom_clock: StoreTime) -> None:
    app = Celery("tests")

    @app.task
    def nothing() -> None: ...

    result = nothing.apply_async(expires=5)
    nuvom_clock.advance(10)
    nuvom.run_inline()
    nuvom.run_ready()
    assert "REVOKED" == result.state
    with pytest.raises(TaskRevokedError, match="expired"):
        result.get()


def test_queue_comes_from_the_call_the_task_the_routes_the_settings(nuvom: IsolatedStore) -> None:
    app = Celery("tests")
    app.conf.update(
        task_default_queue="rest",
        task_routes={"mail.*": {"queue": "mail"}, "raw.*": "raw"},
    )

    @app.task(name="mail.send")
    def send() -> None: ...

    @app.task(name="raw.read", queue="own")
    def read() -> None: ...

    @app.task
    def other() -> None: ...

    calls = [send.delay(), read.delay(), other.delay(), send.apply_async(queue="now")]
    assert ["mail", "own", "rest", "now"] == [one.queue for one in calls]


def test_function_routes_each_call(nuvom: IsolatedStore) -> None:
    def route(name: str, args: Any, kwargs: Any, options: Any, task: Any = None) -> Any:
        return {"queue": f"shard-{args[0]}"} if args else None

    app = Celery("tests")
    app.conf.task_routes = (route,)

    @app.task
    def store(shard: int = 0) -> None: ...

    assert ["shard-7", "shard-8", "default"] == [
        one.queue for one in (store.delay(7), store.delay(8), store.delay())
    ]


def test_priorities_keep_the_order_of_the_broker(nuvom: IsolatedStore) -> None:
    order = {}
    for broker in ("amqp://host", "redis://host"):
        app = Celery("tests", broker=broker)

        @app.task(name=f"{broker[:4]}.nothing")
        def nothing() -> None: ...

        calls = {given: nothing.apply_async(priority=given) for given in (0, 9, 3)}
        numbers = {given: record(one).priority for given, one in calls.items()}
        assert record(nothing.delay()).priority == numbers[0]
        order[broker] = sorted(numbers, key=lambda given: numbers[given])
    assert {"amqp://host": [9, 3, 0], "redis://host": [0, 3, 9]} == order


@pytest.mark.parametrize("task_id", ["3f0d8a52-6d0c-4a3e-9a43-6f5d3c2b1a00", "import of Tuesday"])
def test_task_id_is_that_of_the_job_and_of_one_job_alone(celery: Celery, task_id: str) -> None:
    @celery.task(bind=True)
    def own_id(self: Any, x: int) -> Any:
        return self.request.id, x

    first = own_id.apply_async((1,), task_id=task_id)
    again = own_id.apply_async((2,), task_id=task_id)
    assert (task_id, first) == (first.id, again)
    assert [task_id, 1] == [*AsyncResult(task_id).get()] == [*again.get()]


def test_headers_reach_the_request(celery: Celery) -> None:
    @celery.task(bind=True)
    def origin(self: Any) -> Any:
        return self.request.headers["origin"], self.request.origin, self.request.get("other", 5)

    assert ["web", "web", 5] == [*origin.apply_async(headers={"origin": "web"}).get()]


def test_limits_and_results_of_one_call(nuvom: IsolatedStore) -> None:
    app = Celery("tests")

    @app.task(time_limit=60)
    def nothing() -> None: ...

    one = record(nothing.apply_async(time_limit=30, soft_time_limit=20, ignore_result=True))
    assert (30, 20, False) == (one.timeout_secs, one.soft_timeout_secs, one.store_result)
    assert (60, True) == (
        record(nothing.delay()).timeout_secs,
        record(nothing.delay()).store_result,
    )


def test_link_follows_a_success_with_the_result(celery: Celery) -> None:
    seen: list[Any] = []

    @celery.task
    def add(x: int, y: int) -> int:
        return x + y

    @celery.task
    def note(*values: int) -> None:
        seen.append(values)

    @celery.task
    def fail() -> None:
        raise ValueError

    add.apply_async((1, 2), link=note.s(7))
    add.apply_async((1, 2), link=[note.si(8), note.signature((9,))])
    fail.apply_async(link=note.si(0))
    assert [(3, 7), (3, 9), (8,)] == sorted(seen, key=len, reverse=True)


def test_child_knows_its_parent_and_root(celery: Celery) -> None:
    @celery.task(bind=True)
    def child(self: Any) -> Any:
        return self.request.parent_id, self.request.root_id

    @celery.task(bind=True)
    def parent(self: Any, depth: int) -> Any:
        return child.delay().id if depth == 0 else parent.delay(depth - 1).id

    top = parent.delay(1)
    middle = AsyncResult(top.get())
    bottom = AsyncResult(middle.get())
    assert [middle.id, top.id] == [*bottom.get()]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("link_error", Signature("tests.other")),
        ("routing_key", "mail"),
        ("exchange", "mail"),
        ("serializer", "pickle"),
        ("chain", [Signature("tests.other")]),
        ("rate_limit", "10/m"),
        ("nonsense", 1),
    ],
)
def test_option_that_cannot_be_kept_is_refused_by_name(
    nuvom: IsolatedStore, option: str, value: Any
) -> None:
    app = Celery("tests")

    @app.task
    def nothing() -> None: ...

    with pytest.raises(NotSupported, match=option):
        nothing.apply_async(**{option: value})
    with pytest.raises(NotSupported, match=option):
        nothing.apply(**{option: value})
    assert [] == nuvom.jobs


def test_options_of_the_broker_are_accepted(celery: Celery) -> None:
    @celery.task
    def nothing() -> None: ...

    given = {"retry": True, "retry_policy": {"max_retries": 1}, "compression": "gzip"}
    assert None is nothing.apply_async(producer=object(), shadow="name", **given).get()
    assert None is nothing.apply_async(rate_limit=None, serializer="json").get()


def test_canvas_is_refused_with_its_reason(celery: Celery) -> None:
    @celery.task
    def nothing() -> None: ...

    ways: list[Callable[[], Any]] = [
        lambda: group(nothing.s()),
        lambda: nothing.s() | nothing.s(),
        lambda: nothing.chunks([1], 2),
        lambda: nothing.map([1]),
    ]
    for combine in ways:
        with pytest.raises(NotSupported, match="no workflows yet"):
            combine()


def test_signature_is_a_call_to_be_made(celery: Celery) -> None:
    @celery.task
    def join(*parts: str, end: str = "") -> str:
        return "".join(parts) + end

    call = join.s("b", end="!")
    assert ["ab!", "b?", "ab!", "b"] == [
        call.delay("a").get(),
        call.apply_async(kwargs={"end": "?"}).get(),
        Signature(dict(call)).apply(("a",)).get(),
        join.si("b").delay("a").get(),
    ]
    assert "q" == call.clone().set(queue="q").delay().queue
    assert ("b", {"end": "!"}) == (call.args[0], call.kwargs)


# ---- the result -----------------------------------------------------------------------------


def test_states_of_a_job_through_its_life(nuvom: IsolatedStore, nuvom_worker: StoreWorker) -> None:
    app = Celery("tests")
    started, goes_on = threading.Event(), threading.Event()

    @app.task(bind=True)
    def work(self: Any) -> int:
        if self.request.retries:
            started.set()
            assert goes_on.wait(SOON)
            return 5
        raise self.retry(countdown=0.2)

    result = work.apply_async()
    states = {result.state}
    while not started.wait(0.001):
        states.add(result.state)
    assert {"PENDING", "STARTED", "RETRY"} >= states >= {"RETRY"}
    assert ("STARTED", False, False, None) == (
        result.state,
        result.ready(),
        result.successful(),
        result.result,
    )
    goes_on.set()
    assert 5 == result.get(timeout=SOON)
    assert ("SUCCESS", True, True, False, 5) == (
        result.status,
        result.ready(),
        result.successful(),
        result.failed(),
        result.info,
    )
    assert (1, work.name, result.id) == (result.retries, result.name, result.task_id)
    assert ((), {}, True) == (result.args, result.kwargs, bool(result.worker))
    assert isinstance(result.date_done, datetime)


def test_failure_keeps_exception_and_traceback(celery: Celery) -> None:
    class OddError(Exception): ...

    @celery.task
    def fail(kind: str) -> None:
        raise (OddError if kind == "odd" else KeyError)("lost")

    known, unknown = fail.delay("key"), fail.delay("odd")
    assert ("FAILURE", True, False) == (known.state, known.failed(), known.successful())
    with pytest.raises(KeyError, match="lost"):
        known.get()
    assert isinstance(known.get(propagate=False), KeyError)
    assert "raise (OddError if" in str(known.traceback)
    with pytest.raises(JobFailed, match="OddError: lost"):
        unknown.get()
    assert "OddError" == unknown.result.type


def test_revoked_job_does_not_run(nuvom: IsolatedStore) -> None:
    app = Celery("tests")

    @app.task
    def nothing() -> None: ...

    first, second, third = nothing.delay(), nothing.delay(), nothing.delay()
    first.revoke(terminate=True)
    app.control.revoke([second.id, third.id])
    assert ["REVOKED"] * 3 == [one.state for one in (first, second, third)]
    assert isinstance(first.result, TaskRevokedError)
    with pytest.raises(TaskRevokedError):
        second.get()


def test_forgotten_job_is_gone(celery: Celery) -> None:
    @celery.task
    def nothing() -> None: ...

    result = nothing.delay()
    result.forget()
    assert "PENDING" == result.state


def test_unknown_id_is_pending_with_a_warning(nuvom: IsolatedStore) -> None:
    for task_id in ("made up", str(uuid4())):
        with pytest.warns(CeleryWarning, match=task_id):
            assert "PENDING" == AsyncResult(task_id).state


def test_wait_that_is_too_short_raises(nuvom: IsolatedStore) -> None:
    app = Celery("tests")

    @app.task
    def nothing() -> None: ...

    with pytest.raises(exceptions.TimeoutError, match="PENDING"):
        nothing.delay().get(timeout=0.01)
    with pytest.raises(NotSupported, match="on_message"):
        nothing.delay().get(on_message=print)


def test_wait_inside_a_task_has_to_be_asked_for(nuvom_worker: StoreWorker) -> None:
    app = Celery("tests")

    @app.task
    def child() -> int:
        return 1

    @app.task
    def parent(how: str) -> int:
        result = child.delay()
        if how == "allowed":
            with allow_join_result():
                return int(result.get(timeout=SOON))
        return int(result.get(disable_sync_subtasks=how == "plain"))

    assert [1, 1] == [parent.delay(how).get(timeout=SOON) for how in ("allowed", "asked")]
    with pytest.raises(RuntimeError, match="Never call"):
        parent.delay("plain").get(timeout=SOON)


def test_callback_and_maybe_throw(celery: Celery) -> None:
    @celery.task
    def one() -> int:
        return 1

    seen: list[Any] = []
    result = one.delay()
    result.get(callback=lambda task_id, value: seen.append((task_id, value)))
    assert [(result.id, 1)] == seen
    assert 1 == result.maybe_throw()
    assert [] == result.children


def test_state_of_its_own_is_seen_while_the_task_runs(nuvom_worker: StoreWorker) -> None:
    app = Celery("tests")
    reported, goes_on = threading.Event(), threading.Event()

    @app.task(bind=True)
    def upload(self: Any) -> None:
        self.update_state(state="PROGRESS", meta={"current": 3, "total": 9})
        reported.set()
        assert goes_on.wait(SOON)

    result = upload.delay()
    assert reported.wait(SOON)
    assert ("PROGRESS", {"current": 3, "total": 9}) == (result.state, result.info)
    goes_on.set()
    assert None is result.get(timeout=SOON)
    assert "SUCCESS" == result.state


def test_call_on_commit_waits_for_django(celery: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[Callable[[], Any]] = []
    transaction = types.SimpleNamespace(on_commit=waiting.append)
    monkeypatch.setitem(sys.modules, "django", types.ModuleType("django"))
    monkeypatch.setitem(sys.modules, "django.db", types.SimpleNamespace(transaction=transaction))
    seen: list[Any] = []

    @celery.task
    def note(x: int, *, y: int = 0) -> None:
        seen.append((x, y))

    note.delay_on_commit(1, y=2)
    note.apply_async_on_commit((3,), queue="q")
    assert [] == seen
    for call in waiting:
        call()
    assert [(1, 2), (3, 0)] == seen


# ---- without a worker -----------------------------------------------------------------------


def test_apply_runs_here_with_stored_values_and_retries() -> None:
    app = Celery("tests")

    @app.task(bind=True, max_retries=2)
    def flaky(self: Any, failures: int) -> Any:
        if self.request.retries < failures:
            raise self.retry(exc=OSError("down"), countdown=1000)
        return self.request.retries, self.request.is_eager

    result = flaky.apply((2,))
    assert isinstance(result, EagerResult)
    assert ([2, True], "SUCCESS", True) == ([*result.get()], result.state, result.successful())
    failed = flaky.apply((3,))
    assert ("FAILURE", "down") == (failed.state, str(failed.result))
    assert "OSError: down" in str(failed.traceback)
    with pytest.raises(OSError, match="down"):
        failed.get()
    assert "FAILURE" == flaky.apply((3,), link=flaky.s()).state
    with pytest.raises(OSError, match="down"):
        flaky.apply((3,), throw=True)
    with pytest.raises(TypeError):  # as a worker would see it
        flaky.apply((object(),))


def test_always_eager_runs_calls_at_once() -> None:
    app = Celery("tests")
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    seen: list[int] = []

    @shared_task
    def note(x: int, *_: Any) -> int:
        seen.append(x)
        if x < 0:
            raise ValueError("negative")
        return x

    assert 3 == note.delay(3).get()
    assert 4 == app.send_task(note.name, (4,), link=note.s()).get()
    with pytest.raises(ValueError, match="negative"):
        note.delay(-1)
    assert [3, 4, 4, -1] == seen
