"""The application: settings, signals, schedules, control, and calls by name."""

from __future__ import annotations

import re
import sys
import threading
import types
import warnings
from typing import Any

import pytest

from nuvom.compat.celery import (
    Celery,
    CeleryWarning,
    NotSupported,
    current_app,
    shared_task,
    signals,
)
from nuvom.compat.celery.context import applications
from nuvom.compat.celery.exceptions import NotRegistered
from nuvom.core.job_context import current
from nuvom.testing.isolated_store import IsolatedStore, StoreWorker

SOON = 30.0


# ---- settings -------------------------------------------------------------------------------


def test_settings_are_attributes_and_items() -> None:
    conf = Celery("tests").conf
    conf.task_always_eager = True
    conf["task_default_queue"] = "one"
    conf.update({"timezone": "UTC"}, result_expires=60)
    assert (True, "one", "UTC", 60) == (
        conf["task_always_eager"],
        conf.task_default_queue,
        conf.get("timezone"),
        conf.result_expires,
    )
    assert (False, None, "json") == (
        conf.task_ignore_result,
        conf.task_routes,
        conf.task_serializer,
    )
    assert "task_routes" in conf
    del conf["timezone"]
    assert None is conf.timezone
    with pytest.raises(AttributeError, match="nonsense"):
        _ = conf.nonsense


@pytest.mark.parametrize("how", ["module", "path", "object", "mapping", "force"])
def test_settings_of_an_object_are_read_when_they_are_needed(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    module = types.ModuleType("shop_config")
    values = {"task_always_eager": True, "task_default_queue": "shop", "unrelated": 1}
    vars(module).update(values)
    app = Celery("tests")
    if how == "path":
        app.config_from_object("shop_config")
        monkeypatch.setitem(sys.modules, "shop_config", module)
    else:
        given = {"object": types.SimpleNamespace(**values), "mapping": values}
        app.config_from_object(given.get(how, module), force=how == "force")
    assert (True, "shop") == (app.conf.task_always_eager, app.conf.task_default_queue)


def test_settings_with_a_namespace_as_in_django() -> None:
    names = {"CELERY_TASK_ALWAYS_EAGER": True, "CELERY_TASK_TIME_LIMIT": 60, "DEBUG": True}
    app = Celery("tests", config_source=types.SimpleNamespace(**names), namespace="CELERY")
    assert (True, 60) == (app.conf.task_always_eager, app.conf.task_time_limit)
    assert "debug" not in app.conf


def test_old_names_of_settings_count() -> None:
    app = Celery("tests")
    old = {"CELERY_ALWAYS_EAGER": True, "CELERY_DEFAULT_QUEUE": "old", "CELERYD_TASK_TIME_LIMIT": 9}
    app.config_from_object(types.SimpleNamespace(**old))
    conf = app.conf
    assert (True, "old", 9) == (
        conf.task_always_eager,
        conf.task_default_queue,
        conf.task_time_limit,
    )
    conf.CELERY_TIMEZONE = "UTC"
    assert "UTC" == conf.timezone


def test_settings_of_the_broker_are_named_in_one_warning() -> None:
    app = Celery("tests", broker="redis://host", backend="rpc://")
    with pytest.warns(CeleryWarning) as found:
        app.conf.update(worker_prefetch_multiplier=1, broker_transport_options={}, task_acks_late=0)
    (one,) = found
    for name in ("worker_prefetch_multiplier", "broker_transport_options", "task_acks_late=False"):
        assert name in str(one.message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_annotations", {"*": {"rate_limit": "1/s"}}),
        ("task_default_rate_limit", "1/s"),
        ("task_store_eager_result", True),
        ("task_serializer", "pickle"),
        ("result_serializer", "yaml"),
    ],
)
def test_setting_that_cannot_be_kept_raises(name: str, value: object) -> None:
    with pytest.raises(NotSupported, match=name):
        Celery("tests").conf[name] = value


