"""Keeps a thread that runs task code from being interrupted inside the engine.

A lane's thread runs engine code, except while it calls a user's function. User code re-enters the
engine with each call of Nuvom's API. The thread's ``Guard`` records which of the two it is in, and
is checked before the thread is interrupted: an exception is raised in user code or not at all. It
sits below everything else, so that all entry points can pass through it.

There is no lock. CPython switches threads, and raises an exception requested by another thread, at
the same points: after a call of C code, at a function's start, at a backward jump. Between two of
these points nothing happens, so reads and writes there without a call are atomic. A thread that is
in user code gets the exception exactly where it stands. (This needs the interpreter lock; see
``docs/decisions/0019-interruptions.md``.)
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
"""How often a wait inside the engine checks whether the waiting code was closed."""


class AttemptClosed(BaseException):
    """Raised in task code whose attempt was closed: timed out, cancelled, or lease lost."""


class Closable(Protocol):
    """User code that may be closed while it runs.

    Attributes:
        is_closed: Nothing it does counts any longer.
        is_told: ``AttemptClosed`` was raised in it, or is about to be.
    """

    is_closed: bool
    is_told: bool


class UserCall:
    """A call of user code that is not an attempt, such as a hook after the commit."""

    def __init__(self) -> None:
        self.is_closed = False
        self.is_told = False


class Guard:
    """Knows when one thread may be interrupted.

    Attributes:
        code: The user code that runs in the thread, also while it calls the engine.
        is_inside: Whether the thread runs engine code.
        is_forked: Whether user code forked this process. It then ends with that code, since
            everything after that belongs to the parent.
    """

    __slots__ = ("__weakref__", "_ident", "code", "is_forked", "is_inside")

    def __init__(self) -> None:
        self._ident = 0
        self.code: Closable | None = None
        self.is_inside = True
        self.is_forked = False
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Make a forked process end when the code that forked it returns."""
        self.is_forked = True

    def run(self, work: Callable[..., None], *args: Any) -> None:
        """Run engine code in this thread, which belongs to the guard from then on."""
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
        """Call a user's function, during which the thread may be interrupted.

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
            # Since Python 3.13 an exception requested at the function's last switch point is raised
            # at the next one, which is this call.
            threading.get_ident()

    def inside(
        self, function: Callable[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> R:
        """Call an engine function from user code.

        Raises: AttemptClosed: that code was closed in the meantime.
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
        """Close user code and interrupt it, from another thread.

        Returns: False while it is inside the engine; call again until it has left. Any wait in
        there ends at once.
        """
        ask, ident = _asker(), self._ident  # created first: no calls are allowed after this line
        code.is_closed = True
        if self.code is not code or code.is_told:
            return True
        if self.is_inside:
            return False
        code.is_told = True
        ask(ident, AttemptClosed)
        return True

    def interrupt(self, code: Closable, error: type[Exception]) -> bool:
        """Raise ``error()`` in user code that may handle it, from another thread.

        Returns: False while that code is not running, or is inside the engine; call again then.
        """
        ask, ident = _asker(), self._ident  # created first: no calls are allowed after this line
        if self.is_inside or self.code is not code or code.is_closed:
            return False
        ask(ident, error)
        return True


class _OfThread(threading.local):
    guard: Guard | None = None


of_thread = _OfThread()
"""``of_thread.guard`` is this thread's guard; None if the thread is never interrupted."""


def engine_call(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function as an API for task code, which is not interrupted inside it."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        guard = of_thread.guard
        if guard is None or guard.is_inside:
            return function(*args, **kwargs)
        return guard.inside(function, args, kwargs)

    return call


def users_items(items: Iterable[R]) -> Iterable[R]:
    """Return the same items; the user code that produces them may be interrupted."""
    guard = of_thread.guard
    if guard is None or guard.code is None:
        return items
    return _outside_each(guard, guard.code, iter(items))


def _outside_each(guard: Guard, code: Closable, items: Iterator[R]) -> Iterator[R]:
    done: Any = object()
    while (item := guard.outside(code, next, (items, done))) is not done:
        yield item


def is_closed_here() -> bool:
    """Whether the user code that runs in this thread was closed, so that waits must end."""
    guard = of_thread.guard
    return guard is not None and guard.code is not None and guard.code.is_closed


@cache
def _asker() -> Callable[[int, type[BaseException]], int]:
    """Return a function that raises an exception in a thread, at the point where it stands.

    The request cannot be withdrawn: CPython 3.11 would then check for it forever, and a traced
    process (coverage, a debugger) would not get past the next call.
    """
    import ctypes  # noqa: PLC0415  # most workers never interrupt a thread

    ask: Any = ctypes.pythonapi.PyThreadState_SetAsyncExc
    ask.argtypes = [ctypes.c_ulong, ctypes.py_object]
    return cast("Callable[[int, type[BaseException]], int]", ask)
