"""Lets objects release what a forked child must not keep: locks, sockets, connections.

A child inherits its parent's descriptors. Left open, they hold the parent's lock after its death
and take datagrams meant for it. Objects that cannot be released in the child must be idle during
the fork.
"""

from __future__ import annotations

import os
import sys
from threading import RLock
from typing import NoReturn, Protocol
from weakref import WeakSet


class Droppable(Protocol):
    """An object with ``drop_in_child``; it must be hashable and weakly referenceable."""

    def drop_in_child(self) -> None:
        """Close inherited descriptors without affecting the parent."""
        ...


class Restless(Protocol):
    """An object that must not be in use during a fork; hashable and weakly referenceable."""

    def hold_for_fork(self) -> None:
        """Become idle, and block all users until ``go_on_after_fork`` is called in the parent."""
        ...

    def go_on_after_fork(self) -> None:
        """Resume in the parent."""
        ...


# Hooks of ``register_at_fork`` cannot be removed, so one hook serves all objects still alive.
_droppables: WeakSet[Droppable] = WeakSet()
_restless: WeakSet[Restless] = WeakSet()
_held: list[Restless] = []
_one_fork_at_a_time = RLock()


def drop_at_fork(thing: Droppable) -> None:
    """Register ``thing`` to have ``drop_in_child`` called in every forked child."""
    _droppables.add(thing)


def rest_at_fork(thing: Restless) -> None:
    """Register ``thing`` to be held idle while this process forks."""
    _restless.add(thing)


def end_forked(error: BaseException | None) -> NoReturn:
    """End this forked process once its own code is done: the rest is for the parent.

    Args:
        error: The exception that ended its code, None if it completed.
    """
    from traceback import print_exception  # noqa: PLC0415  # not with every import of the package

    if isinstance(error, StopIteration):  # a coroutine has returned
        error = None
    code = 0 if error is None else 1
    try:
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            code = (error.code or 0) & 0xFF
        elif error is not None:
            print_exception(error)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)


def _hold_all() -> None:
    _one_fork_at_a_time.acquire()
    for thing in tuple(_restless):
        thing.hold_for_fork()
        _held.append(thing)


def _go_on() -> None:
    while _held:
        _held.pop().go_on_after_fork()
    _one_fork_at_a_time.release()


def _drop_all() -> None:
    global _one_fork_at_a_time  # noqa: PLW0603  # the parent's lock stays locked forever in this process
    _one_fork_at_a_time = RLock()
    _held.clear()
    for thing in tuple(_droppables):
        thing.drop_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(before=_hold_all, after_in_parent=_go_on, after_in_child=_drop_all)
