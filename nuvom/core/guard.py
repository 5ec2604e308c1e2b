"""Keeps a thread that runs task code from being interrupted inside the engine.

A thread of a lane runs code of the engine, but for the calls of a user's function; from there it
comes back into the engine with each call of Nuvom's API. Its ``Guard`` says which of both it is in,
and is asked before the thread is interrupted: an exception is raised in code of a user's or not at
all. Below everything, so that all entries can pass through it.

There is no lock. CPython switches threads, and raises an exception that another thread has asked
for, at the same points: after a call of C code, at a function's start, at a backward jump. Between
two of them nothing happens: what is read and set there without a call is one step. A thread that
stands in code of a user's gets the exception at the very point at which it stands. (This needs the
interpreter lock; see ``docs/decisions/0019-interruptions.md``.)
"""

from __future__ import annotations

import threading
from functools import cache, wraps
from sys import exception
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

from nuvom.host.fork import drop_at_fork, end_forked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

P = ParamSpec("P")
R = TypeVar("R")

LOOK_SECS = 0.05
"""A wait inside the engine looks so often whether the code that waits was closed."""


class AttemptClosed(BaseException):
    """Raised in task code whose attempt was closed: timed out, cancelled, or lease lost."""


class Closable(Protocol):
    """Code of a user's that may be closed while it runs.

    Attributes:
        is_closed: Nothing it does counts any more.
        is_told: ``AttemptClosed`` was raised in it, or is about to be.
    """

    is_closed: bool
    is_told: bool


class UserCall:
    """A call of a user's code that is no attempt, such as a hook after the commit."""

    def __init__(self) -> None:
        self.is_closed = False
        self.is_told = False


class Guard:
    """One thread's: says when it may be interrupted.

    Attributes:
        code: The code of a user's that runs in the thread, also while it calls the engine.
        is_inside: The thread runs code of the engine.
        is_forked: This process is a fork that code of a user's has made, and ends with that code:
            what would follow is the parent's.
    """

    __slots__ = ("__weakref__", "_ident", "code", "is_forked", "is_inside")

    def __init__(self) -> None:
        self._ident = 0
        self.code: Closable | None = None
        self.is_inside = True
        self.is_forked = False
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Have a forked process end where the code that has forked comes to its end."""
        self.is_forked = True

    def run(self, work: Callable[..., None], *args: Any) -> None:
        """Run the engine's code in this thread, which is the guard's from now on."""
        self._ident = threading.get_ident()
        of_thread.guard = self
        try:
            work(*args)
        finally:
            of_thread.guard = None

    def outside(
        self,
        code: Closable,
        function: Callable[..., R],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = {},  # only read
    ) -> R:
        """Call a function of a user's, where the thread may be interrupted.

        Raises: AttemptClosed: ``code`` was closed; whatever the function raises.
        """
        before = self.code
        try:
            self.code = code
            self.is_inside = False
            if code.is_closed and not code.is_told:
                code.is_told = True
                raise AttemptClosed
            return function(*args, **kwargs)
        finally:
            self.is_inside = True
            self.code = before
            if self.is_forked and before is None:
                end_forked(exception())
            # Since Python 3.13 what was asked for at the function's last point comes with the next
            # one, and that is this call.
            threading.get_ident()

    def inside(
        self, function: Callable[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> R:
        """Call a function of the engine from code of a user's.

        Raises: AttemptClosed: that code was closed meanwhile.
        """
        code = self.code
        try:
            self.is_inside = True
            return function(*args, **kwargs)
        finally:
            self.is_inside = False
            if code is not None and code.is_closed and not code.is_told:
                code.is_told = True
                raise AttemptClosed

    def close(self, code: Closable) -> bool:
        """Close code of a user's and interrupt it, from another thread.

        Returns: False when it is inside the engine: try again, as long as it is there. What it
        waits for there ends at once.
        """
        ask, ident = _asker(), self._ident  # made before: from here on there is no call
        code.is_closed = True
        if self.code is not code or code.is_told:
            return True
        if self.is_inside:
            return False
        code.is_told = True
        ask(ident, AttemptClosed)
        return True


class _OfThread(threading.local):
    guard: Guard | None = None


of_thread = _OfThread()
"""``of_thread.guard`` is the guard of this thread; None where nobody interrupts it."""


def engine_call(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function one that task code calls: it is not interrupted in there."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        guard = of_thread.guard
        if guard is None or guard.is_inside:
            return function(*args, **kwargs)
        return guard.inside(function, args, kwargs)

    return call


def users_items(items: Iterable[R]) -> Iterable[R]:
    """Return what gives the same items, and is interrupted while a user's code makes them."""
    guard = of_thread.guard
    if guard is None or guard.code is None:
        return items
    return _outside_each(guard, guard.code, iter(items))


def _outside_each(guard: Guard, code: Closable, items: Iterator[R]) -> Iterator[R]:
    done: Any = object()
    while (item := guard.outside(code, next, (items, done))) is not done:
        yield item


def is_closed_here() -> bool:
    """Whether the code of a user's that runs in this thread was closed: waits end."""
    guard = of_thread.guard
    return guard is not None and guard.code is not None and guard.code.is_closed


@cache
def _asker() -> Callable[[int, type[BaseException]], int]:
    """Return what has an exception raised in a thread, at the point at which it stands.

    It cannot be taken back: CPython 3.11 would then look for it for ever, and a process that
    is traced (coverage, a debugger) would not get past the next call.
    """
    import ctypes  # noqa: PLC0415  # most workers never interrupt a thread

    ask: Any = ctypes.pythonapi.PyThreadState_SetAsyncExc
    ask.argtypes = [ctypes.c_ulong, ctypes.py_object]
    return cast("Callable[[int, type[BaseException]], int]", ask)
