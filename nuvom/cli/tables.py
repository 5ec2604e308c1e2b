"""Tables and texts of jobs for the terminal; what they show comes from ``inspection/views.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.cli import exit_codes
from nuvom.cli.output import Cell, Table
from nuvom.core.outcome import EXPIRED
from nuvom.core.record import JobStatus, StoredError
from nuvom.core.transitions import home_of
from nuvom.inspection.formats import ago, duration, rfc3339
from nuvom.inspection.views import error_text, job_times, short_id, status_text, took
from nuvom.scheduler.record import fire_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuvom.core.record import JobSnapshot

STATUS_STYLES = {
    "PENDING": "cyan",
    "RUNNING": "blue",
    "SUCCESS": "green",
    "FAILED": "red",
    "DEAD": "bold red",
    "CANCELLED": "yellow",
    "PARKED": "magenta",
}


# ---- cells ------------------------------------------------------------------------------


def id_cell(job_id: str) -> Cell:
    """Return a table cell for an id: its end for people, the whole id for programs."""
    return Cell(short_id(job_id), "", job_id)


def moment_cell(moment: float, now: float) -> Cell:
    """Return a table cell for a time: how long ago it was; for programs, the time itself."""
    return Cell(ago(moment, now), "", rfc3339(moment))


# ---- jobs -------------------------------------------------------------------------------


def jobs_table(snapshots: Iterable[JobSnapshot], now: float) -> Table:
    """Return jobs as a table, in the order given.

    Its columns for schedules are left out for people if no job comes from one.
    """
    rows: list[list[Cell | str]] = []
    for snapshot in snapshots:
        record, status = snapshot.record, str(snapshot.status)
        taken = took(*job_times(snapshot))
        schedule, fire_at = fire_of(record.headers)
        rows.append(
            [
                id_cell(record.id),
                record.func_name,
                Cell(status_text(snapshot, now), STATUS_STYLES[status], status),
                record.queue,
                str(record.attempt) if record.attempt else "-",
                moment_cell(record.created_at, now),
                "-" if taken is None else Cell(duration(taken), "", f"{taken:.6f}"),
                schedule or "",
                "" if fire_at is None else moment_cell(fire_at, now),
            ]
        )
    columns = ("ID", "Task", "Status", "Queue", "Attempt", "Created", "Took", "Schedule", "For")
    numbers = ("Attempt", "Created", "Took", "For")
    return Table(columns, rows, right=numbers, optional=columns[-2:], spared=("For", "Attempt"))


def code_of(snapshot: JobSnapshot) -> int:
    """Return the exit code for a job that has ended."""
    return exit_codes.OK if snapshot.status is JobStatus.SUCCESS else exit_codes.FAILED


def failure_text(snapshot: JobSnapshot) -> tuple[str, str]:
    """Return what happened to a job that did not succeed, and where to find out more."""
    job_id, status = snapshot.record.id, str(snapshot.status)
    if (home := home_of(snapshot)) is not None:
        return f"Job {job_id} is not in this store: it was moved to {home}.", "Look for it there."
    if snapshot.status is JobStatus.CANCELLED:
        error = snapshot.error
        how = error.message if error is not None and error.type == EXPIRED else "was cancelled"
        return f"Job {job_id} {how}.", f"Run it again: nuvom retry job {job_id}"
    error = snapshot.error or StoredError(status, "no report is kept")
    what = f"Job {job_id} ended {status}: {error_text(error)}"
    return what, f"Traceback and attempts: nuvom inspect job {job_id}"
