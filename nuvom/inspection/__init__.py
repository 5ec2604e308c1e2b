"""Read access to everything stored, for all that shows it: commands, dashboard, metrics.

``Inspector`` reads; ``views`` and ``formats`` turn what it read into plain data and text;
``overview`` sums up a whole project.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuvom.inspection.inspector import Inspector

__all__ = ["Inspector"]


def __getattr__(name: str) -> Any:
    # Not at the top: help needs only ``formats``, and the inspector loads the engine.
    if name != "Inspector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("nuvom.inspection.inspector").Inspector
