"""Tasks that do to their worker what they can."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from typing import Any

from nuvom import task
from tests.reliability.tasks import noted

RETRIES = 2


def _die_at_once() -> None:
    os._exit(3)


def _read_nothing() -> None:
    ctypes.string_at(0)


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # the signal is on its way


def _recurse() -> None:
    _recurse()


def _ask_for_all_memory() -> bytearray:
    return bytearray(1 << 60)


def _raise(error: BaseException) -> None:
    raise error


class _Speechless(Exception):  # noqa: N818  # it says nothing about errors
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no text either")


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


DEADLY = {"exit": _die_at_once, "segfault": _read_nothing, "kill": _kill_self}
"""What ends the process."""

HARMFUL: dict[str, Any] = {
    "SystemExit": lambda: _raise(SystemExit(1)),
    "KeyboardInterrupt": lambda: _raise(KeyboardInterrupt()),
    "GeneratorExit": lambda: _raise(GeneratorExit()),
    "RecursionError": _recurse,
    "MemoryError": _ask_for_all_memory,
    "speechless": lambda: _raise(_Speechless()),
}
"""What raises; tried again."""

UNFIT: dict[str, Any] = {
    "lock": threading.Lock,
    "lambda": lambda: lambda: None,
    "cycle": _cycle,
    "half a character": lambda: "\ud800",
    "too large": lambda: bytes(100 << 20),
}
"""What returns something that cannot be kept; not tried again."""


@task(name="rel.deadly_kind")
def deadly_kind(kind: str) -> None:
    with noted():
        DEADLY[kind]()


@task(name="rel.deadly_in_child", isolation="process", retries=RETRIES, retry_delay_secs=0)
def deadly_in_child(kind: str) -> None:
    with noted():
        DEADLY[kind]()


@task(name="rel.harmful", retries=RETRIES, retry_delay_secs=0, retry_on=BaseException)
def harmful(kind: str) -> Any:
    with noted():
        return HARMFUL[kind]()


@task(name="rel.unfit", retries=RETRIES, retry_delay_secs=0, retry_on=BaseException)
def unfit(kind: str) -> Any:
    with noted():
        return UNFIT[kind]()


def _fails(*_: object) -> None:
    raise SystemExit("a hook that wants to end everything")


@task(name="rel.hooked", before_job=_fails, after_job=_fails, on_error=_fails)
def hooked(*, fails: bool) -> int:
    with noted():
        if fails:
            raise ValueError("as asked")
        return 7


_meetings: dict[int, threading.Barrier] = {}
_lock = threading.Lock()


@task(name="rel.meet")
def meet(parties: int) -> int:
    """Return once ``parties`` slots of one worker run this at the same time."""
    with _lock:
        barrier = _meetings.setdefault(parties, threading.Barrier(parties))
    barrier.wait(20)
    return parties
