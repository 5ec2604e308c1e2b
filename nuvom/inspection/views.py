"""Views of jobs, attempts, queues, workers and failures as plain data and text, for every surface.

``--json`` and the dashboard's API write the data unchanged. The keys are a contract: adding one is
fine, but any other change needs a new major version of the schema.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from nuvom.core.text import mask_text
from nuvom.inspection.formats import ago, duration, jsonable, rfc3339
from nuvom.scheduler.record import fire_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nuvom.core.record import Attempt, JobSnapshot, StoredError
    from nuvom.core.views import ErrorGroup, QueueStats, WorkerInfo
    from nuvom.discovery.entries import TaskEntry
    from nuvom.errors import NuvomError

SHORT_ID = 8
END_WORDS = {
    "WorkerDied": "worker lost",
    "TimeoutError": "timed out",
    "JobExpired": "expired",
    "TaskNotFound": "no such task",
    "Discard": "discarded",
}
"""What people read for types of errors that say how a job ended, not what its code raised."""


def short_id(job_id: str) -> str:
    """Return the end of an id, which commands accept: ids start with the time."""
    return job_id[-SHORT_ID:]


def error_data(error: StoredError | None, *, traceback: bool = False) -> dict[str, Any] | None:
    """Return why a job failed, with secrets masked, and optionally with its traceback."""
    if error is None:
        return None
    data: dict[str, Any] = {"type": error.type, "message": mask_text(error.message)}
    if traceback:
        data["traceback"] = None if error.traceback is None else mask_text(error.traceback)
    return data


def error_text(error: StoredError) -> str:
    """Return an exception's type and message, with secrets masked."""
    return f"{error.type}: {mask_text(error.message)}"


def trace_text(error: dict[str, Any]) -> str:
    """Return the traceback of ``error_data``; a child process that was killed left none."""
    return (error["traceback"] or f"{error['type']}: {error['message']}").rstrip()


def nuvom_error_data(error: NuvomError) -> dict[str, Any]:
    """Return an error of Nuvom itself: its class, what happened and what to do."""
    return {"code": type(error).__name__, "message": error.what, "hint": error.fix}


def job_times(snapshot: JobSnapshot) -> tuple[float | None, float | None]:
    """Return when the running or last attempt started, and when it ended.

    A store keeps both times of the last closed attempt. They do not apply to a job that waits
    again, is PARKED, or runs again. The attempts have the times of earlier ones.
    """
    started_at, finished_at = snapshot.started_at, snapshot.finished_at
    if snapshot.status.is_final:
        return started_at, finished_at
    return snapshot.claimed_at, None


def job_data(snapshot: JobSnapshot) -> dict[str, Any]:
    """Return a job as a list element: without arguments, result and traceback."""
    record = snapshot.record
    started_at, finished_at = job_times(snapshot)
    schedule, fire_at = fire_of(record.headers)
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
        "duration_secs": took(started_at, finished_at),
        "worker": snapshot.worker,
        "error": error_data(snapshot.error),
        "tags": list(record.tags),
        "schedule": schedule,
        "scheduled_for": rfc3339(fire_at),
    }


def attempt_data(attempt: Attempt) -> dict[str, Any]:
    """Return one closed attempt."""
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "worker": attempt.worker,
        "started_at": rfc3339(attempt.started_at),
        "finished_at": rfc3339(attempt.finished_at),
        "duration_secs": took(attempt.started_at, attempt.finished_at),
        "error": error_data(attempt.error, traceback=True),
    }


def took(started: float | None, finished: float | None) -> float | None:
    """Return how many seconds something took, None if it has not started or not ended."""
    if started is None or finished is None:
        return None
    return max(0.0, round(finished - started, 6))


def status_text(snapshot: JobSnapshot, now: float) -> str:
    """Return the status for people: ``PENDING (retry 2, in 14 s)``."""
    record = snapshot.record
    status = str(snapshot.status)
    is_later = record.run_at > now
    if status == "PENDING" and record.attempt:
        when = ago(record.run_at, now) if is_later else "due"
        return f"PENDING (retry {record.attempt}, {when})"
    if status == "PENDING" and is_later:
        return f"PENDING ({ago(record.run_at, now)})"
    if status == "RUNNING":
        return " ".join((status, *_running_text(snapshot, now)))
    return status


