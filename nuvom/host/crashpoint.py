"""Named points at which a fault test may kill the process; otherwise they do nothing.

There is one wherever the store must survive a death at that exact moment: before and after a
commit, a rename, a flush, a mark in a slot file. Only ``tests.lab.crashing`` arms them. No setting
or environment variable can arm them outside the test package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_action: Callable[[str], None] | None = None


def crashpoint(name: str) -> None:
    """Do nothing, unless a fault test has armed the crash points."""
    if _action is not None:
        _action(name)


def arm(action: Callable[[str], None] | None) -> None:
    """Call ``action`` with the name of each point that is reached; None disarms the points."""
    global _action  # noqa: PLW0603  # one for the process, like its death
    _action = action
