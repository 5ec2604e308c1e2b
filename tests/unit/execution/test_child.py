"""What runs in a child, run here: the test's thread is the worker, the main thread the child."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import Clock
from nuvom.core.options import task_options
from nuvom.core.record import JobRecord, JobStatus
from nuvom.errors import QueueError
from nuvom.events import EventBus
from nuvom.execution.attempts import CurrentJob, current_job
from nuvom.execution.child import Child
from nuvom.execution.frames import (
    AskStack,
    Close,
    Ended,
    Link,
    Progress,
    ProgressKept,
    Ready,
    Run,
    Started,
)
from nuvom.host import platforms
from nuvom.registry.registry import Registry, TaskDefinition
from nuvom.serialization.msgpack_codec import MsgpackCodec
from tests.engine import LIMIT_SECS
from tests.unit.execution.test_frames import pair

CODEC = MsgpackCodec()


class NoSleep(Clock):
    """A clock that never waits, and tells who wanted to."""

    def __init__(self) -> None:
        self.slept = threading.Event()

    def sleep(self, secs: float) -> None:
        self.slept.set()


class Worker:
    """The other end: sends, and reads what a child says."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.token = 0

    def run(
        self,
        name: str,
        *args: Any,
        module: str = "nowhere",
        qualname: str = "f",
        store_result: bool = True,
    ) -> Run:
        self.token += 1
        packed, named = CODEC.encode_call(args, {})
        record = JobRecord(
            f"job-{self.token}",
            name,
            msgspec.Raw(packed),
            msgspec.Raw(named),
            attempt=1,
            store_result=store_result,
        )
        order = Run(self.token, record, module, qualname)
        self.link.send(order)
        return order

    def hear(self, kind: type[Any]) -> Any:
        """Return the next frame that is no Started; it must be of this kind."""
        while isinstance(frame := self.link.receive(), Started):
            pass
        assert isinstance(frame, kind), frame
        return frame

    def result_of(self, ended: Ended) -> Any:
        assert ended.settlement is not None, ended.refusal
        assert ended.settlement.status is JobStatus.SUCCESS, ended.settlement.error
        assert ended.settlement.result is not None
        return CODEC.decode_value(ended.settlement.result)


class Nursery:
    """Runs a child in this thread, and a script as its worker in another."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.clock = NoSleep()
        self.link, own = pair()
        dispatcher = SimpleNamespace(
            make_child=lambda definition, *_: JobRecord("child", definition.name)
        )
        runtime: Any = SimpleNamespace(
            registry=self.registry,
            codec=CODEC,
            settings=Settings(),
            bus=EventBus(),
            clock=self.clock,
            dispatcher=dispatcher,
        )
        self.child = Child(own, runtime, "worker")
        self.own = own

    def task(self, func: Callable[..., Any], name: str = "f", **options: Any) -> None:
        self.registry.register(TaskDefinition(name, func, task_options(options)))

    def serve(self, script: Callable[[Worker], None]) -> None:
        failures: list[BaseException] = []
        worker = Worker(self.link)

        def play() -> None:
            try:
                worker.hear(Ready)
                script(worker)
            except BaseException as error:  # noqa: BLE001  # for the thread that waits
                failures.append(error)
            finally:
                self.link.close_sink()

        player = threading.Thread(target=play)
        player.start()
        self.child.serve()
        player.join(LIMIT_SECS)
        if failures:
            raise failures[0]


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    left = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: left.set())
    nursery = Nursery()
    yield nursery
    assert left.wait(LIMIT_SECS), "the child does not leave"
    nursery.own.drop_in_child()
    nursery.link.drop_in_child()
    for number, handler in kept.items():
        signal.signal(number, handler)


def closing_once(has_begun: threading.Event) -> Callable[[Worker], None]:
    """Return a worker that closes its job's attempt once the code runs."""

    def script(worker: Worker) -> None:
        worker.run("f")
        assert has_begun.wait(LIMIT_SECS)
        worker.link.send(Close())

    return script


def test_start_is_told_again_once_the_task_is_there(nursery: Nursery) -> None:
    def script(worker: Worker) -> None:
        for starts in (2, 1):
            order = worker.run("f")
            seen = [worker.link.receive() for _ in range(starts + 1)]
            assert [Started(order.token)] * starts == seen[:-1]
            assert isinstance(seen[-1], Ended)

    nursery.task(lambda: None)
    nursery.serve(script)


def test_coroutine_gets_a_loop(nursery: Nursery) -> None:
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    def script(worker: Worker) -> None:
        for _ in range(2):  # the second time the task is known already
            worker.run("f", 1)
            assert 2 == worker.result_of(worker.hear(Ended))

    nursery.task(later)
    nursery.serve(script)


