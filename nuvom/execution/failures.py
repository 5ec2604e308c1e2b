"""Turns any exception, however broken, into three texts and a fingerprint.

Exceptions are never stored as objects. Reporting must not fail: not on a ``__str__`` that
raises, not after a RecursionError, not when memory is low.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, TypeVar

from nuvom.core.record import StoredError
from nuvom.errors import NuvomError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

R = TypeVar("R")

_MESSAGE_CHARS = 8_192
_TRACEBACK_CHARS = 65_536
_FRAMES = 60  # innermost frames kept of each traceback
_THREADING = f'"{threading.__file__}"'
_WALKING = threading.RLock()  # a signal handler may walk during a walk
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def stored_error(task: str, error: BaseException) -> StoredError:
    """Return the stored form of an exception that a task raised."""
    try:
        frames = users_frames(error)
        return StoredError(
            type(error).__name__,
            _clean(_text_of(error), _MESSAGE_CHARS),
            _clean(_formatted(error, frames), _TRACEBACK_CHARS),
            fingerprint(task, type(error).__name__, frames),
        )
    except (MemoryError, RecursionError):  # nothing left to format with
        return StoredError(type(error).__name__, "its report could not be made", None, task)


def fingerprint(task: str, type_name: str, frames: TracebackType | None = None) -> str:
    """Return a short text that is equal for failures of one type, task and place.

    The place is the innermost frame outside installed packages, by file and function. It leaves
    out the line number, which changes with every edit.
    """
    from hashlib import blake2b  # noqa: PLC0415  # not needed to start a worker

    place = ""
    while frames is not None:
        code = frames.tb_frame.f_code
        is_theirs = f"{os.sep}site-packages{os.sep}" in code.co_filename
        if not is_theirs and not code.co_filename.startswith("<frozen"):
            place = f"{os.path.basename(code.co_filename)}:{code.co_qualname}"
        frames = frames.tb_next
    text = f"{task}\n{type_name}\n{place}"
    return blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()


def _walk(walk: Callable[[], R]) -> R:
    """Return ``walk()``, with garbage collection off while it walks the stacks of other threads.

    Before Python 3.12 a collection may begin when a frame object is created, and its callbacks may
    let other threads run: the walk would then read a frame that no longer exists. Two concurrent
    walks would switch the collection back on during each other.
    """
    with _WALKING:
        if not gc.isenabled():
            return walk()
        gc.disable()
        try:
            return walk()
        finally:
            gc.enable()


def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by thread ident."""
    return _walk(sys._current_frames)  # noqa: SLF001  # documented, and the only way to get them


def stack_of(frame: FrameType) -> str:
    """Return a thread's stack as text; ``frame`` is from ``sys._current_frames()``."""

    def frames() -> list[tuple[FrameType, int]]:
        found = []
        at: FrameType | None = frame
        while at is not None:
            found.append((at, at.f_lineno))
            at = at.f_back
        return found

    return _shown(traceback.StackSummary.extract(reversed(_walk(frames))).format())


def stack_of_coroutine(coroutine: object) -> str:
    """Return where a coroutine waits, and for what, as text."""
    frames: list[tuple[FrameType, int]] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        awaited = getattr(coroutine, "cr_await", None)
        coroutine = getattr(coroutine, "gi_yieldfrom", None) if awaited is None else awaited
    return _shown(traceback.StackSummary.extract(frames).format())


def _shown(lines: list[str]) -> str:
    """Keep the user's part of a stack, or all of it if there is none."""
    lines = lines[-_FRAMES:]
    own = [line for line in lines if _PACKAGE not in line and _THREADING not in line]
    return _clean("".join(own or lines), _TRACEBACK_CHARS)


def _text_of(error: BaseException) -> str:
    try:
        return f"{error.what} {error.fix}" if isinstance(error, NuvomError) else str(error)
    except Exception as failure:  # noqa: BLE001  # the user's __str__: any failure is only reported
        return f"<its text could not be made: {type(failure).__name__}>"


def _formatted(error: BaseException, frames: TracebackType | None) -> str:
    try:
        lines = traceback.TracebackException(
            type(error), error, frames, limit=-_FRAMES, compact=True
        ).format()
        return "".join(lines)
    except Exception as failure:  # noqa: BLE001  # more user code, such as __repr__ or __notes__
        return f"{type(error).__name__}: <no traceback: {type(failure).__name__}>"


def users_frames(error: BaseException) -> TracebackType | None:
    """Skip the engine's own frames at the outer end.

    If all frames are the engine's, an error that it raises on purpose explains itself and needs
    none of them. Anything else is a bug in the engine, and the frames are the only clue.
    """
    first = frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        frames = frames.tb_next
    return frames if frames is not None or isinstance(error, NuvomError) else first


def _clean(text: str, limit: int) -> str:
    """Cut ``text`` in the middle, and escape what UTF-8 cannot encode."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()
