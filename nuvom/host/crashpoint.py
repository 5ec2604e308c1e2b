"""Named places at which a fault test may end the process; anywhere else they do nothing.

One stands wherever a death in that very moment has to be survived: before and after a commit, a
rename, a flush, a mark in a slot file. Only ``tests.lab.crashing`` arms them: no setting and
no environment variable reaches a process that does not run under the test package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_action: Callable[[str], None] | None = None


def crashpoint(name: str) -> None:
    """Do nothing, unless a fault test wants to know that ``name`` was reached."""
    if _action is not None:
        _action(name)


def arm(action: Callable[[str], None] | None) -> None:
    """Have ``action`` called with the name of each point reached from now on; None: no more."""
    global _action  # noqa: PLW0603  # one for the process, like its death
    _action = action
