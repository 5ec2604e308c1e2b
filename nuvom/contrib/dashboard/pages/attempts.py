"""The attempts of a job over time, and tracebacks with the project's own lines marked."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from nuvom.contrib.dashboard import frame
from nuvom.core.record import JobStatus
from nuvom.inspection.formats import duration
from nuvom.inspection.views import END_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.record import Attempt, JobSnapshot

_ROW = 22  # pixels
_MOST = 12  # attempts that are drawn, the last ones
_LEAST_SHARE = 0.4  # per cent of the width that a bar has at least
_PER_CHAR = 0.85  # per cent of the width that a character of a label takes
_MOST_TICKS = 4
_STEPS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
    *(1200, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400, 172_800, 604_800, 2_592_000),
    *(7_776_000, 31_536_000, 315_360_000),
)
_MINUTE, _DAY = 60, 86_400
_LEAST_SECS = 0.01  # below this, a scale of time says nothing
_FRAME = re.compile(r'  File "(?P<path>[^"]*)", line \d+')


class AttemptBar(NamedTuple):
    """An attempt: where it is drawn, in per cent of the width and in pixels."""

    x: float
    width: float
    y: int
    kind: str
    label: str
    more: str
    label_x: float
    anchor: str


class Timeline(NamedTuple):
    """What is drawn of a job.

    Attributes:
        waits: Dashed lines: from, to in per cent; y in pixels.
        ticks: Grid lines: per cent, and the time there.
        text: The same in words.
        left_out: How many attempts are not drawn: earlier ones, and those that never started.
    """

    bars: list[AttemptBar]
    waits: list[tuple[float, float, int]]
    ticks: list[tuple[float, str]]
    height: int
    text: str
    left_out: int


class _AttemptSpan(NamedTuple):
    start: float
    end: float
    kind: str
    label: str
    more: str


def timeline(visit: Visit, job: JobSnapshot, attempts: Sequence[Attempt]) -> Timeline | None:
    """Return the picture of a job's attempts; None if it has none whose times are known."""
    spans = list(_spans(job, attempts[_start_anew(attempts) :], visit.now))
    shown = spans[-_MOST:]
    if not shown:
        return None
    first, last = shown[0].start, max(one.end for one in shown)
    created = job.record.created_at
    start = created if len(shown) == len(spans) and first - created <= last - first else first
    whole = max(last - start, 1e-3)

    def share(moment: float) -> float:
        return round(100 * min(1.0, max(0.0, (moment - start) / whole)), 2)

    bars, waits, before = [], [], start
    for place, one in enumerate(shown):
        y = 11 + place * _ROW
        if share(one.start) - share(before) > _LEAST_SHARE:
            waits.append((share(before), share(one.start), y + 9))
        bars.append(_bar(one, share(one.start), share(one.end), y))
        before = one.end
    ticks = [(share(at), text) for at, text in _ticks(visit, start, last)]
    words = "; ".join(f"attempt {one.label}, {one.more}" for one in shown)
    left_out = len(attempts) - sum(one.kind != "now" for one in shown)
    return Timeline(bars, waits, ticks, len(shown) * _ROW + 30, words, left_out)


def _start_anew(attempts: Sequence[Attempt]) -> int:
    """Return the place of the first attempt after somebody retried the job, which counts anew."""
    place = 0
    for at, (before, one) in enumerate(pairwise(attempts), 1):
        is_given_back = before.outcome in ("released", "snoozed")
        if one.number < before.number or (one.number == before.number and not is_given_back):
            place = at
    return place


def _spans(job: JobSnapshot, attempts: Sequence[Attempt], now: float) -> Iterator[_AttemptSpan]:
    for one in attempts:
        start, end = one.started_at, one.finished_at
        if start is None or end is None:
            continue
        is_fine = one.outcome == "success"
        kind = "ok" if is_fine or one.outcome in ("cancelled", "released", "snoozed") else ""
        word = one.outcome
        if one.error is not None and not is_fine:
            word = END_WORDS.get(one.error.type, one.error.type)
        yield _AttemptSpan(
            start, end, kind, f"{one.number} {word}", duration(max(0.0, end - start))
        )
    if job.status is JobStatus.RUNNING and job.claimed_at is not None:
        secs = max(0.0, now - job.claimed_at)
        label = f"{job.record.attempt} running"
        yield _AttemptSpan(job.claimed_at, max(now, job.claimed_at), "now", label, duration(secs))


def _bar(span: _AttemptSpan, x: float, end: float, y: int) -> AttemptBar:
    width = max(end - x, _LEAST_SHARE)
    x = min(x, 100 - width)
    needed = _PER_CHAR * (len(span.label) + len(span.more) + 3)
    if needed <= width:
        label_x, anchor = x + 1, "start"
    elif x + width + needed <= 100:  # noqa: PLR2004  # per cent
        label_x, anchor = x + width + 1, "start"
    else:
        label_x, anchor = x - 1, "end"
    label = span.label.replace(" ", "\N{EN SPACE}", 1)
    return AttemptBar(x, round(width, 2), y, span.kind, label, span.more, round(label_x, 2), anchor)


def _ticks(visit: Visit, start: float, end: float) -> Iterator[tuple[float, str]]:
    """Yield at most four moments at round times, and what stands below them."""
    whole = end - start
    if whole < _LEAST_SECS:
        return
    step = next((one for one in _STEPS if whole / one < _MOST_TICKS), _STEPS[-1])
    for place in range(_MOST_TICKS):
        at = start + place * step
        if at > end:
            return
        if step < 1:
            yield at, duration(place * step)
        elif step < _MINUTE:
            yield at, frame.clock(visit, at)
        else:
            yield at, frame.clock(visit, at, "%H:%M" if step < _DAY else "%d %b %H:%M")


# ---- tracebacks ----------------------------------------------------------------------------------


class TracePart(NamedTuple):
    """Lines of a traceback.

    Attributes:
        kind: ``lib``: not of the project; ``own``; ``hot``: the project's innermost line;
            ``end``: the exception itself.
    """

    kind: str
    text: str


def parts_of(traceback: str, root: Path) -> list[TracePart]:
    """Return a traceback in parts; paths inside the project are written from its root."""
    here = f'  File "{root}{os.sep}'
    found: list[TracePart] = []
    hot = -1
    for line in traceback.rstrip().split("\n"):
        is_frame = _FRAME.match(line)
        if is_frame:
            is_own = _is_own(is_frame["path"], root)
            hot = len(found) if is_own else hot
            found.append(TracePart("own" if is_own else "lib", line.replace(here, '  File "', 1)))
        elif line.startswith("    ") and found and found[-1].kind in ("own", "lib"):
            found[-1] = TracePart(found[-1].kind, f"{found[-1].text}\n{line}")
        else:
            kind = "lib" if line.startswith(("Traceback", " ")) or not line.strip() else "end"
            found.append(TracePart(kind, line))
    if hot >= 0:
        found[hot] = TracePart("hot", found[hot].text)
    return found


def _is_own(path: str, root: Path) -> bool:
    if path.startswith("<") or f"{os.sep}site-packages{os.sep}" in path:
        return False
    return not os.path.isabs(path) or path.startswith(f"{root}{os.sep}")
