"""How ``nuvom top`` shows plain data: jobs, queues and the like as tables, and one in detail.

Everything comes from a store, so whoever draws a text has to clean it first:
see ``nuvom.cli.output``.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.cli.output import Cell, Table
from nuvom.errors import plural
from nuvom.inspection.formats import ago, duration
from nuvom.inspection.search import parse_search
from nuvom.inspection.views import call_text, short_id, trace_text, value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Data = dict[str, Any]

NOTHING_READ = "Nothing has been read yet."

# Styles, as rich knows them; ``look.py`` has the colours of the whole view.
ACCENT, RED, AMBER, GREEN, QUIET, STRONG = "blue", "red", "yellow", "green", "dim", "bold"

# The mark of each state, the style of the mark, and that of the word.
STATES = {
    "PENDING": ("○", QUIET, ""),
    "RUNNING": ("◐", ACCENT, ACCENT),
    "SUCCESS": ("✓", GREEN, QUIET),
    "FAILED": ("✗", RED, RED),
    "DEAD": ("⊗", RED, RED),
    "CANCELLED": ("⊘", QUIET, QUIET),
    "PARKED": ("◆", AMBER, AMBER),
    "alive": ("●", GREEN, ""),
    "quiet": ("‖", AMBER, AMBER),
    "stopping": ("‖", AMBER, AMBER),
    "stuck": ("✗", RED, RED),
    "silent": ("◌", AMBER, AMBER),
    "active": ("●", GREEN, ""),
    "paused": ("‖", AMBER, AMBER),
    "disabled": ("✗", RED, RED),
    "ended": ("✓", QUIET, QUIET),
    "open": (" ", "", ""),
}
_UNKNOWN = ("?", QUIET, "")
_MOST_CHARS = 2_000  # of an argument or a result
_NOT_TOLD = ("at_least",)
_LABELS = {
    "func_name": "task",
    "beat_age_secs": "heartbeat",
    "example_id": "newest job",
    "count": "jobs",
    "timezone_name": "time zone",
}
_BARS = "▁▂▃▄▅▆▇█"


def moment(text: str | None) -> float | None:
    """Return the seconds since the epoch of a time in plain data."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _since(text: str | None, now: float) -> str:
    at = moment(text)
    return "-" if at is None else ago(at, now)


def _state(word: str, note: str = "") -> list[Cell | str]:
    """Return two cells: the mark of a state, and its word with a note."""
    mark, mark_style, style = STATES.get(word, _UNKNOWN)
    return [Cell(mark, mark_style), Cell(f"{word} {note}".rstrip(), style)]


def _count(count: int, style: str = "", *, is_more: bool = False) -> Cell:
    return Cell(f"{count:,}{'+' * is_more}", style if count else QUIET)


def _jobs_of(queue: Data, names: Sequence[str], style: str = "") -> Cell:
    """Return a queue's count, with a plus if counting stopped there."""
    is_more = any(name in queue["at_least"] for name in names)
    return _count(sum(queue[name] for name in names), style, is_more=is_more)


# ---- jobs -------------------------------------------------------------------------------


def job_note(job: Data, now: float) -> str:
    """Return what is told beside a job's status: when it goes on, or for how long it runs."""
    run_at, started = moment(job["run_at"]) or 0.0, moment(job["started_at"])
    if job["status"] == "PENDING":
        when = ago(run_at, now) if run_at > now else ""
        if job["attempt"]:
            return f"retry {job['attempt']}, {when or 'due'}"
        return when
    if job["status"] == "RUNNING" and started is not None:
        return duration(max(0.0, float(round(now - started))))
    return ""


def _job_row(job: Data, now: float) -> list[Cell | str]:
    taken = job["duration_secs"]
    return [
        *_state(job["status"], job_note(job, now)),
        Cell(short_id(job["id"]), "", job["id"]),
        job["func_name"],
        Cell(job["queue"], QUIET),
        Cell(f"{job['attempt']}/{job['max_retries'] + 1}" if job["attempt"] else "-", QUIET),
        _since(job["created_at"], now),
        "-" if taken is None else duration(taken),
        Cell(short_id(job["worker"]) if job["worker"] else "-", QUIET),
    ]


# ---- queues, workers, schedules, errors -------------------------------------------------


