"""Makes stored jobs of calls: bound, encoded, within the limits, all or nothing."""

from __future__ import annotations

import gc
import tracemalloc
from collections import namedtuple
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from nuvom.core.record import JobRecord, RetryPolicy
from nuvom.errors import (
    CapabilityMissing,
    InvalidArguments,
    InvalidTaskOption,
    NotStorable,
    PayloadTooLarge,
    QueueFull,
)
from nuvom.events import JobEnqueued
from nuvom.job import Job, JobList
from nuvom.result_backends.memory import MemoryResultBackend
from tests.engine import Engine, ToyQueue, make_runtime, with_backends

JOB_ID = "6f1f0a3e-5a3c-4d43-8c55-0f5cf1b0a9d1"


def add(x: int, y: int) -> int:
    return x + y


def one(value: object) -> object:
    return value


def stored(engine: Engine) -> list[JobRecord]:
    """Return what waits in the queue, in the order of enqueueing."""
    return engine.runtime.queue.pop_batch(1000)


# ---- one call -------------------------------------------------------------------------------


def fields_of(record: JobRecord, *names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def test_the_call_comes_before_the_task_and_the_task_before_the_settings(project: Path) -> None:
    names = ["queue", "priority", "max_retries", "timeout_secs", "timeout_policy", "store_result"]
    names += ["result_ttl_secs", "tags", "retry", "metadata", "unique_key", "unique_for"]
    settings: dict[str, Any] = {"job_timeout_secs": 8, "timeout_policy": "retry"}
    settings["retry_delay_secs"] = 1
    with Engine(make_runtime(project, **settings)) as engine:
        plain = engine.task(add).delay(1, 2).record
        task = engine.task(
            add,
            queue="mail",
            priority=1,
            retries=2,
            retry_delay_secs=7,
            backoff="linear",
            max_retry_delay_secs=70,
            jitter=False,
            timeout_secs=3,
            timeout_policy="fail",
            store_result=False,
            result_ttl_secs=60,
            tags=["a", "b"],
        )
        of_task = task.delay(1, 2).record
        of_call = task.options(
            queue="other",
            priority=0,
            retries=0,
            retry_delay_secs=0,
            timeout_secs=9,
            timeout_policy="ignore",
            store_result=True,
            result_ttl_secs=0,
            tags=[],
            metadata={"by": "me"},
            unique_key="k",
            unique_for=60,
        )
        call = of_call.delay(1, 2).record
    defaults = fields_of(JobRecord("", ""), *names)
    from_settings = {"timeout_secs": 8, "timeout_policy": "retry", "retry": RetryPolicy(1)}
    assert defaults | from_settings == fields_of(plain, *names)
    assert ["mail", 1, 2, 3, "fail", False, 60, ("a", "b")] == list(
        fields_of(of_task, *names[:8]).values()
    )
    assert RetryPolicy(7, "linear", 70, jitter=False) == of_task.retry
    assert ["other", 0, 0, 9, "ignore", True, 0, ()] == list(fields_of(call, *names[:8]).values())
    assert [RetryPolicy(0, "linear", 70, jitter=False), {"by": "me"}, "k", 60] == list(
        fields_of(call, *names[8:]).values()
    )


def test_options_of_the_project_fill_in_what_a_task_leaves_open(project: Path) -> None:
    defaults = {"retries": 3, "queue": "rest", "store_result": False, "soft_timeout_secs": 5}
    routes = {"tests.a*": "a", "tests.*d": "never", "other.*": "never"}
    with Engine(make_runtime(project, task_defaults=defaults, routes=routes)) as engine:
        names = ("queue", "max_retries", "store_result", "soft_timeout_secs")
        routed, given = engine.task(add), engine.task(add, queue="default", retries=0)
        elsewhere = engine.task(one)
        found = [
            list(fields_of(job.record, *names).values())
            for job in (
                routed.delay(1, 2),
                given.delay(1, 2),
                elsewhere.delay(1),
                routed.options(queue="now", store_result=True).delay(1, 2),
            )
        ]
    assert [
        ["a", 3, False, 5],
        ["default", 0, False, 5],
        ["rest", 3, False, 5],
        ["now", 3, True, 5],
    ] == found


def test_calls_with_equal_arguments_are_one_job_however_they_are_passed(engine: Engine) -> None:
    def send(to: str, body: object = "", *, copy: bool = False) -> None: ...

    task = engine.task(send, unique=True)
    first = task.delay("a", {"x": 1, "y": [(2,)]})
    same = [
        task.delay(to="a", body={"y": [(2,)], "x": 1}),
        task.delay("a", {"x": 1, "y": [(2,)]}, copy=False),
        *task.map([("a", {"x": 1, "y": [(2,)]})]),
    ]
    assert [(first.id, False)] * 3 == [(job.id, job.created) for job in same]
    others = [task.delay("a"), task.delay("b"), task.delay("a", {"x": 1, "y": [[2]]})]
    others += task.map([("c",), {"to": "d"}, ("c",)])
    assert [True] * 5 + [False] == [job.created for job in others]
    by_hand = task.options(unique_key="mine")
    assert [True, False] == [by_hand.delay(to).created for to in ("x", "y")]


def test_only_the_named_parameters_make_a_call_unique(engine: Engine) -> None:
    def greet(user_id: int, text: str = "") -> None: ...

    task = engine.task(greet, unique_by="user_id")
    assert [True, False, True] == [
        job.created for job in (task.delay(1, "a"), task.delay(1, "b"), task.delay(2, "a"))
    ]
    with pytest.raises(InvalidTaskOption, match=r"unique_by.*parameters \(user_id, text\)"):
        engine.task(greet, unique_by=["userid"]).delay(1)
    with pytest.raises(InvalidArguments):
        task.delay()
    with pytest.raises(NotStorable, match="item 1"):
        task.map([(1,), (object(),)])


def test_expiry_counts_from_each_call_and_comes_after_the_start(engine: Engine) -> None:
    task = engine.task(add)
    for expires in (300, timedelta(minutes=5)):
        of_call = task.options(expires=expires)
        for record in (of_call.delay(1, 2).record, of_call.map([(1, 2)])[0].record):
            assert 300 == pytest.approx(record.expires_at - record.created_at)
    moment = datetime(2090, 1, 1, tzinfo=UTC)
    assert moment.timestamp() == task.options(expires=moment).delay(1, 2).record.expires_at
    too_soon = task.options(expires=5, delay=10)
    for send in (partial(too_soon.delay, 1, 2), partial(too_soon.map, [(1, 2)])):
        with pytest.raises(InvalidTaskOption, match=r"expires=5.*later than the job's earliest"):
            send()


def test_a_soft_time_limit_comes_before_the_hard_one(engine: Engine) -> None:
    task = engine.task(add, soft_timeout_secs=5)
    with pytest.raises(InvalidTaskOption, match="less than timeout_secs, which is 5"):
        task.options(timeout_secs=5).delay(1, 2)


def test_delay_counts_from_each_call_and_a_fixed_moment_is_kept(engine: Engine) -> None:
    task = engine.task(add)
    record = task.options(delay=3600).delay(1, 2).record
    assert 3600 == pytest.approx(record.run_at - record.created_at)
    moment = datetime(2090, 1, 1, tzinfo=UTC)
    assert moment.timestamp() == task.options(run_at=moment).delay(1, 2).record.run_at


def test_new_jobs_are_told_of_and_no_others(engine: Engine) -> None:
    task = engine.task(add)
    jobs = [task.delay(1, 2), *task.map([(1, 2), (3, 4)])]
    once = task.options(unique_key="k")
    jobs += [once.delay(1, 2), once.delay(3, 4), *once.map([(3, 4)])]
    assert [True] * 4 + [False] * 2 == [job.created for job in jobs]
    assert ((1, 2), [jobs[3]] * 2) == (jobs[4].args, jobs[4:])
    assert [job.id for job in jobs[:4]] == [event.job.id for event in engine.events(JobEnqueued)]


def test_limit_of_a_payload_is_exact(project: Path) -> None:
    def echo(x: str, y: str = "") -> str:
        return x + y

    with Engine(make_runtime(project)) as engine:
        record = engine.task(echo).delay("x" * 100).record
        size = len(record.args) + len(record.kwargs)
    for limit, is_accepted in ((size, True), (size - 1, False)):
        with Engine(make_runtime(project, max_payload_bytes=limit)) as engine:
            task = engine.task(echo)
            for send in (
                partial(task.delay, "x" * 100),
                partial(task.map, [("x" * 100,)]),
                partial(task.delay, x="x" * 98),  # its name takes two more
            ):
                with nullcontext() if is_accepted else pytest.raises(PayloadTooLarge):
                    send()


def test_job_may_be_given_its_id_which_one_job_can_have(engine: Engine) -> None:
    task, dispatcher = engine.task(add), engine.runtime.dispatcher
    for x in (1, 2):
        record, _ = dispatcher.dispatch(task.definition, (x, 2), {}, job_id=JOB_ID)
        assert JOB_ID == record.id
    (kept,) = stored(engine)
    assert (JOB_ID, (1, 2)) == (kept.id, Job(JOB_ID, engine.runtime, kept).args)


def test_templates_of_options_made_anew_do_not_pile_up(engine: Engine) -> None:
    task = engine.task(add)
    for number in range(1100):
        task.options(priority=number).delay(1, 2)
    assert len(engine.runtime.dispatcher._templates) <= 1000


# ---- many calls -----------------------------------------------------------------------------


Pair = namedtuple("Pair", ["x", "y"])  # noqa: PYI024  # as users write it


@pytest.mark.parametrize(
    ("items", "sums"),
    [
        ([MappingProxyType({"x": 1, "y": 2})], [3]),
        ([Pair(1, 2)], [3]),
        ([(1, 2), [3, 4], {"x": 5, "y": 6}], [3, 7, 11]),
        (((number, 1) for number in range(3)), [1, 2, 3]),
        ({(1, 2): "a mapping is read as its keys"}, [3]),
        ([], []),
    ],
)
def test_each_item_is_one_call(engine: Engine, items: Any, sums: list[int]) -> None:
    jobs: JobList[int] = engine.task(add).map(items)
    engine.work()
    assert sums == jobs.get(5)


REFUSED: list[tuple[Any, type[Exception], str]] = [
    ("abc", TypeError, r"tests\.add\.map: item 0 is of type str.*wrap it: \(item,\)"),
    ([(1, 2), {1, 2}], TypeError, "item 1 is of type set"),
    ([(1, 2, 3)], InvalidArguments, "item 0: tests.add: too many positional arguments"),
    ([(1, 2), (1, 2), (1, 2), (1,)], InvalidArguments, "item 3: tests.add: missing"),
    ([{"x": 1, "z": 2}], InvalidArguments, "item 0: tests.add: missing a required argument: 'y'"),
    ([{"x": 1, 5: 2}], TypeError, "item 0 has the key 5; keys must be text"),
    ([(1, 2), (1, object())], NotStorable, "item 1: y: object cannot be stored"),
    ([(1, 2), (1, "x" * (1 << 20))], PayloadTooLarge, "item 1: The arguments of tests.add take"),
    (5, TypeError, "not iterable"),
]


@pytest.mark.parametrize(("items", "error", "match"), REFUSED)
def test_one_bad_item_and_nothing_is_stored(
    engine: Engine, items: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        engine.task(add).map(items)
    assert [] == stored(engine)
    assert [] == engine.events(JobEnqueued)


def test_iterable_is_read_to_its_end_before_anything_is_stored(engine: Engine) -> None:
    def items() -> Iterator[tuple[int, int]]:
        for number in range(3):
            yield number, 0
            assert 0 == engine.runtime.queue.qsize()

    engine.task(add).map(items())


def test_any_number_of_items_needs_bounded_memory(project: Path) -> None:
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime, listens=False) as engine:
        task = engine.task(one)
        task.map([("warm",)])
        gc.collect()
        tracemalloc.start()
        try:
            jobs = task.map(("x" * 100,) for _ in range(200_000))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert 200_001 == runtime.queue.qsize()
    assert 200_000 == len(jobs)
    # The records alone take 40 MB; 3.2 MB are the ids, which the caller gets.
    assert peak < 16 << 20, f"{peak >> 20} MiB"


# ---- queues that can do less ----------------------------------------------------------------


@pytest.fixture
def toy(project: Path) -> Iterator[tuple[Engine, ToyQueue]]:
    queue = ToyQueue()
    runtime = with_backends(make_runtime(project), queue, MemoryResultBackend())
    with Engine(runtime) as engine:
        yield engine, queue


def test_job_that_the_queue_refuses_is_not_shown(toy: tuple[Engine, ToyQueue]) -> None:
    engine, queue = toy
    queue.error = QueueFull("default", 1, 1)
    with pytest.raises(QueueFull):
        engine.task(add).delay(1, 2)
    with pytest.raises(QueueFull):
        engine.task(add).map([(1, 2), (3, 4)])
    assert [] == engine.runtime.results.list_jobs()


@pytest.mark.parametrize(
    ("options", "missing"),
    [({"delay": 60}, "scheduled"), ({"unique_key": "k"}, "unique")],
)
def test_what_the_queue_cannot_do_is_refused(
    toy: tuple[Engine, ToyQueue], options: dict[str, Any], missing: str
) -> None:
    engine, queue = toy
    task = engine.task(add).options(**options)
    with pytest.raises(CapabilityMissing, match=f"toy has no capability {missing}"):
        task.delay(1, 2)
    with pytest.raises(CapabilityMissing, match=missing):
        task.map([(1, 2)])
    assert [] == queue.jobs
    assert [] == engine.runtime.results.list_jobs()


def test_types_are_checked_if_the_setting_says_so(project: Path) -> None:
    with Engine(make_runtime(project, check_types=True)) as engine:
        task = engine.task(add)
        task.delay(1, 2)
        with pytest.raises(InvalidArguments, match="y is of type str, not int"):
            task.delay(1, "2")
        with pytest.raises(InvalidArguments, match=r"item 1: .*y is of type str, not int"):
            task.map([(1, 2), (1, "2")])
        assert 1 == len(stored(engine))
    with Engine(make_runtime(project)) as engine:
        engine.task(add).delay(1, "2")