def test_settings_of_tasks_reach_jobs(nuvom: IsolatedStore) -> None:
    app = Celery("tests")

    @app.task
    def nothing() -> None: ...

    first = nothing.delay().job.record
    app.conf.update(
        task_time_limit=60,
        task_soft_time_limit=50,
        task_ignore_result=True,
        task_default_priority=9,
        result_expires=600,
    )
    second = nothing.delay().job.record
    assert (None, None, True) == (first.timeout_secs, first.soft_timeout_secs, first.store_result)
    assert (60, 50, False, -4, 600) == (
        second.timeout_secs,
        second.soft_timeout_secs,
        second.store_result,
        second.priority,
        second.result_ttl_secs,
    )


def test_soft_limit_that_is_never_reached_does_not_count(nuvom: IsolatedStore) -> None:
    @shared_task(time_limit=10, soft_time_limit=10)
    def nothing() -> None: ...

    assert None is nothing.delay().job.record.soft_timeout_secs


def test_shared_task_belongs_to_the_current_application(nuvom: IsolatedStore) -> None:
    @shared_task
    def nothing() -> None: ...

    assert nothing.app is applications.get()
    app = Celery("second")
    assert app is nothing.app
    app.conf.task_default_queue = "second"
    other = Celery("third", set_as_current=False)
    assert ("second", app.main) == (nothing.delay().queue, current_app.main)
    other.set_default()
    assert "default" == nothing.delay().queue


# ---- calls by name --------------------------------------------------------------------------


def test_send_task_by_name(nuvom: IsolatedStore) -> None:
    app = Celery("tests")

    @app.task(name="known", queue="own")
    def known(x: int) -> None: ...

    first = app.send_task("known", [1], countdown=60)
    second = app.send_task("of.another.process", (1,), {"y": 2}, queue="q", headers={"a": "b"})
    assert (["own", "q"], (1,), {"y": 2}) == (
        [first.queue, second.queue],
        second.args,
        second.kwargs,
    )
    assert "known" in app.tasks
    assert first == app.AsyncResult(first.id)
    app.conf.task_always_eager = True
    with pytest.raises(NotRegistered, match="import"):
        app.send_task("of.another.process")
    assert "q" == app.signature("known", (1,), queue="q").options["queue"]


# ---- signals --------------------------------------------------------------------------------


def test_signals_around_a_task(celery: Celery) -> None:
    seen: list[Any] = []

    def note(name: str) -> Any:
        def receiver(sender: Any = None, **named: Any) -> None:
            named.pop("signal")
            seen.append((name, getattr(sender, "name", sender), sorted(named)))

        return receiver

    for name in ("prerun", "postrun", "success", "failure", "retry"):
        getattr(signals, f"task_{name}").connect(note(name))
    signals.before_task_publish.connect(note("publish"))
    signals.after_task_publish.connect(note("published"))

    @celery.task(name="work", bind=True, max_retries=1)
    def work(self: Any, failures: int) -> None:
        if self.request.retries < failures:
            raise self.retry(exc=OSError("down"), countdown=0)

    work.delay(0)
    sent = ["body", "exchange", "headers", "properties", "routing_key"]
    call = ["args", "kwargs", "task", "task_id"]
    end = ("postrun", "work", sorted([*call, "retval", "state"]))
    begin = ("prerun", "work", call)
    publish = ("publish", "work", sorted([*sent, "declare", "retry_policy"]))
    success = ("success", "work", ["result"])
    assert [publish, begin, success, end, ("published", "work", sent)] == seen
    seen.clear()
    work.apply((2,))
    failed = ["args", "einfo", "exception", "kwargs", "task_id", "traceback"]
    assert [
        begin,
        ("retry", "work", ["einfo", "reason", "request"]),
        end,
        begin,
        ("failure", "work", failed),
        end,
    ] == seen