def _queue_row(queue: Data, _: float) -> list[Cell | str]:
    oldest, workers = queue["oldest_ready_secs"], queue["workers"]
    is_unserved = workers == 0 and queue["ready"]
    return [
        *_state("paused" if queue["paused_by"] else "open")[:1],
        queue["queue"],
        _jobs_of(queue, ["ready"]),
        _jobs_of(queue, ["running"], ACCENT),
        _jobs_of(queue, ["scheduled"]),
        _jobs_of(queue, ["retrying"]),
        _jobs_of(queue, ["parked"], AMBER),
        _jobs_of(queue, ["failed", "dead"], RED),
        "-" if oldest is None else duration(oldest),
        Cell("?" if workers is None else f"{workers:,}", AMBER if is_unserved else ""),
        Cell(f"paused by {queue['paused_by']}" if queue["paused_by"] else "", AMBER),
    ]


def _worker_row(worker: Data, now: float) -> list[Cell | str]:
    slots, running = worker["slots"], worker["running"]
    return [
        *_state(worker["state"]),
        Cell(short_id(worker["id"]), "", worker["id"]),
        str(worker["pid"]),
        worker["host"],
        Cell((", ".join(worker["queues"]) or "all") if slots else "-", QUIET),
        f"{running} of {slots}" if slots else "-",
        Cell("yes" if worker["scheduler"] else "-", QUIET),
        _since(worker["started_at"], now),
        duration(float(round(worker["beat_age_secs"]))),
    ]


def _schedule_row(one: Data, now: float) -> list[Cell | str]:
    next_at = moment(one["next_at"])
    is_due = next_at is not None and next_at <= now
    return [
        *_state(one["state"]),
        one["name"],
        one["description"],
        Cell(one["task"], QUIET),
        Cell("due" if is_due else _since(one["next_at"], now), AMBER if is_due else ""),
        _since(one["last_at"], now),
        _count(one["fired"]),
        _count(one["missed"], AMBER),
    ]


def _error_row(group: Data, now: float) -> list[Cell | str]:
    return [
        Cell(STATES["FAILED"][0], RED),
        _count(group["count"], RED),
        group["func_name"],
        f"{group['type']}: {group['message']}",
        Cell(_since(group["first_at"], now), QUIET),
        _since(group["last_at"], now),
    ]


# ---- the five tables --------------------------------------------------------------------


class Sort(NamedTuple):
    """One order of rows: the column that is marked, and how rows compare."""

    title: str
    key: Callable[[Data], Any]
    is_descending: bool = True


class Kind(NamedTuple):
    """How rows of one kind are shown.

    Attributes:
        title: As a tab names it.
        key: The field that identifies a row.
        wide: The column that takes what room is left.
        spared: Columns that leave where there is no room, the first first.
        sorts: The orders, the usual one first.
        empty: What is shown instead of no rows.
    """

    title: str
    key: str
    columns: Sequence[str]
    row: Callable[[Data, float], list[Cell | str]]
    right: Sequence[str]
    wide: str
    spared: Sequence[str]
    sorts: Sequence[Sort]
    empty: str

    def table(self, rows: Sequence[Data], now: float) -> Table:
        """Return rows as a table."""
        cells = [self.row(one, now) for one in rows]
        return Table(
            self.columns, cells, right=self.right, optional=("Paused",), spared=self.spared
        )


def _waiting(one: Data) -> float:
    return float(one["oldest_ready_secs"] or 0.0)


KINDS = {
    "jobs": Kind(
        "Jobs",
        "id",
        ("", "Status", "Id", "Task", "Queue", "Attempt", "Created", "Took", "Worker"),
        _job_row,
        ("Attempt", "Created", "Took"),
        "Task",
        ("Worker", "Attempt", "Took", "Queue"),
        (
            Sort("Created", lambda one: (one["created_at"], one["id"])),
            Sort("Took", lambda one: one["duration_secs"] or 0.0),
            Sort("Status", lambda one: one["status"], is_descending=False),
            Sort("Task", lambda one: one["func_name"], is_descending=False),
        ),
        "No jobs yet. Enqueue one: nuvom run TASK",
    ),
    "queues": Kind(
        "Queues",
        "queue",
        (
            *("", "Queue", "Ready", "Running", "Later", "Retry", "Parked", "Failed"),
            *("Oldest", "Workers", "Paused"),
        ),
        _queue_row,
        ("Ready", "Running", "Later", "Retry", "Parked", "Failed", "Oldest", "Workers"),
        "Queue",
        ("Later", "Parked", "Retry"),
        (
            Sort("Queue", lambda one: one["queue"], is_descending=False),
            Sort("Ready", lambda one: one["ready"]),
            Sort("Oldest", _waiting),
            Sort("Failed", lambda one: one["failed"] + one["dead"]),
        ),
        "No queue has had a job yet.",
    ),
    "workers": Kind(
        "Workers",
        "id",
        (
            *("", "State", "Id", "Pid", "Host", "Queues", "Busy", "Schedules"),
            *("Started", "Heartbeat"),
        ),
        _worker_row,
        ("Pid", "Busy", "Started", "Heartbeat"),
        "Queues",
        ("Schedules", "Started", "Pid", "Host"),
        (
            Sort("Started", lambda one: one["started_at"] or "", is_descending=False),
            Sort("Busy", lambda one: one["running"]),
            Sort("Heartbeat", lambda one: one["beat_age_secs"]),
        ),
        "No worker is running. Start one: nuvom runworker",
    ),
    "schedules": Kind(
        "Schedules",
        "name",
        ("", "State", "Name", "When", "Task", "Next", "Last", "Fired", "Missed"),
        _schedule_row,
        ("Next", "Last", "Fired", "Missed"),
        "When",
        ("Missed", "Task", "Fired", "Last"),
        (
            Sort("Next", lambda one: one["next_at"] or "~", is_descending=False),
            Sort("Name", lambda one: one["name"], is_descending=False),
            Sort("Missed", lambda one: one["missed"]),
        ),
        'No schedules yet. Make one in your code: task.schedule(cron="0 9 * * MON-FRI")',
    ),
    "errors": Kind(
        "Errors",
        "fingerprint",
        ("", "Jobs", "Task", "Error", "First", "Last"),
        _error_row,
        ("Jobs", "First", "Last"),
        "Error",
        ("First",),
        (
            Sort("Last", lambda one: one["last_at"] or ""),
            Sort("Jobs", lambda one: one["count"]),
            Sort("Task", lambda one: one["func_name"], is_descending=False),
        ),
        "No job has failed.",
    ),
}


