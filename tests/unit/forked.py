"""A forked child that acts first, and its parent that acts while the child still lives."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def in_child_and_parent(in_child: Callable[[], bool], in_parent: Callable[[], None]) -> None:
    """Fork, and fail if ``in_child`` returns False in the child."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(ready[1], b"1" if in_child() else b"0")
        os.read(go[0], 1)
        os._exit(0)
    try:
        assert os.read(ready[0], 1) == b"1"
        in_parent()
    finally:
        os.write(go[1], b"1")
        os.waitpid(pid, 0)
        for end in (*ready, *go):
            os.close(end)
