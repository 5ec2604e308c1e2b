"""The shapes of what commands show: jobs, attempts, queues, workers and failures as plain data.

``--json`` writes these dicts as they are; tables pick from them. Keys are a contract: adding one
is fine, any other change makes a new major version of the schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.cli.tables import Cell, Column, Table
from nuvom.cli.text import ago, duration, rfc3339
from nuvom.core.text import mask_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuvom.core.record import Attempt, JobSnapshot, StoredError
    from nuvom.core.views import ErrorGroup, QueueStats, WorkerInfo

SHORT_ID = 8
STATUS_STYLES = {
    "PENDING": "cyan",
    "RUNNING": "blue",
    "SUCCESS": "green",
    "FAILED": "red",
    "DEAD": "bold red",
    "CANCELLED": "yellow",
    "PARKED": "magenta",
}

# Where a person is looking; `nuvom doctor` names the tasks.
PARKED_HINT = "No worker that took it knows its task: workers look for tasks when they start."


def short_id(job_id: str) -> str:
    """Return the end of an id, which commands accept: ids begin with the time."""
    return job_id[-SHORT_ID:]


def id_cell(job_id: str) -> Cell:
    """Return an id for a table: its end for people, all of it for programs."""
    return Cell(short_id(job_id), "", job_id)


def moment_cell(moment: float, now: float) -> Cell:
    """Return how long ago a moment is: the moment itself for programs."""
    return Cell(ago(moment, now), "", rfc3339(moment))


def status_cell(status: str, text: str | None = None) -> Cell:
    """Return a status in its colour."""
    return Cell(text or status, STATUS_STYLES.get(status, ""), status)


def error_data(error: StoredError | None, *, traceback: bool = False) -> dict[str, Any] | None:
    """Return why a job failed, secrets masked, without or with its traceback."""
    if error is None:
        return None
    data: dict[str, Any] = {"type": error.type, "message": mask_text(error.message)}
    if traceback:
        data["traceback"] = None if error.traceback is None else mask_text(error.traceback)
    return data


def error_text(error: StoredError) -> str:
    """Return an exception's type and message, secrets masked."""
    return f"{error.type}: {mask_text(error.message)}"


def job_times(snapshot: JobSnapshot) -> tuple[float | None, float | None]:
    """Return when the attempt that runs or was the last one began, and when it ended.

    A store keeps both of the attempt that was closed last: they say nothing of a job that waits
    again, is PARKED, or runs anew. What earlier attempts took is with the attempts.
    """
    started_at, finished_at = snapshot.started_at, snapshot.finished_at
    if snapshot.status.is_final:
        return started_at, finished_at
    is_of_this_attempt = started_at is not None and (finished_at or 0.0) < started_at
    return (started_at if snapshot.status == "RUNNING" and is_of_this_attempt else None), None


def job_data(snapshot: JobSnapshot) -> dict[str, Any]:
    """Return a job as one element of a list: no arguments, no result, no traceback."""
    record = snapshot.record
    started_at, finished_at = job_times(snapshot)
    return {
        "id": record.id,
        "func_name": record.func_name,
        "status": str(snapshot.status),
        "attempt": record.attempt,
        "max_retries": record.max_retries,
        "queue": record.queue,
        "priority": record.priority,
        "created_at": rfc3339(record.created_at),
        "run_at": rfc3339(record.run_at),
        "started_at": rfc3339(started_at),
        "finished_at": rfc3339(finished_at),
        "duration_secs": _took(started_at, finished_at),
        "worker": snapshot.worker,
        "error": error_data(snapshot.error),
        "tags": list(record.tags),
    }


def status_text(snapshot: JobSnapshot, now: float) -> str:
    """Return the status as people read it: ``PENDING (retry 2, in 14 s)``."""
    record = snapshot.record
    status = str(snapshot.status)
    if status == "PENDING" and record.attempt:
        return f"PENDING (retry {record.attempt}, {_when(record.run_at, now)})"
    if status == "PENDING" and record.run_at > now:
        return f"PENDING ({ago(record.run_at, now)})"
    if status == "RUNNING" and snapshot.progress is not None:
        return f"RUNNING ({progress_text(snapshot.progress)})"
    return status


def progress_text(progress: tuple[float, float | None, str]) -> str:
    """Return progress as ``3 of 10, reading`` or ``3``."""
    done, total, note = progress
    figure = f"{done:g} of {total:g}" if total else f"{done:g}"
    return f"{figure}, {mask_text(note)}" if note else figure


def jobs_table(snapshots: Iterable[JobSnapshot], now: float) -> Table:
    """Return jobs as a table, in the order given."""
    columns = [
        Column("ID"),
        Column("Task", stretch=True),
        Column("Status", stretch=True),
        Column("Queue"),
        Column("Attempt", right=True),
        Column("Created", right=True),
        Column("Took", right=True),
    ]
    return Table(columns, [_job_row(snapshot, now) for snapshot in snapshots])


def _job_row(snapshot: JobSnapshot, now: float) -> list[Cell | str]:
    record = snapshot.record
    took = _took(*job_times(snapshot))
    return [
        id_cell(record.id),
        record.func_name,
        status_cell(str(snapshot.status), status_text(snapshot, now)),
        record.queue,
        str(record.attempt) if record.attempt else "-",
        moment_cell(record.created_at, now),
        "-" if took is None else Cell(duration(took), "", f"{took:.6f}"),
    ]


def attempt_data(attempt: Attempt) -> dict[str, Any]:
    """Return one closed attempt."""
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "worker": attempt.worker,
        "started_at": rfc3339(attempt.started_at),
        "finished_at": rfc3339(attempt.finished_at),
        "duration_secs": _took(attempt.started_at, attempt.finished_at),
        "error": error_data(attempt.error, traceback=True),
    }


def queue_data(stats: QueueStats, now: float, workers: int | None) -> dict[str, Any]:
    """Return one queue's counts."""
    oldest = stats.oldest_ready_at
    return {
        "queue": stats.queue,
        "ready": stats.ready,
        "scheduled": stats.scheduled,
        "retrying": stats.retrying,
        "running": stats.running,
        "parked": stats.parked,
        "success": stats.success,
        "failed": stats.failed,
        "dead": stats.dead,
        "cancelled": stats.cancelled,
        "oldest_ready_secs": None if oldest is None else max(0.0, round(now - oldest, 3)),
        "paused_by": stats.paused_by,
        "workers": workers,
    }


def worker_data(worker: WorkerInfo) -> dict[str, Any]:
    """Return one worker; ``queues`` is empty where it serves all."""
    return {
        "id": worker.id,
        "state": worker.state,
        "pid": worker.pid,
        "host": worker.host,
        "version": worker.version,
        "queues": list(worker.queues),
        "slots": worker.slots,
        "async_slots": worker.async_slots,
        "running": worker.running,
        "started_at": rfc3339(worker.started_at),
        "beat_age_secs": round(worker.beat_age_secs, 3),
    }


def group_data(group: ErrorGroup) -> dict[str, Any]:
    """Return one group of failures."""
    return {
        "fingerprint": group.fingerprint,
        "func_name": group.func_name,
        "type": group.type,
        "message": mask_text(group.message),
        "count": group.count,
        "first_at": rfc3339(group.first_at),
        "last_at": rfc3339(group.last_at),
        "example_id": group.example_id,
    }


def _took(started: float | None, finished: float | None) -> float | None:
    if started is None or finished is None:
        return None
    return max(0.0, round(finished - started, 6))


def _when(run_at: float, now: float) -> str:
    return ago(run_at, now) if run_at > now else "due"
