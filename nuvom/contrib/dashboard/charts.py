"""Charts as SVG: the shapes that templates draw, computed from numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def line(values: Sequence[float], width: float, height: float, top: float | None = None) -> str:
    """Return the path of a line chart: the scale starts at zero, and ``top`` is its upper end."""
    most = (max(values, default=0) if top is None else top) or 1
    step = width / max(1, len(values) - 1)
    points = (
        f"{place * step:.1f} {height - height * value / most:.1f}"
        for place, value in enumerate(values)
    )
    return f"M{' '.join(points)}"
