"""Calls into plugins: each in a thread of its own, with a time limit."""

from __future__ import annotations

import sys
import threading
import traceback
from contextvars import copy_context
from typing import TYPE_CHECKING

from nuvom.core.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.clock import Clock

START_LIMIT_SECS = 10.0
STOP_LIMIT_SECS = 5.0


def call_limited(
    call: Callable[[], object], hook: str, limit_secs: float, *, clock: Clock = SYSTEM_CLOCK
) -> BaseException | None:
    """Call a plugin's ``hook``; return what it raised, or a TimeoutError that tells where it hangs.

    One that hangs is abandoned: its thread is a daemon, and does not keep the process alive.
    """
    caught: list[BaseException] = []
    done = threading.Event()

    def body() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # a plugin's code, SystemExit too
            caught.append(error)
        finally:
            done.set()

    context = copy_context()
    thread = threading.Thread(target=context.run, args=(body,), name="nuvom-plugin", daemon=True)
    thread.start()
    if clock.wait(done, limit_secs):
        return caught[0] if caught else None
    late = TimeoutError(f"{hook} did not return within {limit_secs:g} s")
    place = _place_of(thread)
    if place:
        late.add_note(f"It is still here:\n{place}")
    return late


def _place_of(thread: threading.Thread) -> str:
    """Return the stack of a thread, from where it left this module."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001  # documented, and the only way
    if frame is None:
        return ""
    stack = traceback.extract_stack(frame)
    ours = [number for number, one in enumerate(stack) if one.filename == __file__]
    return "".join(traceback.format_list(stack[ours[-1] + 1 :] if ours else stack)).rstrip("\n")
