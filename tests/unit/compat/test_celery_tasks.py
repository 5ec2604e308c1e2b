"""What Celery's options, ``self``, base classes and handlers mean on Nuvom."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from typing import Any

import pytest

import nuvom as package
from nuvom.compat.celery import (
    Celery,
    CeleryWarning,
    NotSupported,
    Task,
    current_task,
    shared_task,
)
from nuvom.compat.celery.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
)
from nuvom.compat.celery.utils import uuid
from nuvom.compat.celery.utils.log import get_task_logger
from nuvom.errors import DuplicateTask
from nuvom.registry.registry import default_registry
from nuvom.testing.isolated_store import IsolatedStore, StoreTime, StoreWorker

SOON = 30.0


# ---- definitions ----------------------------------------------------------------------------


def test_task_is_one_of_nuvom(celery: Celery) -> None:
    @celery.task(
        name="mail.send",
        queue="mail",
        max_retries=7,
        default_retry_delay=9,
        time_limit=60,
        soft_time_limit=50,
        ignore_result=True,
        acks_late=True,
    )
    def send(to: str) -> None:
        """Send."""

    definition = default_registry().get("mail.send")
    assert definition is send.definition
    options = definition.options
    assert ("mail", 7, 9, 60, 50, False) == (
        options.queue,
        options.retries,
        options.retry_delay_secs,
        options.timeout_secs,
        options.soft_timeout_secs,
        options.store_result,
    )
    assert ("send", "Send.", __name__) == (send.__name__, send.__doc__, send.__module__)
    assert "mail.send" == package.enqueue("mail.send", "you").func_name


def test_defaults_are_those_of_celery(celery: Celery) -> None:
    @celery.task
    def plain() -> None: ...

    @shared_task(max_retries=None)
    def endless() -> None: ...

    options = plain.definition.options
    assert (3, 180, "default", True) == (
        options.retries,
        options.retry_delay_secs,
        options.queue,
        options.store_result,
    )
    assert f"{__name__}.{plain.definition.func.__qualname__}" == plain.name
    assert endless.definition.options.retries > 10**9


def test_options_of_a_task_are_those_of_its_calls(nuvom: IsolatedStore) -> None:
    app = Celery("tests", broker="redis://host")
    of_broker = {"compression": "gzip", "track_started": True, "reject_on_worker_lost": True}

    @app.task(priority=2, expires=60, throws=(KeyError,), **of_broker)
    def nothing() -> None: ...

    record = nothing.delay().job.record
    assert 7 == record.priority
    assert 60 == pytest.approx((record.expires_at or 0) - record.created_at)
    assert (KeyError,) == nothing.throws


def test_result_that_is_ignored_is_not_kept(celery: Celery) -> None:
    @celery.task(ignore_result=True)
    def five() -> int:
        return 5

    result = five.delay()
    assert ("SUCCESS", None) == (result.state, result.get())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rate_limit": "10/m"}, "rate_limit"),
        ({"serializer": "pickle"}, "serializer"),
        ({"acks_late": False}, "acks_late"),
        ({"typing": False}, "typing"),
        ({"pydantic": True}, "pydantic"),
        ({"routing_key": "x"}, "routing_key"),
    ],
)
def test_option_that_cannot_be_kept_raises(options: dict[str, Any], named: str) -> None:
    with pytest.raises(NotSupported, match=named):
        shared_task(**options)(print_nothing)


def test_option_that_celery_has_not_is_an_attribute_of_the_task() -> None:
    with pytest.warns(CeleryWarning, match="retires= is no option of Celery's"):
        task = shared_task(retires=3)(print_nothing)
    assert 3 == vars(type(task))["retires"]


def test_base_that_is_not_of_the_shim_is_refused() -> None:
    class Theirs:
        """A task of Celery itself, such as a package has that still imports it."""

    with pytest.raises(TypeError, match=r"Theirs of the task .* change the imports of its module"):
        shared_task(base=Theirs)(print_nothing)


def double(x: int) -> int:
    return 2 * x


def fail() -> None:
    raise OSError("down")


def print_nothing() -> None:
    """Do nothing."""


def test_option_of_the_users_base_is_an_attribute(celery: Celery) -> None:
    class Priced(Task):
        price = 1

    @celery.task(base=Priced, price=5, bind=True)
    def cost(self: Any) -> int:
        return int(self.price)

    assert 5 == cost.delay().get()


def test_name_of_another_function_is_refused(celery: Celery) -> None:
    @celery.task(name="one")
    def first() -> None: ...

    with pytest.raises(DuplicateTask):
        celery.task(name="one")(print_nothing)


@pytest.mark.parametrize("outer", ["nuvom", "celery"])
def test_both_decorators_may_stand_on_one_function(celery: Celery, outer: str) -> None:
    if outer == "nuvom":
        assert 4 == package.task(shared_task(double)).delay(2).get()
    else:
        assert 4 == shared_task(package.task(double)).delay(2).get()


def test_async_task_is_awaited(nuvom_worker: StoreWorker) -> None:
    app, seen = Celery("tests"), []

    @app.task(bind=True, autoretry_for=(OSError,), retry_kwargs={"countdown": 0})
    async def fetch(self: Any) -> int:
        seen.append(self.request.retries)
        if not self.request.retries:
            raise OSError
        return 5

    @app.task
    def note(value: int) -> None:
        seen.append(value)

    assert 5 == fetch.apply_async(link=note.s()).get(timeout=SOON)
    nuvom_worker.drain()
    assert [0, 1, 5] == seen
    assert 5 == fetch.apply().get()


def test_class_can_be_a_task(celery: Celery) -> None:
    class Add(Task):
        name = "sums.add"

        def run(self, x: int, y: int) -> int:
            return x + y

    add = celery.register_task(Add())
    assert (5, 5) == (add.delay(2, 3).get(), celery.tasks["sums.add"](2, 3))


# ---- self -----------------------------------------------------------------------------------


def test_request_tells_about_the_call(celery: Celery) -> None:
    @celery.task(bind=True, time_limit=60)
    def tell(self: Any, x: int, y: int = 0) -> Any:
        request = self.request
        return json.dumps(
            {
                "id": request.id,
                "correlation_id": request.correlation_id,
                "root_id": request.root_id,
                "args": request.args,
                "kwargs": request.kwargs,
                "retries": request.retries,
                "task": request.task,
                "queue": request.delivery_info.get("routing_key"),
                "timelimit": request.timelimit,
                "none": [request.chain, request.chord, request.group, request.parent_id],
                "is": [request.called_directly, request.is_eager],
                "hostname": bool(request.hostname),
                "current": [self.name == current_task.name, current_task.request.id],
            }
        )

    result = tell.apply_async((1,), {"y": 2}, queue="q")
    assert json.loads(result.get()) == {
        "id": result.id,
        "correlation_id": result.id,
        "root_id": result.id,
        "args": [1],
        "kwargs": {"y": 2},
        "retries": 0,
        "task": tell.name,
        "queue": "q",
        "timelimit": [60, None],
        "none": [None] * 4,
        "is": [False, False],
        "hostname": True,
        "current": [True, result.id],
    }
    direct = json.loads(tell(1))
    assert (None, [True, False], 0) == (direct["id"], direct["is"], direct["retries"])


def test_direct_call_inside_a_task_has_its_own_request(celery: Celery) -> None:
    @celery.task(bind=True)
    def inner(self: Any) -> Any:
        return self.request.id, self.request.called_directly

    @celery.task(bind=True)
    def outer(self: Any) -> Any:
        return [*inner(), self.request.id]

    result = outer.delay()
    assert [None, True, result.id] == result.get()


# ---- retries --------------------------------------------------------------------------------


def test_retry_waits_and_ends_with_the_cause(
    nuvom_inline: IsolatedStore, nuvom_clock: StoreTime
) -> None:
    app, seen = Celery("tests"), []

    @app.task(bind=True, max_retries=2, default_retry_delay=60)
    def flaky(self: Any, countdown: int | None) -> None:
        seen.append(nuvom_clock.now().timestamp() - start)
        try:
            fail()
        except OSError as error:
            self.retry(exc=error, countdown=countdown)

    start = nuvom_clock.now().timestamp()
    result = flaky.delay(None)
    assert ("RETRY", "down") == (result.state, str(result.result))
    nuvom_clock.advance(1000)
    assert [0, 60, 120] == pytest.approx(seen)
    with pytest.raises(OSError, match="down"):
        result.get()
    seen.clear()
    start = nuvom_clock.now().timestamp()
    flaky.delay(5)
    nuvom_clock.advance(1000)
    assert [0, 5, 10] == pytest.approx(seen)


def test_retry_at_a_time(nuvom_inline: IsolatedStore, nuvom_clock: StoreTime) -> None:
    from datetime import UTC, datetime, timedelta

    app = Celery("tests")

    @app.task(bind=True)
    def later(self: Any) -> int:
        if not self.request.retries:
            self.retry(eta=datetime.now(UTC) + timedelta(hours=1))
        return 5

    result = later.delay()
    nuvom_clock.advance(3590)
    assert "RETRY" == result.state
    nuvom_clock.advance(20)
    assert 5 == result.get()


def test_limit_of_one_retry_beats_that_of_the_task(celery: Celery) -> None:
    @celery.task(bind=True, max_retries=1)
    def flaky(self: Any, failures: int, limit: int | None) -> int:
        if self.request.retries < failures:
            raise self.retry(countdown=0, max_retries=limit)
        return int(self.request.retries)

    assert [1, 4] == [flaky.delay(1, None).get(), flaky.delay(4, 4).get()]
    for failures, limit in ((2, None), (1, 0), (5, 4)):
        with pytest.raises(MaxRetriesExceededError, match="Can't retry"):
            flaky.delay(failures, limit).get()


def test_bare_retry_uses_the_tasks_policy(celery: Celery) -> None:
    @celery.task(bind=True, default_retry_delay=0)
    def again(self: Any) -> int:
        if not self.request.retries:
            raise Retry("not yet")
        return 5

    assert 5 == again.delay().get()


def test_retry_outside_a_job_raises_the_cause(celery: Celery) -> None:
    @celery.task(bind=True)
    def flaky(self: Any) -> None:
        self.retry(exc=OSError("down"))

    with pytest.raises(OSError, match="down"):
        flaky()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"args": (2,)}, "args="),
        ({"kwargs": {"x": 2}}, "kwargs="),
        ({"throw": False}, "throw"),
        ({"queue": "q"}, "queue"),
    ],
)
def test_retry_that_changes_the_job_is_refused(
    celery: Celery, change: dict[str, Any], named: str
) -> None:
    @celery.task(bind=True)
    def flaky(self: Any, x: int) -> None:
        self.retry(**change)

    result = flaky.delay(1)
    assert ("FAILURE", True) == (result.state, named in str(result.result))


def test_retry_with_its_own_arguments_is_allowed(celery: Celery) -> None:
    @celery.task(bind=True)
    def flaky(self: Any, x: int, y: int = 0) -> int:
        if not self.request.retries:
            self.retry(args=[x], kwargs={"y": y}, countdown=0)
        return x + y

    assert 3 == flaky.delay(1, y=2).get()


def test_autoretry_is_for_the_named_exceptions(celery: Celery) -> None:
    @celery.task(
        bind=True,
        autoretry_for=(OSError,),
        dont_autoretry_for=(FileNotFoundError,),
        retry_kwargs={"max_retries": 2, "countdown": 0},
    )
    def flaky(self: Any, kind: str) -> None:
        error = {"os": OSError, "file": FileNotFoundError, "key": LookupError}[kind]
        raise error(self.request.retries)

    assert ["2", "0", "0"] == [str(flaky.delay(one).result) for one in ("os", "file", "key")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"retry_backoff": True}, [1, 2, 4]),
        ({"retry_backoff": 5, "retry_backoff_max": 12}, [5, 10, 12]),
        ({"default_retry_delay": 7}, [7, 7, 7]),
    ],
)
def test_backoff_of_autoretry(
    nuvom_inline: IsolatedStore,
    nuvom_clock: StoreTime,
    options: dict[str, Any],
    expected: list[int],
) -> None:
    app, seen = Celery("tests"), []

    @app.task(autoretry_for=(OSError,), retry_jitter=False, **options)
    def down() -> None:
        seen.append(nuvom_clock.now().timestamp())
        raise OSError

    down.delay()
    nuvom_clock.advance(1000)
    waits = [after - before for before, after in pairwise(seen)]
    assert expected == pytest.approx(waits)


def test_jitter_shortens_the_wait(nuvom_inline: IsolatedStore, nuvom_clock: StoreTime) -> None:
    app, seen = Celery("tests"), []

    @app.task(autoretry_for=(OSError,), retry_backoff=1000, retry_backoff_max=1000, max_retries=20)
    def down() -> None:
        seen.append(nuvom_clock.now().timestamp())
        raise OSError

    down.delay()
    nuvom_clock.advance(21_000)
    waits = [after - before for before, after in pairwise(seen)]
    assert 20 == len(waits)
    assert 0 <= min(waits) < 900
    assert 100 < max(waits) <= 1000


@pytest.mark.parametrize("end", [Ignore, Reject])
def test_ignored_or_rejected_job_is_not_retried(celery: Celery, end: type[Exception]) -> None:
    failures = []

    class Noted(Task):
        def on_failure(self, *args: Any) -> None:
            failures.append(args)

    @celery.task(base=Noted, autoretry_for=(Exception,), retry_kwargs={"countdown": 0})
    def stop() -> None:
        raise end("enough")

    assert "FAILURE" == stop.delay().state
    assert [] == failures
    with pytest.raises(NotSupported, match="requeue"):
        Reject("busy", requeue=True)


# ---- limits ---------------------------------------------------------------------------------


def test_soft_limit_may_be_caught_by_celerys_name(nuvom_worker: StoreWorker) -> None:
    app, never = Celery("tests"), threading.Event()

    @app.task(soft_time_limit=0.05)
    def work(handles: bool) -> str:  # noqa: FBT001
        try:
            while not never.wait(0.001):
                pass
        except SoftTimeLimitExceeded:
            if handles:
                return "cleaned up"
            raise
        return ""

    assert "cleaned up" == work.delay(True).get(timeout=SOON)
    with pytest.raises(SoftTimeLimitExceeded):
        work.delay(False).get(timeout=SOON)


def test_hard_limit_reaches_on_failure(nuvom_worker: StoreWorker) -> None:
    app, never, seen = Celery("tests"), threading.Event(), []
    noted = threading.Event()

    class Noted(Task):
        def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            seen.append((type(exc), task_id))
            noted.set()

    @app.task(base=Noted, time_limit=0.05)
    def work() -> None:
        while not never.wait(0.001):
            pass

    result = work.delay()
    with pytest.raises(TimeoutError, match="timed out"):
        result.get(timeout=SOON)
    assert noted.wait(SOON)
    assert [(TimeoutError, result.id)] == seen


# ---- base classes and handlers --------------------------------------------------------------


class Noted(Task):
    """Notes what it is told."""

    seen: list[Any] = []  # noqa: RUF012

    def before_start(self, *call: Any) -> None:
        self.seen.append(("before", *call))

    def on_success(self, retval: Any, *call: Any) -> None:
        self.seen.append(("success", retval, *call))

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.seen.append(("retry", str(exc), task_id, args, kwargs))

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        assert "raise OSError" in einfo.traceback
        self.seen.append(("failure", str(exc), task_id, args, kwargs))

    def after_return(self, status: str, *_: Any) -> None:
        self.seen.append(status)


@pytest.mark.parametrize("how", ["job", "eager"])
def test_handlers_are_called_with_the_call(celery: Celery, how: str) -> None:
    @celery.task(base=Noted, bind=True, max_retries=1)
    def work(self: Any, failures: int, *, key: str = "") -> int:
        if self.request.retries < failures:
            try:
                fail()
            except OSError as error:
                raise self.retry(exc=error, countdown=0)  # noqa: B904
        return 5

    def call(failures: int) -> tuple[Any, ...]:
        run = work.apply_async if how == "job" else work.apply
        Noted.seen.clear()
        return run((failures,), {"key": "k"}).id, (failures,), {"key": "k"}

    one = call(0)
    assert [("before", *one), ("success", 5, *one), "SUCCESS"] == Noted.seen
    one = call(2)
    assert [
        ("before", *one),
        ("retry", "down", *one),
        "RETRY",
        ("before", *one),
        ("failure", "down", *one),
        "FAILURE",
    ] == Noted.seen


def test_options_of_a_base_class_count(celery: Celery) -> None:
    class Patient(Task):
        max_retries = 9
        queue = "patient"
        autoretry_for = (OSError,)
        retry_kwargs = {"countdown": 0}  # noqa: RUF012

    @celery.task(base=Patient, bind=True)
    def work(self: Any) -> int:
        if self.request.retries < 5:
            raise OSError
        return int(self.request.retries)

    result = work.delay()
    assert (5, "patient") == (result.get(), result.queue)


def test_call_of_a_base_class_wraps_the_job(celery: Celery) -> None:
    class InContext(celery.Task):  # type: ignore[name-defined,misc]
        depth = 0

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            self.depth += 1
            try:
                return super().__call__(*args, **kwargs)
            finally:
                self.depth -= 1

    celery.Task = InContext

    @celery.task(bind=True)
    def work(self: Any) -> Any:
        return self.depth, bool(self.request.id)

    assert [1, True] == [*work.delay().get()]
    assert (1, False) == work()


def test_task_class_of_the_application(nuvom_inline: IsolatedStore) -> None:
    class Counted(Task):
        count = 7

    for given in (Counted, f"{__name__}:Noted"):
        app = Celery("tests", task_cls=given)
        assert issubclass(app.Task, Counted if given is Counted else Task)
        assert app.Task.__mro__[1].__name__ in ("Counted", "Noted")


def test_loggers_and_ids() -> None:
    assert "shop.tasks" == get_task_logger("shop.tasks").name
    assert uuid() != uuid()


def test_what_needs_workflows_is_refused(celery: Celery) -> None:
    @celery.task(bind=True)
    def work(self: Any) -> None:
        self.replace(None)

    assert "replace" in str(work.delay().result)
