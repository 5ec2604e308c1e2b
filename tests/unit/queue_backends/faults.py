"""Faults at the border to the operating system: the n-th call fails, or the process dies there."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

CALLS = ("write", "fdatasync", "fsync", "ftruncate", "unlink", "replace", "rename", "link", "mkdir")


class Faults:
    """Counts calls that change something, and does something else at one of them.

    ``at`` is the number of the call, from 0; nothing happens when it is never reached.
    """

    def __init__(
        self, at: int, fault: Callable[[Callable[..., Any], tuple[Any, ...]], Any]
    ) -> None:
        self.count = 0
        self.reached = ""
        self._at = at
        self._fault = fault

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            monkeypatch.setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if number != self._at:
                return real(*args, **options)
            self.reached = name
            return self._fault(real, args)

        return call


def die_before(real: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(real: Callable[..., Any], args: tuple[Any, ...]) -> None:
    real(*args)
    os.kill(os.getpid(), signal.SIGKILL)


def die_within(real: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Die in the middle of a write; before any other call."""
    if len(args) == 2 and not isinstance(args[1], int | str):
        real(args[0], bytes(args[1])[: len(args[1]) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def fail(code: int) -> Callable[[Callable[..., Any], tuple[Any, ...]], Any]:
    def raising(real: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if code == errno.ENOSPC and len(args) == 2 and not isinstance(args[1], int | str):
            real(args[0], bytes(args[1])[: len(args[1]) // 2])  # a disk fills up in the middle
        raise OSError(code, os.strerror(code))

    return raising


@contextmanager
def in_child() -> Iterator[bool]:
    """Yield True in a forked child, which ends behind the block, and False in the parent.

    The parent waits for the child and goes on behind the block.
    """
    pid = os.fork()
    if pid == 0:
        try:
            yield True
        except BaseException:  # noqa: BLE001  # the child must not go on with the parent's tests
            import traceback

            traceback.print_exc()
            os._exit(9)
        os._exit(0)
    yield False
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed"
