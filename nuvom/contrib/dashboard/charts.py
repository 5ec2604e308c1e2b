"""Charts as SVG: the shapes and labels that templates draw, computed from numbers.

Templates fill them into elements, so that autoescaping stays on and no style is inline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nuvom.inspection.figures import Flow

WIDTH, HEIGHT, FAILED_HEIGHT = 720, 162, 36
"""The throughput chart: its width and the heights of both plots, in their own units."""

CELLS_IN_ROW, MOST_CELLS = 8, 96
"""How many slots of a worker stand in a row, and how many are drawn."""

_PAD = 1.0  # what stays free above, so that the highest point is not cut off
_THOUSAND = 10_000  # from here on, labels of an axis are in thousands
_DAY = 86_400
_TOP, _SHARE = 4, 64  # where the plot of what finished begins, and its height, in percent
_START, _END = 40, 70  # where in percent a label still has room on its right, then only on its left
_LONG = 28  # characters of a label that a phone has room for
_QUARTERS = (0, 25, 50, 75, 100)
_FEW_FIRES, _MOST_FIRES = 12, 144
_CELL = 20  # pixels from one slot to the next


# ---- lines and bars ------------------------------------------------------------------------


def line(values: Sequence[float], width: float, height: float, top: float | None = None) -> str:
    """Return the path of a line chart: the scale starts at zero, and ``top`` is its upper end."""
    step = width / max(1, len(values) - 1)
    return _line(values, step, height, top)


def _line(values: Sequence[float], step: float, height: float, top: float | None) -> str:
    most, room = (max(values, default=0) if top is None else top) or 1, height
    if top is None:
        room -= _PAD
    points = (
        f"{place * step:.1f} {height - room * value / most:.1f}"
        for place, value in enumerate(values)
    )
    return f"M{' '.join(points)}" if values else "M0 0"


def bar_width(count: int, width: float) -> float:
    """Return how wide each of ``count`` bars is, with a third of it free between two."""
    return round(width / max(1, count) * 2 / 3, 1)


def bars(values: Sequence[float], width: float, height: float) -> str:
    """Return the path of vertical bars that stand on the base line."""
    most, step = max(values, default=0) or 1, width / max(1, len(values))
    found = (
        f"M{(place + 0.5) * step:.1f} {height:g}V{height - (height - _PAD) * value / most:.1f}"
        for place, value in enumerate(values)
        if value
    )
    return "".join(found) or "M0 0"


def scale(most: float) -> tuple[int, ...]:
    """Return the labels of an axis, from zero to at least ``most``: two to four of them."""
    step = 1
    while 3 * step < most:
        step = _next_round(step)
    return tuple(step * place for place in range(4) if step * (place - 1) < max(most, 1))


def _next_round(step: int) -> int:
    """Return the next of 1, 2, 5, 10, 20, 50, ..."""
    return step * 5 // 2 if str(step)[0] == "2" else step * 2


def label(count: int) -> str:
    """Return a number for an axis: ``1,200``, ``12k``."""
    return f"{count:,}" if count < _THOUSAND else f"{count / 1000:g}k"


# ---- throughput ------------------------------------------------------------------------------


class Throughput(NamedTuple):
    """The chart of what finished and what failed.

    Attributes:
        labels: Texts of the left axis, with their place from above in percent.
        failed_label: The lower end of the scale of failures.
        finished, area, before: Paths.
        failed, failed_width: The path of the bars, and how wide each is.
        peak: The most failures in one step, as a text; empty without any.
        peak_task: The task with the most of them.
        peak_at, peak_anchor: Where that text stands: percent from the left, and which end of it.
        is_long: A phone has no room for ``peak_task``.
        times: Labels of the time axis, with their place in percent and their anchor.
        text: The chart in words.
    """

    labels: list[tuple[str, float]]
    failed_label: str
    finished: str
    area: str
    before: str
    failed: str
    failed_width: float
    peak: str
    peak_task: str
    peak_at: float
    peak_anchor: str
    is_long: bool
    times: list[tuple[str, int, str]]
    text: str


def throughput(flow: Flow, per: str, time_text: Callable[[float], str]) -> Throughput:
    """Return the chart of a flow.

    Args:
        per: The step in words, such as ``min``.
        time_text: Returns a moment on the clock that people read.
    """
    marks = scale(max((*flow.finished, *flow.before), default=0))
    top, worst = marks[-1], max(flow.failed, default=0)
    step = WIDTH / max(1, flow.steps - 1)
    finished = _line(flow.finished, step, HEIGHT, top)
    end = max(0, len(flow.finished) - 1) * step
    failed_top = scale(worst)[-1]
    peak = _peak(flow, time_text)
    at = (0 if flow.worst is None else flow.worst + 0.5) * 100 / max(1, flow.steps)
    return Throughput(
        labels=[(label(one), round(_TOP + _SHARE * (1 - one / top), 2)) for one in marks],
        failed_label=label(failed_top) if worst else "",
        finished=finished,
        area=f"{finished}V{HEIGHT}H0Z" if end else "M0 0",
        before=_line(flow.before, step, HEIGHT, top) if any(flow.before) else "M0 0",
        failed="".join(_hanging(flow.failed, failed_top)) or "M0 0",
        failed_width=bar_width(flow.steps, WIDTH),
        peak=peak,
        peak_task=flow.worst_task,
        peak_at=round(at, 1),
        peak_anchor="start" if at <= _START else "end" if at > _END else "middle",
        is_long=len(f"{peak}, {flow.worst_task}") > _LONG,
        times=list(_times(flow, time_text)),
        text=_in_words(flow, per, time_text),
    )


def _hanging(values: Sequence[float], top: float) -> Iterator[str]:
    """Yield bars that hang down from the upper edge, each long enough to be seen."""
    step = WIDTH / max(1, len(values))
    for place, value in enumerate(values):
        if value:
            yield f"M{(place + 0.5) * step:.1f} 0V{max(1.8, FAILED_HEIGHT * value / top):.1f}"


def _times(flow: Flow, time_text: Callable[[float], str]) -> Iterator[tuple[str, int, str]]:
    last = (flow.steps - 1) * flow.step
    for percent in _QUARTERS:
        anchor = {0: "start", _QUARTERS[-1]: "end"}.get(percent, "middle")
        yield time_text(flow.since + last * percent / 100), percent, anchor


def _peak(flow: Flow, time_text: Callable[[float], str]) -> str:
    if flow.worst is None:
        return ""
    when = time_text(flow.since + flow.worst * flow.step)
    return f"{flow.failed[flow.worst]:,} at {when}"


def _in_words(flow: Flow, per: str, time_text: Callable[[float], str]) -> str:
    start = time_text(flow.since)
    now, was = (f"{sum(one) / max(1, len(one)):.3g}" for one in (flow.finished, flow.before))
    most = f"{_peak(flow, time_text)}, {flow.worst_task}"
    failures = f"{sum(flow.failed):,} failed, most: {most}."
    ended = f"Jobs finished per {per} since {start}: {now} on average, {was} one period before."
    return f"{ended} {failures if any(flow.failed) else 'None failed.'}"


# ---- schedules -------------------------------------------------------------------------------


class Fires(NamedTuple):
    """The fires of a schedule on an axis of 24 hours.

    Attributes:
        dots: Places in percent, if there are few; the first is the next fire.
        ticks: Places of many fires in a thousand; empty if there are few.
        is_solid: There are so many that they make one line.
        is_later: The next fire is beyond the axis.
        text: The axis in words.
    """

    dots: list[float]
    ticks: list[float]
    is_solid: bool
    is_later: bool
    text: str


def fires(moments: Iterator[float], now: float) -> Fires:
    """Return the axis for the fires of a schedule, in order; reads no more than it draws."""
    shares: list[float] = []
    for moment in moments:
        if moment > now + _DAY or len(shares) > _MOST_FIRES:
            break
        shares.append(max(0.0, (moment - now) / _DAY))
    is_solid, are_few = len(shares) > _MOST_FIRES, len(shares) <= _FEW_FIRES
    count = f"more than {_MOST_FIRES}" if is_solid else f"{len(shares)}"
    return Fires(
        dots=[round(100 * share, 1) for share in (shares if are_few else shares[:1])],
        ticks=[] if are_few or is_solid else [round(1000 * share, 1) for share in shares],
        is_solid=is_solid,
        is_later=not shares,
        text=f"{count} in the next 24 hours",
    )


def days_quarters(now: float, offset: float) -> list[tuple[float, float]]:
    """Return the next times of 0, 6, 12 and 18 o'clock: the moment, and its place in percent.

    Args:
        offset: Of the zone from UTC, in seconds.
    """
    quarter = _DAY / 4
    first = quarter - (now + offset) % quarter
    found = (first + quarter * place for place in range(4))
    return [(now + secs, round(100 * secs / _DAY, 1)) for secs in found if secs < _DAY]


def outcomes(failed: Sequence[bool]) -> tuple[str, str]:
    """Return the paths of short marks for runs that went well, and of tall ones for the others."""
    short, tall = "", ""
    for place, is_failed in enumerate(failed):
        if is_failed:
            tall += f"M{2 + 6 * place} 16v-14"
        else:
            short += f"M{2 + 6 * place} 16v-6"
    return short, tall


# ---- workers ---------------------------------------------------------------------------------


def cells(kinds: Sequence[str]) -> tuple[int, list[tuple[float, float, str]]]:
    """Return the height in pixels of a worker's slots, and the place and kind of each.

    Args:
        kinds: Classes of the style sheet; ``MOST_CELLS`` are drawn.
    """
    drawn = kinds[:MOST_CELLS]
    rows = -(-len(drawn) // CELLS_IN_ROW)
    return max(1, rows) * _CELL - 4, [
        (_CELL * (place % CELLS_IN_ROW) + 0.5, _CELL * (place // CELLS_IN_ROW) + 0.5, kind)
        for place, kind in enumerate(drawn)
    ]