# ---- loading --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "qualname", "reason"),
    [
        ("tests.engine", "outer.<locals>.f", "defined inside a function"),
        ("__main__", "f", "typed in"),
        ("no_such_module", "f", "ModuleNotFoundError"),
        ("tests.engine", "Engine.nothing", "has no task Engine.nothing"),
        ("tests.engine", "no.such", "has no task no.such"),
    ],
)
def test_task_that_is_not_to_be_had_is_refused(
    nursery: Nursery, module: str, qualname: str, reason: str
) -> None:
    def script(worker: Worker) -> None:
        worker.run("other", module=module, qualname=qualname)
        refused = worker.hear(Ended)
        assert refused.settlement is None
        assert reason in refused.refusal
        worker.run("f")
        worker.hear(Ended)

    nursery.task(lambda: None)
    nursery.serve(script)


def test_task_is_found_by_its_place_when_its_module_names_it_otherwise(nursery: Nursery) -> None:
    def script(worker: Worker) -> None:
        worker.run("by.another.name", 1, 2, module="tests.acceptance.process_tasks", qualname="add")
        assert 3 == worker.result_of(worker.hear(Ended))

    nursery.serve(script)


# ---- what the code may ask ------------------------------------------------------------


def test_progress_waits_for_its_own_answer(nursery: Nursery) -> None:
    def script(worker: Worker) -> None:
        worker.run("f")
        progress = worker.hear(Progress)
        assert (1, 3.0, 10.0, "three") == (
            progress.token,
            progress.done,
            progress.total,
            progress.text,
        )
        worker.link.send(ProgressKept(progress.seq - 1, is_ours=False))  # of an older question
        worker.link.send(ProgressKept(progress.seq, is_ours=True))
        assert worker.hear(Progress).total is None
        worker.link.send(ProgressKept(progress.seq + 1, is_ours=False))
        assert "LeaseLost" == worker.hear(Ended).settlement.error.type

    def report() -> None:
        current_job().progress(3, 10, "three")
        current_job().progress(4)

    nursery.task(report)
    nursery.serve(script)


def test_progress_of_an_attempt_that_has_ended_is_not_that_of_the_next(nursery: Nursery) -> None:
    jobs: list[CurrentJob] = []

    def keep_job() -> None:
        jobs.append(current_job())
        jobs[0].progress(1)

    def script(worker: Worker) -> None:
        worker.run("f")
        worker.link.send(ProgressKept(worker.hear(Progress).seq, is_ours=True))
        worker.hear(Ended)
        worker.run("f")
        assert "LeaseLost" == worker.hear(Ended).settlement.error.type

    nursery.task(keep_job)
    nursery.serve(script)


def test_trouble_with_the_store_is_raised_where_progress_was_reported(nursery: Nursery) -> None:
    def script(worker: Worker) -> None:
        worker.run("f")
        worker.link.send(ProgressKept(worker.hear(Progress).seq, is_ours=False, fault="disk full"))
        error = worker.hear(Ended).settlement.error
        assert (QueueError.__name__, True) == (error.type, "disk full" in error.message)

    nursery.task(lambda: current_job().progress(1))
    nursery.serve(script)


# ---- hooks ----------------------------------------------------------------------------


def test_no_hook_runs_here_but_its_value_is_sent(nursery: Nursery) -> None:
    calls: list[object] = []

    def script(worker: Worker) -> None:
        for value, has_value, fault in ((7, True, None), (object(), False, "NotStorable")):
            values.append(value)
            worker.run("f", store_result=False)
            ended = worker.hear(Ended)
            assert (JobStatus.SUCCESS, None) == (ended.settlement.status, ended.settlement.result)
            assert has_value == (ended.value == CODEC.encode_value(7))
            assert fault == (ended.fault and ended.fault.type)

    values: list[object] = []
    hooks: dict[str, Any] = {"before_job": lambda: calls.append(1), "after_job": calls.append}
    nursery.task(values.pop, **hooks)
    nursery.serve(script)
    assert [] == calls


# ---- the end --------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot ask")
def test_closed_attempt_is_told_again_when_a_wait_began_as_it_was_told(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that comes just before a wait blocks is lost to it: it would last to its end."""
    interrupt, told = platforms.interrupt_main_thread, []

    def lost_at_first(thread: int) -> None:
        told.append(thread)
        if len(told) > 1:
            interrupt(thread)

    monkeypatch.setattr(platforms, "interrupt_main_thread", lost_at_first)
    has_begun, never = threading.Event(), threading.Event()

    def endless() -> None:
        has_begun.set()
        never.wait()

    nursery.task(endless)
    nursery.serve(closing_once(has_begun))
    assert len(told) > 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot ask")
def test_close_reaches_a_child_between_two_attempts(nursery: Nursery) -> None:
    nursery.serve(lambda worker: worker.link.send(Close()))


def test_only_the_first_end_request_interrupts(nursery: Nursery) -> None:
    nursery.child._is_closing = nursery.child._was_told = True
    nursery.child._obey_end_request()
    nursery.serve(lambda worker: None)


def test_child_that_cannot_answer_leaves(nursery: Nursery) -> None:
    def script(worker: Worker) -> None:
        worker.link.close_source()
        worker.link.send(AskStack(1))

    nursery.serve(script)


def test_forked_process_has_the_usual_signals(nursery: Nursery) -> None:
    nursery.serve(lambda worker: None)
    nursery.child.drop_in_child()
    assert signal.SIG_DFL == signal.getsignal(signal.SIGTERM)