def status_badge(snapshot: JobSnapshot, now: float) -> str:
    """Return what stands beside the status in a list: ``retry 2, in 14 s``, ``62 %``, or ``""``."""
    record, status, error = snapshot.record, snapshot.status, snapshot.error
    if status == "PENDING":
        is_later = record.run_at > now
        when = ago(record.run_at, now) if is_later else "due"
        return f"retry {record.attempt}, {when}" if record.attempt else when * is_later
    if status == "RUNNING" and snapshot.progress is not None:
        share = progress_share(snapshot.progress)
        return f"{snapshot.progress[0]:g}" if share is None else f"{share:.0%}".replace("%", " %")
    return "" if error is None else END_WORDS.get(error.type, "")


def progress_share(progress: tuple[float, float | None, str]) -> float | None:
    """Return how much is done, from 0 to 1; None if the task tells no total."""
    done, total, _ = progress
    return min(1.0, max(0.0, done / total)) if total else None


def arguments_text(named: Mapping[str, Any], most: int = 200) -> str:
    """Return arguments by name in one line, such as ``order_id=7, lang="de"``, cut off there."""
    text, rest = "", iter(named.items())
    while len(text) <= most and (one := next(rest, None)) is not None:
        text += f"{', ' * bool(text)}{one[0]}={_literal(one[1])}"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _running_text(snapshot: JobSnapshot, now: float) -> Iterator[str]:
    """Yield since when a job runs, and its progress, as far as they are known."""
    facts = []
    if snapshot.claimed_at is not None:
        facts.append(f"for {duration(max(0.0, now - snapshot.claimed_at))}")
    if snapshot.progress is not None:
        done, total, note = snapshot.progress
        facts.append(f"{done:g} of {total:g}" if total else f"{done:g}")
        facts += [mask_text(note)] if note else []
    if facts:
        yield f"({', '.join(facts)})"


def value_text(value: Any) -> str:  # whatever a task returned
    """Return a result for standard output: text unchanged, anything else as JSON."""
    if isinstance(value, str):
        return value
    (plain,) = jsonable({"value": value}).values()
    return json.dumps(plain, ensure_ascii=False)


def call_text(args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    """Return arguments as they stand in a call, such as ``("bob", count=3)``."""
    parts = [_literal(one) for one in args]
    parts += [f"{name}={_literal(value)}" for name, value in kwargs.items()]
    return f"({', '.join(parts)})"


def _literal(value: Any) -> str:  # any argument of a job
    return json.dumps(value) if isinstance(value, str) else value_text(value)


def queue_data(stats: QueueStats, now: float, workers: int | None) -> dict[str, Any]:
    """Return one queue's counts."""
    data = asdict(stats)
    oldest = data.pop("oldest_ready_at")
    data["paused_at"] = rfc3339(stats.paused_at)
    data["at_least"] = list(stats.at_least)
    data["oldest_ready_secs"] = None if oldest is None else max(0.0, round(now - oldest, 3))
    return {**data, "workers": workers}


def worker_data(worker: WorkerInfo) -> dict[str, Any]:
    """Return one worker; ``queues`` is empty if it serves all queues."""
    data = asdict(worker)
    del data["processes"]
    data["started_at"] = rfc3339(worker.started_at)
    data["beat_age_secs"] = round(worker.beat_age_secs, 3)
    return data


def group_data(group: ErrorGroup) -> dict[str, Any]:
    """Return one group of failures."""
    data = asdict(group)
    del data["recent"]  # for charts, not to be read
    times = {"first_at": rfc3339(group.first_at), "last_at": rfc3339(group.last_at)}
    status = str(group.status)
    return {**data, "status": status, "message": mask_text(group.message), **times}


def task_data(entry: TaskEntry) -> dict[str, Any]:
    """Return one task as the manifest lists it."""
    return {**asdict(entry), "dynamic_options": list(entry.dynamic_options)}
