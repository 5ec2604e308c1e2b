"""How code in a thread is told that its attempt was closed: by an exception out of nowhere."""

from __future__ import annotations


class AttemptClosed(BaseException):
    """Raised in a thread whose attempt was closed: timed out, cancelled, or lease lost."""


def tell_thread(ident: int) -> None:
    """Have ``AttemptClosed`` raised in a thread when it next runs Python code.

    It cannot be taken back: CPython 3.11 would then look for it for ever, and a process that
    is traced (coverage, a debugger) would not get past the next call.
    """
    import ctypes  # noqa: PLC0415  # most workers never tell a thread

    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(AttemptClosed)
    )
