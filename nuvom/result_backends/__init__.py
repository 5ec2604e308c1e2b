"""Result backends. Each is imported on first access."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuvom.result_backends.base import BaseResultBackend
    from nuvom.result_backends.file import FileResultBackend
    from nuvom.result_backends.memory import MemoryResultBackend
    from nuvom.result_backends.sqlite import SQLiteResultBackend

_HOMES = {
    "BaseResultBackend": "nuvom.result_backends.base",
    "MemoryResultBackend": "nuvom.result_backends.memory",
    "FileResultBackend": "nuvom.result_backends.file",
    "SQLiteResultBackend": "nuvom.result_backends.sqlite",
}

__all__ = [
    "BaseResultBackend",
    "FileResultBackend",
    "MemoryResultBackend",
    "SQLiteResultBackend",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
