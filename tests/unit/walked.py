"""Reads the stack of a thread that goes on in the middle of it: ``python -m``, for a child.

Before Python 3.12 a garbage collection may begin where a frame object is made, and let other
threads run there. What is read then is memory that the walked thread has used anew.
"""

from __future__ import annotations

import gc
import sys
import threading

from nuvom.execution.failures import current_frames, stack_of
from tests.engine import LIMIT_SECS

DEPTH = 30
MOST_STEPS = 8


class Walked(threading.Thread):
    """Waits deep in its stack, then leaves it and uses the memory for other frames."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.is_deep, self.may_go, self.has_gone = (threading.Event() for _ in range(3))

    def run(self) -> None:
        self.go_down(DEPTH)
        for number in range(500):
            self.fill(*range(number % 50))
        self.has_gone.set()

    def go_down(self, depth: int) -> None:
        if depth:
            self.go_down(depth - 1)
        else:
            self.is_deep.set()
            self.may_go.wait(LIMIT_SECS)

    def fill(self, *values: int) -> list[float]:
        return [float(one) for one in values]


def walk(step: int) -> str:
    """Return the stack of a thread that goes on at the ``step``-th collection during the walk."""
    thread, steps = Walked(), iter(range(step - 1, -1, -1))

    def let_go(phase: str, _: dict[str, int]) -> None:
        is_within = phase == "start" and sys._getframe(1).f_code.co_name == "walk_stack"
        if is_within and next(steps, None) == 0:
            thread.may_go.set()
            thread.has_gone.wait(LIMIT_SECS)

    thread.start()
    assert thread.is_deep.wait(LIMIT_SECS)
    frame = current_frames()[thread.ident or 0]
    gc.callbacks.append(let_go)
    gc.set_threshold(1)
    try:
        return stack_of(frame)
    finally:
        gc.callbacks.remove(let_go)
        thread.may_go.set()
        thread.join(LIMIT_SECS)


if __name__ == "__main__":
    for number in range(MOST_STEPS):
        assert "in go_down" in walk(number + 1)
    print("sound")
