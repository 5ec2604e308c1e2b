"""Workers: who is alive, who is full, and what has run too long."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from nuvom.contrib.dashboard import charts, readings
from nuvom.contrib.dashboard.pages.overview import NONE, Figure, number
from nuvom.contrib.dashboard.visit import Page
from nuvom.core.record import JobStatus
from nuvom.core.views import beat_secs
from nuvom.errors import WorkerNotFound, plural
from nuvom.inspection import figures
from nuvom.inspection.formats import duration, rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.record import JobSnapshot
    from nuvom.core.views import WorkerInfo

_MOST_RUNNING = 2000  # RUNNING jobs that are looked at
_MOST_SHOWN = 12  # jobs of one worker on the page of all
_MOST_RELEASES = 2


class Running(NamedTuple):
    """A job that runs: for how long, and whether that is far longer than usual."""

    job: JobSnapshot
    secs: float
    is_slow: bool


class WorkerRow(NamedTuple):
    """What is shown of a worker.

    Attributes:
        jobs: Those that it runs, longest first, as far as they are shown; ``more`` are not.
        height, cells: Its slots as shapes; see ``charts.cells``.
        other: What its code differs from, or empty.
        beat: Seconds between two heartbeats.
    """

    worker: WorkerInfo
    jobs: list[Running]
    more: int
    height: int
    cells: list[tuple[float, float, str]]
    other: str = ""
    beat: float = 0.0

    @property
    def is_silent(self) -> bool:
        """Whether it has lost its jobs."""
        return self.worker.state == "silent"

    @property
    def free(self) -> int:
        """Free thread slots."""
        return max(0, self.worker.slots - self.worker.running)


def workers(visit: Visit) -> Page:
    """Show all workers, the silent ones first."""
    found = visit.inspector.processes()
    rows = _rows(visit, found, _MOST_SHOWN)
    rows.sort(key=lambda row: not row.is_silent)
    context = {
        "rows": [row for row in rows if row.worker.runs_jobs],
        "schedulers": [row for row in rows if not row.worker.runs_jobs],
        "figures": _figures(visit, [row.worker for row in rows if row.worker.runs_jobs], rows),
        "sees_workers": visit.inspector.sees_processes,
    }
    return Page("workers.html", context)


def worker(visit: Visit) -> Page:
    """Show one worker with all jobs that it runs. Raises: WorkerNotFound."""
    asked = visit.named("id")
    found = [one for one in visit.inspector.processes() if one.id == asked]
    if not found:
        raise WorkerNotFound(asked)
    (row,) = _rows(visit, found, _MOST_RUNNING)
    return Page("worker.html", {"row": row})


def _rows(visit: Visit, found: Sequence[WorkerInfo], most: int) -> list[WorkerRow]:
    inspector, now = visit.inspector, visit.now
    usual = figures.Usual(readings.recent(visit))
    running = dict[str, list[Running]]()
    for job in inspector.pages(statuses=[JobStatus.RUNNING], most=_MOST_RUNNING):
        secs = max(0.0, now - (job.claimed_at or now))
        is_slow = usual.is_slow(job.record.func_name, secs)
        running.setdefault(job.worker or "", []).append(Running(job, secs, is_slow))
    other = inspector.other_code()
    beat = beat_secs(visit.runtime.settings.lease_secs)
    rows = [_row(one, running.get(one.id, []), most) for one in found]
    return [row._replace(other=other.get(row.worker.id, ""), beat=beat) for row in rows]


def _row(one: WorkerInfo, jobs: list[Running], most: int) -> WorkerRow:
    jobs.sort(key=lambda running: running.secs, reverse=True)
    if one.state == "silent":
        kinds = ["x"] * one.slots
    else:
        busy = max(one.running, len(jobs))
        slow = sum(running.is_slow for running in jobs)
        kinds = ["o"] * slow + ["b"] * (busy - slow) + [""] * (one.slots - busy)
    return WorkerRow(one, jobs[:most], max(0, len(jobs) - most), *charts.cells(kinds))


def _figures(visit: Visit, found: Sequence[WorkerInfo], rows: Sequence[WorkerRow]) -> list[Figure]:
    living = [one for one in found if one.state != "silent"]
    silent, slots = len(found) - len(living), sum(one.slots for one in living)
    busy = sum(one.running for one in living)
    longest = max((one for row in rows for one in row.jobs), key=lambda one: one.secs, default=None)
    rate = rate_text(figures.per_min(readings.recent(visit).minutes, visit.now))
    quiet = sum(one.state != "alive" for one in living)
    states = [f"{silent} silent"] * bool(silent) + [f"{quiet} not taking jobs"] * bool(quiet)
    keeps = visit.inspector.keeps_history
    return [
        Figure(
            "Alive",
            f"{len(living)}",
            f"of {len(found)}" if silent else "",
            ", ".join(states) or "none is silent",
        ),
        Figure(
            "Slots busy",
            f"{busy:,}",
            f"of {slots:,}",
            f"{100 * busy / slots:.0f} %" if slots else NONE,
        ),
        _longest(visit, longest),
        Figure("Finished", rate if keeps else NONE, "per min", "in the last 5 min"),
        _versions(living),
    ]


def _longest(visit: Visit, longest: Running | None) -> Figure:
    if longest is None:
        return Figure("Longest running", NONE, "", "no job runs")
    task = longest.job.record.func_name
    usual = figures.Usual(readings.recent(visit)).p95(task)
    text = task if usual is None else f"usual p95 is {duration(usual)}"
    href = visit.url(f"/jobs/{longest.job.record.id}")
    return Figure("Longest running", *number(longest.secs), text, href)


def _versions(living: Sequence[WorkerInfo]) -> Figure:
    """Return how many versions of the code run: the same figure as on the machines."""
    releases = Counter(one.release or one.version for one in living)
    most = releases.most_common(_MOST_RELEASES)
    text = ", ".join(f"{release} on {count}" for release, count in most)
    more = len(releases) - len(most)
    text += f", {plural(more, 'other')}" if more else ""
    return Figure("Versions", f"{len(releases)}", "", text or "no worker is alive")
