"""Helpers for tests of tasks, applications and plugins. Each name is imported on first access.

Importing this package loads neither pytest nor Hypothesis. ``nuvom.testing.conformance`` holds the
laws that every backend must keep.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuvom.testing.builders import make_job, make_settlement
    from nuvom.testing.clock import FakeClock

_HOMES = {
    "FakeClock": "nuvom.testing.clock",
    "make_job": "nuvom.testing.builders",
    "make_settlement": "nuvom.testing.builders",
}

__all__ = ["FakeClock", "make_job", "make_settlement"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
