"""The overview: does work flow, and what needs attention?"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from nuvom.contrib.dashboard import charts, frame, readings
from nuvom.contrib.dashboard.visit import Page
from nuvom.discovery.manifest import tasks_or_nothing
from nuvom.errors import plural
from nuvom.inspection import figures
from nuvom.inspection.formats import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.discovery.entries import TaskEntry
    from nuvom.inspection.figures import Flow, ProjectFigures, QueueFigures
    from nuvom.inspection.overview import Check

_STEPS = {60: "min", 600: "10 min", 7200: "2 h"}
_BEFORE = {"15m": "same time yesterday", "1h": "same hour yesterday", "24h": "the day before"}
_NAMED = {  # what a name at the start of a sentence is the name of
    "silent": "Worker",
    "other_code": "Worker",
    "paused": "Queue",
    "behind": "Queue",
}
_MARKS = {
    "silent": "silent",
    "other_code": "late",
    "orphans": "dead",
    "paused": "paused",
    "dead": "dead",
    "parked": "parked",
}
_JOBS = {  # the jobs that it is about: their status, and what the subject is the name of
    "dead": ("DEAD", "queue"),
    "parked": ("PARKED", "task"),
    "slow": ("RUNNING", "task"),
    "orphans": ("RUNNING", ""),
}
NONE = "\N{EN DASH}"  # no value
_PID = re.compile(r"\(pid \d+ on ([^)]+)\)")  # the worker's own page tells it
_COULD_NOT = "a worker could not run it: "
_EXAMPLE = "tasks.add"  # the task that ``nuvom init`` writes


class Figure(NamedTuple):
    """A figure: what it is, its number, and one line that gives the number its scale."""

    label: str
    number: str
    unit: str
    scale: str
    href: str = ""


class Concern(NamedTuple):
    """Something that needs attention.

    Attributes:
        mark: A class of the style sheet.
        before, subject, after: The headline; the subject is a name.
        button: The label of what mends it; with ``path`` a link, with ``post`` a form.
    """

    mark: str
    before: str
    subject: str
    after: str
    detail: str
    button: str = ""
    path: str = ""
    post: str = ""


class FirstStep(NamedTuple):
    """A line to type at the start, and whether that has happened."""

    command: str
    text: str
    is_done: bool
    state: str


def overview(visit: Visit) -> Page:
    """Show the figures, the flow of jobs, what needs attention, and the queues."""
    found = readings.queues(visit)
    if not found and visit.inspector.sees_processes:
        return Page("start.html", {"steps": _steps(visit)})
    word = frame.window(visit)
    flow = readings.flow(visit, frame.WINDOWS[word][0])
    concerns = sorted(readings.concerns(visit), key=lambda one: one.level != "fail")
    project = figures.project(visit.inspector, readings.recent(visit), found)
    return Page(
        "overview.html",
        {
            "figures": _figures(visit, project),
            "concerns": [_concern(visit, one, found) for one in concerns],
            "queues": found,
            "window": word,
            **flow_context(visit, flow, word),
        },
    )


def flow_context(visit: Visit, flow: Flow, word: str) -> dict[str, object]:
    """Return what ``flow.html`` shows."""
    shape = "%a %H:%M" if word == "7d" else "%H:%M"
    time_text = partial(frame.clock, visit, shape=shape)
    per = _STEPS[flow.step]
    return {
        "keeps_history": visit.inspector.keeps_history,
        "flow": flow,
        "per": per,
        "before": _BEFORE.get(word, "the week before"),
        "chart": charts.throughput(flow, per, time_text),
        "rows": list(_rows(flow, time_text)) if visit.asked("table") else [],
    }


def _rows(flow: Flow, time_text: partial[str]) -> list[tuple[str, str, int, int]]:
    """Return the chart as a table, the latest step first."""
    rows = []
    for place in reversed(range(flow.steps)):
        is_known = place < len(flow.finished)
        ended = f"{flow.finished[place]:,}" if is_known else "running"
        when = time_text(flow.since + place * flow.step)
        rows.append((when, ended, flow.before[place], flow.failed[place]))
    return rows


# ---- figures ---------------------------------------------------------------------------------


def number(secs: float) -> tuple[str, str]:
    """Return a duration as the number and the rest: ``("2", "h 4 min")``."""
    first, _, rest = duration(secs).partition(" ")
    return first, rest


def _figures(visit: Visit, found: ProjectFigures) -> list[Figure]:
    if not visit.inspector.sees_processes:
        labels = ("Ready to run", "Running", "Scheduled", "Failed, 24 h")
        return [Figure(one, NONE, "", "this store does not tell") for one in labels]
    share = f"{found.busiest_share:.0%}".replace("%", " %")
    slots = "" if found.slots is None else f"of {plural(found.slots, 'slot')}"
    workers = "" if found.alive is None else f"{plural(found.alive, 'worker')} alive"
    oldest = (NONE, "") if found.oldest_secs is None else number(found.oldest_secs)
    left_out = "paused queues left out" if found.is_one_paused else "no job waits"
    return [
        Figure(
            "Ready to run",
            f"{found.ready:,}",
            "",
            f"{share} in {found.busiest}" if found.busiest else "no job waits for a worker",
            frame.jobs(visit, status="PENDING"),
        ),
        Figure(
            "Running", f"{found.running:,}", slots, workers, frame.jobs(visit, status="RUNNING")
        ),
        *_later(found),
        _failed(visit, found),
        Figure(
            "Oldest ready", *oldest, f"in {found.oldest_queue}" if found.oldest_queue else left_out
        ),
    ]


def _later(found: ProjectFigures) -> list[Figure]:
    """Return the figures of jobs that wait for a time, with the next one where it is known whose.

    Stores know the next time of both kinds, and not of each.
    """
    secs = found.next_due_secs
    next_one = "" if secs is None else duration(max(1.0, round(secs)))
    scheduled, retrying = "wait for their time", "after a failed attempt"
    if next_one and found.scheduled:
        scheduled = f"next {'or a retry ' * bool(found.retrying)}in {next_one}"
    elif next_one and found.retrying:
        retrying = f"next in {next_one}"
    return [
        Figure("Scheduled", f"{found.scheduled:,}", "", scheduled),
        Figure("Waiting to retry", f"{found.retrying:,}", "", retrying),
    ]


def _failed(visit: Visit, found: ProjectFigures) -> Figure:
    if found.failed is None or found.ended is None:
        return Figure("Failed, 24 h", NONE, "", "this store keeps no history")
    share = found.failed / found.ended if found.ended else 0.0
    text = f"{share * 100:.2g} % of {found.ended:,}" if found.ended else "no job has ended"
    href = visit.url("/errors", window="24h")
    return Figure("Failed, 24 h", f"{found.failed:,}", "", text, href)


# ---- what needs attention --------------------------------------------------------------------


def _concern(visit: Visit, check: Check, queues: Sequence[QueueFigures]) -> Concern:
    head, _, rest = check.text.partition(": ")
    name = check.subject[-8:] if check.kind in ("silent", "other_code") else check.subject
    before, subject, after = head.partition(name) if name and name in head else (head, "", "")
    if subject and not before:
        before = f"{_NAMED.get(check.kind, '')} ".lstrip()
        after = _PID.sub(r"on \1", after)
    button = _button(visit, check)
    fix = "" if button and "nuvom " in check.fix else check.fix  # the button is nearer
    detail = " ".join(_sentence(one) for one in (rest, fix) if one)
    if check.kind == "declared":
        detail = rest  # names, which stay as they are
    if check.kind == "paused":
        detail = _waiting(check.subject, queues)
    if check.kind == "parked" and name:
        before, after = "No worker can run ", ""
        count, reason = head.replace(f" of {name}", ""), rest.removeprefix(_COULD_NOT)
        detail = " ".join(_sentence(one) for one in (count, reason, fix) if one)
    mark = _MARKS.get(check.kind, "failed" if check.level == "fail" else "late")
    concern = Concern(mark, f"{before[:1].upper()}{before[1:]}", subject, after, detail)
    return concern._replace(**button)


def _sentence(text: str) -> str:
    end = "" if text.endswith((".", "?")) else "."
    return f"{text[:1].upper()}{text[1:]}{end}"


def _waiting(queue: str, queues: Sequence[QueueFigures]) -> str:
    one = next((one for one in queues if one.stats.queue == queue), None)
    if one is None or not one.stats.waiting:
        return "No job waits on it."
    verb = "waits" if one.stats.waiting == 1 else "wait"
    oldest = "" if one.oldest_secs is None else f", the oldest for {duration(one.oldest_secs)}"
    return f"{plural(one.stats.waiting, 'job')} {verb}{oldest}."


def _button(visit: Visit, check: Check) -> dict[str, str]:
    """Return the label of what mends it, or shows more of it, and where that is."""
    name = check.subject
    if check.kind == "paused" and visit.may("pause"):
        return {"button": "Resume", "post": f"/queues/{name}/resume"}
    if check.kind in _JOBS:
        status, of = _JOBS[check.kind]
        wanted = {"status": status, **({of: name} if of and name else {})}
        return {"button": "Show jobs", "path": frame.jobs(visit, **wanted)}
    if check.kind in ("silent", "other_code"):
        return {"button": "Show worker", "path": visit.url(f"/workers/{name}")}
    if check.name == "queues" and name:
        return {"button": "Show queue", "path": visit.url(f"/queues/{name}")}
    if check.name == "schedules":
        return {"button": "Show schedules", "path": visit.url("/schedules")}
    return {}


# ---- a project without jobs ------------------------------------------------------------------


def _steps(visit: Visit) -> list[FirstStep]:
    settings = visit.runtime.settings
    tasks = tasks_or_nothing(settings.manifest_file)
    alive = sum(one.state != "silent" for one in visit.inspector.workers())
    is_begun = bool(tasks) or (settings.root / "nuvom.toml").is_file()
    found = f"Done, {plural(len(tasks), 'task')} found" if tasks else "Done"
    return [
        FirstStep("nuvom init", "", is_begun, found if is_begun else "Waiting for your project"),
        FirstStep(
            "nuvom dev",
            "Starts a worker, the scheduler and this page.",
            alive > 0,
            f"Done, {plural(alive, 'worker')} alive" if alive else "Waiting for a worker",
        ),
        _first_job(tasks),
    ]


def _first_job(tasks: Sequence[TaskEntry]) -> FirstStep:
    if not tasks or any(one.name == _EXAMPLE for one in tasks):
        command = f"nuvom run {_EXAMPLE} 2 3 --wait"
        text = "In a second terminal. Puts one job in the queue and prints 5."
    else:
        command = f"nuvom run {tasks[0].name} --wait"
        text = f"In a second terminal, with arguments for {tasks[0].signature}."
    return FirstStep(command, text, False, "Waiting for your first job")
