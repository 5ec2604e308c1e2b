"""How a child of the process lane is started, and how code tells that it runs in one."""

from __future__ import annotations

import sys

from nuvom.errors import Refused

# A child imports what its worker would: the path comes first, before anything of ours is found.
# It is read byte by byte, to leave the frames behind it alone.
PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.stdin.buffer.raw.readline()); "
    "from nuvom.execution.child_main import main; main()"
)


def is_child() -> bool:
    """Return whether this process is a child of a process lane."""
    return PROGRAM in sys.orig_argv


def refuse_in_child() -> None:
    """Raises: Refused: this process is a child of a process lane, and would start another."""
    if is_child():
        raise Refused(
            "a child of the process lane was about to start a worker",
            "A module with tasks must start none when it is imported: put that part of it "
            "under `if __name__ == '__main__':`.",
        )
