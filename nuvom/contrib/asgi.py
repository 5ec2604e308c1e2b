"""Nuvom in applications on asyncio: FastAPI, Starlette, Litestar and other ASGI frameworks.

``FastAPI(lifespan=nuvom.asgi.lifespan())`` is all that is needed; ``running()`` is the same for a
lifespan of one's own. No framework is imported here: what a server calls at its start and end is
an asynchronous context manager.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from nuvom.config.project import ensure_state_dir
from nuvom.host.lock import FileLock
from nuvom.runtime import built_runtime, current_runtime, use_runtime
from nuvom.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from nuvom.config.settings import Settings
    from nuvom.runtime import Runtime

_LOCK = "embedded.lock"
_SEVERAL = (
    "Another process also runs embedded workers for this project. They are meant for development "
    "and for programs of one process: with several server processes, start `nuvom runworker` in "
    "place of embedded_workers."
)


def lifespan(*, embedded_workers: int = 0) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return a lifespan for an application: ``FastAPI(lifespan=nuvom.asgi.lifespan())``.

    Args:
        embedded_workers: See ``running``.
    """

    def of(app: object) -> AbstractAsyncContextManager[None]:
        del app
        return running(embedded_workers=embedded_workers)

    return of


@asynccontextmanager
async def running(*, embedded_workers: int = 0) -> AsyncIterator[None]:
    """Use Nuvom while an application runs: ``async with nuvom.asgi.running(): yield``.

    The start opens nothing: the store opens with the first job. The end stops embedded workers,
    whose jobs get ``shutdown_timeout_secs`` to finish before they go back, and closes the store.
    Neither blocks the event loop.

    Args:
        embedded_workers: How many workers to run inside this process, for development and for
            programs of one process. It warns (RuntimeWarning) if another process of the project
            on this machine runs embedded workers as well.
    Raises: with embedded workers ConfigError, QueueError and HooksFailed: the application does not
        start.
    """
    _applications.begin()
    workers = ExitStack()
    try:
        if embedded_workers:
            await _in_thread(_start_workers, embedded_workers, workers)
        yield
    finally:
        await _in_thread(_end, workers)


def _start_workers(count: int, stack: ExitStack) -> None:
    runtime = current_runtime()
    _warn_if_several(runtime.settings, stack)
    workers = [Worker(runtime) for _ in range(count)]
    for worker in workers:
        worker.start()
        stack.callback(worker.end)
    for worker in workers:
        stack.callback(worker.stop)  # called first: they all finish at the same time


def _warn_if_several(settings: Settings, stack: ExitStack) -> None:
    if settings.queue_backend == "memory":
        return  # no other process has these jobs
    lock = FileLock(ensure_state_dir(settings.root) / _LOCK)
    if lock.acquire():
        stack.callback(lock.remove)
    else:
        warnings.warn(_SEVERAL, RuntimeWarning, stacklevel=2)


def _end(workers: ExitStack) -> None:
    try:
        workers.close()
    finally:
        _applications.end()


class _Applications:
    """Those of this process that are running: the last one to end closes the runtime.

    A runtime that the first one found belongs to somebody else, such as a test.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._found: Runtime | None = None

    def begin(self) -> None:
        with self._lock:
            if not self._count:
                self._found = built_runtime()
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count or built_runtime() is self._found:
                return
            runtime = use_runtime(None)
        if runtime is not None:
            runtime.stop()


_applications = _Applications()


async def _in_thread(call: Callable[..., None], *args: Any) -> None:
    """Call in a thread. If the wait is cancelled, it ends only after the call."""
    future = asyncio.ensure_future(asyncio.to_thread(call, *args))
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
