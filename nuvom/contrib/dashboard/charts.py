"""Charts as SVG: the shapes that templates draw, computed from numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAD = 1.0  # what stays free above, so that the highest point is not cut off


def line(values: Sequence[float], width: float, height: float, top: float | None = None) -> str:
    """Return the path of a line chart: the scale starts at zero, and ``top`` is its upper end."""
    most = (max(values, default=0) if top is None else top) or 1
    step, room = width / max(1, len(values) - 1), height - (_PAD if top is None else 0)
    points = (
        f"{place * step:.1f} {height - room * value / most:.1f}"
        for place, value in enumerate(values)
    )
    return f"M{' '.join(points)}" if values else "M0 0"


def bar_width(count: int, width: float) -> float:
    """Return how wide each of ``count`` bars is, with a third of it free between two."""
    return round(width / max(1, count) * 2 / 3, 1)


def bars(values: Sequence[float], width: float, height: float, top: float | None = None) -> str:
    """Return the path of vertical bars that stand on the base line."""
    most, step = (max(values, default=0) if top is None else top) or 1, width / max(1, len(values))
    found = (
        f"M{(place + 0.5) * step:.1f} {height:g}V{height - (height - _PAD) * value / most:.1f}"
        for place, value in enumerate(values)
        if value
    )
    return "".join(found) or "M0 0"


def hanging(values: Sequence[float], width: float, height: float, top: float) -> str:
    """Return the path of bars that hang down from the upper edge; each can be seen."""
    step = width / max(1, len(values))
    found = (
        f"M{(place + 0.5) * step:.1f} 0V{max(1.8, height * value / (top or 1)):.1f}"
        for place, value in enumerate(values)
        if value
    )
    return "".join(found) or "M0 0"


def scale(most: float) -> tuple[int, ...]:
    """Return the labels of an axis from zero, at most four, the last not below ``most``."""
    step = 1
    while 3 * step < most:
        step = _next_round(step)
    return tuple(step * place for place in range(4)) if most > 1 else (0, 1)


def _next_round(step: int) -> int:
    """Return the next of 1, 2, 5, 10, 20, 50, ..."""
    first = int(str(step)[0])
    return step * 5 // 2 if first == 2 else step * 2  # noqa: PLR2004  # 1, 2, 5 and so on
