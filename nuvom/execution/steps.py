"""The code of a coroutine task, run step by step: each of its steps may be interrupted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nuvom.host.fork import end_forked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Generator

    from nuvom.core.guard import Guard
    from nuvom.execution.job_runner import JobRunner
    from nuvom.execution.running import RunningJob


class Steps:
    """Runs a task's coroutine step by step, each of which may be interrupted; asyncio may not."""

    def __init__(self, running: RunningJob, guard: Guard, runner: JobRunner) -> None:
        self._running = running
        self._guard = guard
        self._runner = runner
        self.coroutine: Coroutine[Any, Any, Any] | None = None

    def of(self, awaitable: Awaitable[Any]) -> Steps:
        """Return what to await in the place of what a task's function has returned."""
        self.coroutine = awaitable if asyncio.iscoroutine(awaitable) else _awaiting(awaitable)
        return self

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine: Any = self.coroutine
        try:
            return (yield from self._steps(coroutine))
        finally:
            coroutine.close()  # it may have been closed before its first step

    def _steps(self, coroutine: Any) -> Generator[Any, Any, Any]:
        step, value = coroutine.send, None
        while True:
            try:
                awaited = self._guard.outside(self._running, step, (value,))
            except BaseException as error:
                if self._runner.is_forked:
                    end_forked(error)
                if isinstance(error, StopIteration):
                    return error.value
                raise
            if self._runner.is_forked:  # the loop's other coroutines are the parent's
                end_forked(RuntimeError("a process that a coroutine has forked cannot await"))
            try:
                step, value = coroutine.send, (yield awaited)
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001  # of what was awaited: the coroutine's affair
                step, value = coroutine.throw, error


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