# ---- the state of the whole -------------------------------------------------------------


class Piece(NamedTuple):
    """Some text in a style."""

    text: str
    style: str = ""


def figures(overview: Data) -> list[tuple[str, str, str]]:
    """Return label, value and style of each figure of the header, the most telling ones first."""
    queues, workers = overview["queues"], overview["workers"]
    waits = [one["oldest_ready_secs"] for one in queues if one["oldest_ready_secs"] is not None]

    def count(*names: str) -> str:
        is_more = any(name in one["at_least"] for one in queues for name in names)
        return f"{sum(one[name] for one in queues for name in names):,}{'+' * is_more}"

    running, failed, ready = count("running"), count("failed", "dead"), count("ready")
    return [
        ("Ready", ready, ""),
        ("Running", running, ACCENT if running != "0" else ""),
        ("Retrying", count("retrying"), ""),
        ("Failed", failed, RED if failed != "0" else ""),
        ("Oldest", duration(max(waits)) if waits else "-", ""),
        ("Workers", f"{workers['alive']:,}", AMBER if waits and not workers["alive"] else ""),
        ("Busy", f"{workers['running']:,} of {workers['slots']:,}", ""),
        ("Scheduled", count("scheduled"), ""),
    ]


def place(overview: Data) -> str:
    """Return which project and store this is, in short."""
    project = str(overview["project"]).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return f"{project}  {overview['environment']}  {overview['backend']}"


def counts(overview: Data) -> dict[str, int]:
    """Return the number beside each tab."""
    queues, schedules = overview["queues"], overview["schedules"]
    return {
        "jobs": sum(one["ready"] + one["scheduled"] + one["retrying"] for one in queues),
        "queues": len(queues),
        "workers": overview["workers"]["alive"],
        "schedules": schedules["active"],
        "errors": overview["failures"]["groups"],
    }


def attention(overview: Data) -> tuple[Piece, ...]:
    """Return what needs attention most, as one line."""
    found = sorted(overview["attention"], key=lambda one: str(one["level"]))  # fail before warn
    if not found:
        return (Piece("Nothing needs attention.", QUIET),)
    first, more = found[0], len(found) - 1
    style = RED if first["level"] == "fail" else AMBER
    rest = (Piece(f"  and {more:,} more: ?", QUIET),) if more else ()
    return (Piece(f"{first['text']}.", style), *rest)


