"""A project's settings, the sources of their values, and the location of the project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuvom.config.settings import Settings

__all__ = ["Settings"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from nuvom.config import settings  # noqa: PLC0415  # loads msgspec, when first asked for

        return getattr(settings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
