"""A lane's surroundings: a real runner, and lists of what the lane tells its worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import copy
from pathlib import Path
from random import Random
from typing import Any

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.options import task_options
from nuvom.core.outcome import Settlement
from nuvom.core.record import JobRecord
from nuvom.events import Event, EventBus
from nuvom.execution.attempts import OpenAttempt, OpenAttempts
from nuvom.execution.job_runner import JobRunner
from nuvom.execution.lanes import WorkerContext
from nuvom.registry.registry import Registry, TaskDefinition
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.testing import make_job
from tests.engine import wait_until

_RECORD_FIELDS = frozenset(JobRecord.__struct_fields__)


class Bench:
    """Makes attempts of functions, and sees what becomes of them: the host of a lane.

    Attributes:
        finished, crashes, started: What was told, in order.
        idles: How often the lane had nothing to do.
        refuses: Attempts that may not start.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, **settings: Any) -> None:
        self.codec = MsgpackCodec()
        self.registry = Registry()
        self.bus = EventBus()
        self.clock = clock
        self.seen: list[Event] = []
        self.is_stopping = False
        self.bus.subscribe(Event, self._note)
        self.started: list[JobRecord] = []
        made = Settings(root=Path.cwd(), **settings)
        self.runner = JobRunner(
            self.registry,
            self.codec,
            made,
            bus=self.bus,
            clock=clock,
            rng=Random(1),
            mark_started=self.started.append,
        )
        self.attempts = OpenAttempts()
        self.finished: list[OpenAttempt] = []
        self.crashes: list[BaseException] = []
        self.idles = 0
        self.refuses: set[OpenAttempt] = set()
        self.news = threading.Condition()
        nothing: Any = None
        self.context = WorkerContext(
            worker="worker",
            services=nothing,
            queue=nothing,
            stores=nothing,
            runner=self.runner,
            settings=made,
            clock=clock,
            bus=self.bus,
            attempts=self.attempts,
            lease_secs=30.0,
        )

    def work(self, func: Callable[..., Any], *args: Any, **options: Any) -> OpenAttempt:
        """Return an attempt of ``func(*args)``, open.

        Args:
            options: Of the task, or fields of the record.
        """
        fields = {name: options.pop(name) for name in list(options) if name in _RECORD_FIELDS}
        name = f"tests.{func.__name__}"
        definition = TaskDefinition(name, func, task_options(options))
        self.registry.register(definition, force=True)
        self.runner._tasks.pop(name, None)
        record = make_job(name, *args, **{"attempt": 1, "lease_epoch": 1, **fields})
        running = OpenAttempt(record, "worker", self, self.clock.monotonic())
        task = self.runner.resolve(running)
        assert task is not None
        running.lane = task.lane
        self.attempts.add([running])
        running.task = task
        return running

    def occupy(self, lane: Any, gate: Any, count: int = 1) -> list[OpenAttempt]:
        """Return attempts that wait at a gate, now that they run."""
        attempts = [self.work(gate.wait) for _ in range(count)]
        lane.submit(attempts)
        gate.is_running(count)
        return attempts

    def close(self, lane: Any, attempt: OpenAttempt) -> None:
        """Close an attempt as maintenance does."""
        assert self.attempts.close(attempt)
        lane.close_attempt(attempt)

    def wait_for(self, count: int = 1) -> list[Settlement]:
        """Return what was finished, as soon as it is so many."""
        wait_until(lambda: len(self.finished) >= count, self.news)
        return [one.settlement for one in self.finished]

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        wait_until(is_so, self.news)

    def events(self, kind: type[Event]) -> list[Any]:
        return [event for event in list(self.seen) if isinstance(event, kind)]

    def value(self, settlement: Settlement) -> Any:
        """Return what a successful task returned."""
        assert settlement.result is not None, settlement.error
        return self.codec.decode_value(settlement.result, shaped=True)

    def but(self, **methods: Any) -> Any:
        """Return a host of a lane that does some things otherwise."""
        host = copy(self)
        vars(host).update(methods)
        return host

    # ---- the host of a lane -------------------------------------------------------------

    def may_start(self, running: OpenAttempt) -> bool:
        return running in self.attempts.unclosed and running not in self.refuses

    def finish(self, running: OpenAttempt, settlement: Settlement) -> None:
        with self.news:
            running.settlement = settlement
            self.finished.append(running)
            self.news.notify_all()

    settle_now = finish

    def idle(self) -> None:
        with self.news:
            self.idles += 1
            self.news.notify_all()

    def crashed(self, error: BaseException) -> None:
        self.crashes.append(error)

    # ---- services of running code -------------------------------------------------------

    def report_progress(self, *_: Any) -> bool:
        return True

    def make_record(self, *_: Any, **_more: Any) -> JobRecord:
        raise NotImplementedError

    def _note(self, event: Event) -> None:
        with self.news:
            self.seen.append(event)
            self.news.notify_all()