def sparkline(values: Sequence[int]) -> str:
    """Return numbers as bars, one character each, from zero to the largest."""
    most = max(values, default=0)
    top = len(_BARS) - 1
    return "".join(_BARS[-(-value * top // most) if most else 0] for value in values)


def throughput(overview: Data) -> tuple[Piece, ...]:
    """Return how many jobs ended in the last minutes; nothing if the store does not tell."""
    found = overview["throughput"]
    if found is None:
        return ()
    values = found["ended"]
    if values[-1] < values[-2]:  # the running minute, in which the line would seem to fall
        values = values[:-1]
    rate = f" {found['per_minute']:,g}/min"
    return (Piece(sparkline(values), ACCENT), Piece(rate, STRONG))


def search_for(kind: str, row: Data) -> str:
    """Return the filter for the jobs of a queue or of a group of failures."""
    search = parse_search("")
    if kind == "queues":
        return search.with_("queue", row["queue"]).text
    found = search.with_("status", "FAILED", "DEAD").with_("task", row["func_name"])
    return found.with_("error", row["type"]).text


# ---- one of them in detail --------------------------------------------------------------


class DetailLine(NamedTuple):
    """A line of the detail view: a label, or a heading without a text, or a text alone."""

    label: str
    text: str = ""
    style: str = ""


def details(kind: str, one: Data, now: float) -> Iterator[DetailLine]:
    """Yield everything about one row. A job's data has to be that of ``Source.job``."""
    if kind == "jobs":
        yield from _job_facts(one, now)
        return
    for name, value in one.items():
        if value in (None, [], "") or name in _NOT_TOLD:
            continue
        label = _LABELS.get(name) or name.removesuffix("_secs").removesuffix("_at")
        label = label.replace("_", " ")
        if name.endswith("_at"):
            yield DetailLine(label, f"{value} ({_since(value, now)})")
        elif name.endswith("_secs"):
            yield DetailLine(label, duration(value))
        else:
            yield DetailLine(label, value if isinstance(value, str) else value_text(value))


def _job_facts(job: Data, now: float) -> Iterator[DetailLine]:
    mark, _, style = STATES.get(job["status"], _UNKNOWN)
    yield DetailLine("", f"{mark} {job['status']} {job_note(job, now)}".rstrip(), style or STRONG)
    yield DetailLine("id", job["id"])
    if (why := job.get("why")) is not None:
        yield DetailLine("why", f"{why['text']}. {why['fix']}".rstrip(), AMBER)
    yield DetailLine("task", job["func_name"], STRONG)
    arguments = job["damage"] or call_text(job["args"] or (), job["kwargs"] or {})
    yield DetailLine("arguments", _cut(arguments))
    if job["result"] is not None:
        yield DetailLine("result", _cut(value_text(job["result"])))
    if job["progress"] is not None:
        yield DetailLine("progress", _progress(job["progress"]))
    yield DetailLine("queue", f"{job['queue']}, priority {job['priority']}")
    yield DetailLine("attempt", f"{job['attempt'] or 'none yet'}, at most {job['max_retries'] + 1}")
    yield from _times(job, now)
    for label, value in _links(job):
        if value:
            yield DetailLine(label, value)
    yield from _attempts(job)
    if job["error"] is not None:
        yield DetailLine("Error")
        yield DetailLine("", trace_text(job["error"]), RED if job["status"] != "PARKED" else "")


def _times(job: Data, now: float) -> Iterator[DetailLine]:
    for name in ("created", "run", "started", "finished"):
        at = moment(job[f"{name}_at"])
        if at is None or (name == "run" and at <= now):
            continue
        took = job["duration_secs"] if name == "finished" else None
        after = "" if took is None else f", took {duration(took)}"
        yield DetailLine(
            "runs" if name == "run" else name, f"{job[f'{name}_at']} ({ago(at, now)}){after}"
        )


def _links(job: Data) -> tuple[tuple[str, str], ...]:
    limit = job["timeout_secs"]
    return (
        ("worker", job["worker"] or ""),
        ("timeout", f"{duration(limit)}, then {job['timeout_policy']}" if limit else ""),
        ("unique key", job["unique_key"] or ""),
        ("schedule", job["schedule"] or ""),
        ("parent", job["parent"] or ""),
        ("follow-ups", ", ".join(job["children"])),
        ("repeats", job["retried_from"] or ""),
        ("retried by", ", ".join(job["retried_by"])),
        ("tags", ", ".join(job["tags"])),
    )


def _attempts(job: Data) -> Iterator[DetailLine]:
    if job["attempts"]:
        yield DetailLine("Attempts")
    for one in job["attempts"]:
        took, error = one["duration_secs"], one["error"]
        parts = [one["outcome"], (one["started_at"] or "-")[11:19]]
        parts += [duration(took)] if took is not None else []
        parts += [f"{error['type']}: {error['message']}"] if error else []
        yield DetailLine(str(one["number"]), "  ".join(parts))


def _progress(progress: Data) -> str:
    total = f" of {progress['total']:g}" if progress["total"] else ""
    note = f", {progress['note']}" if progress["note"] else ""
    return f"{progress['done']:g}{total}{note}"


def _cut(text: str) -> str:
    if len(text) <= _MOST_CHARS:
        return text
    return f"{text[:_MOST_CHARS]}... and {plural(len(text) - _MOST_CHARS, 'character')} more"