def test_receiver_may_be_for_one_sender_and_may_fail(
    celery: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    @celery.task(name="one")
    def one() -> int:
        return 1

    @celery.task(name="two")
    def two() -> None: ...

    def of_object(result: Any, **_: Any) -> None:
        seen.append(f"object {result}")

    def of_name(**_: Any) -> None:
        seen.append("name")

    signals.task_success.connect(sender=one)(of_object)
    signals.task_success.connect(of_name, sender="two")

    @signals.task_prerun.connect
    def broken(**_: Any) -> None:
        raise OSError("down")

    assert [1, None] == [one.delay().get(), two.delay().get()]
    assert ["object 1", "name"] == seen
    assert "A receiver of task_prerun failed" in caplog.text
    assert signals.task_success.disconnect(of_name)
    assert not signals.task_success.disconnect(of_name)
    assert 1 == len(signals.task_success.receivers)


def test_publisher_may_add_headers(celery: Celery) -> None:
    @signals.before_task_publish.connect
    def add(headers: dict[str, Any], **_: Any) -> None:
        headers["request_id"] = "r1"

    @celery.task(bind=True)
    def read(self: Any) -> Any:
        return self.request.request_id

    assert "r1" == read.delay().get()


def test_worker_signals_follow_a_worker(nuvom: IsolatedStore) -> None:
    seen: list[str] = []
    for name in ("init", "process_init", "ready", "process_shutdown", "shutdown"):
        one = getattr(signals, f"worker_{name}")
        one.connect(lambda signal, **_: seen.append(signal.name), weak=False, dispatch_uid=name)
    worker = StoreWorker(nuvom).start()
    worker.drain()
    names = ["worker_init", "worker_process_init", "worker_ready"]
    assert [*names, "worker_process_shutdown", "worker_shutdown"] == seen[:5]
    worker.stop()


@pytest.mark.parametrize(
    "name", ["task_received", "task_revoked", "setup_logging", "beat_init", "celeryd_init"]
)
def test_signal_that_is_never_sent_says_so(name: str) -> None:
    with pytest.warns(CeleryWarning, match=f"note will not be called for the signal {name}"):
        getattr(signals, name).connect(note)


def note(**_: Any) -> None:
    """Be a receiver."""


def test_worker_signal_connected_too_late_says_so() -> None:
    token = current.set(object())  # type: ignore[arg-type]  # as while a job imports its module
    try:
        with pytest.warns(CeleryWarning, match="hooks"):
            signals.worker_ready.connect(note)
    finally:
        current.reset(token)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signals.worker_shutdown.connect(note)


# ---- the rest -------------------------------------------------------------------------------


def test_inspect_tells_of_workers(nuvom: IsolatedStore, nuvom_worker: StoreWorker) -> None:
    app = Celery("tests")
    started, goes_on = threading.Event(), threading.Event()

    @app.task(name="work")
    def work(x: int) -> None:
        started.set()
        assert goes_on.wait(SOON)

    result = work.delay(7)
    later = work.apply_async((8,), countdown=1000)
    assert started.wait(SOON)
    inspect = app.control.inspect()
    shown = {"id": result.id, "name": "work", "args": (7,), "kwargs": {}}
    (worker,) = inspect.ping() or {}
    assert {worker: [shown]} == inspect.active()
    assert later.id == (inspect.scheduled() or {})[worker][0]["request"]["id"]
    assert ([], []) == ((inspect.reserved() or {})[worker], (inspect.active_queues() or {})[worker])
    assert "work" in (inspect.registered() or {})[worker]
    assert "pid" in (inspect.stats() or {})[worker]
    assert None is app.control.inspect(["other"]).ping()
    assert [{worker: {"ok": "pong"}}] == app.control.ping()
    goes_on.set()
    result.get(timeout=SOON)
    assert 1 == app.control.purge()


@pytest.mark.parametrize(
    "use",
    [
        lambda app: app.control.rate_limit("work", "1/m"),
        lambda app: app.control.inspect().query_task("id"),
        lambda app: app.connection(),
        lambda app: app.worker_main(),
    ],
)
def test_what_needs_a_broker_is_refused_by_name(use: Any) -> None:
    with pytest.raises(NotSupported, match=r"rate_limit|query_task|connection|worker_main"):
        use(Celery("tests"))


def test_application_is_quiet_about_what_needs_nothing() -> None:
    app = Celery("tests", include=["shop.tasks"])
    app.autodiscover_tasks()
    app.autodiscover_tasks(["shop"], related_name="jobs")
    app.close()
    assert re.match(r"<Celery tests>", repr(app))
    assert None is app.current_task
    assert app.now().tzinfo
    assert ("shop.tasks",) == tuple(app.conf.include)
