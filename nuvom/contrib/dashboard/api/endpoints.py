"""What the API can be asked: one table, ``ENDPOINTS``, with the functions that answer.

The data are those of the command line's ``--json``: both come from ``nuvom.inspection``.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import asdict

from nuvom.cli.project import make_record
from nuvom.contrib.dashboard import actions
from nuvom.contrib.dashboard.problems import HttpError
from nuvom.contrib.dashboard.visit import whole
from nuvom.core.options import NO_CALL_OPTIONS, call_options
from nuvom.discovery.manifest import by_any_name, tasks_or_nothing
from nuvom.errors import (
    FailureNotFound,
    PayloadError,
    Refused,
    TaskNotFound,
)
from nuvom.inspection import views
from nuvom.inspection.formats import rfc3339
from nuvom.inspection.inspector import COUNTED_JOBS
from nuvom.inspection.overview import (
    job_details,
    latest_jobs,
    overview,
    schedule_data,
    schedule_details,
)
from nuvom.inspection.search import parse_search
from nuvom.scheduler.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.options import CallOptions
    from nuvom.core.record import JobRecord, JobSnapshot
    from nuvom.core.views import AuditEntry

    Body = Mapping[str, Any]

Data = dict[str, Any]
_MOST_ROWS = 1000
_MOST_STEPS = 2000  # of a history
_GROUPS = 1000
_GROUP_JOBS = 20
_FIRES = 5
_MINUTE = 60
_OVERVIEW_SECS = 1.0


class Param(NamedTuple):
    """A value that a request may have.

    Attributes:
        kind: Its type in JSON.
        text: What it means, in a sentence.
    """

    kind: str
    text: str
    is_required: bool = False


class Endpoint(NamedTuple):
    """One address of the API.

    Attributes:
        path: Below ``/api/v1``.
        schema: The name and version of its answer, as in the answer.
        call: Makes the answer; it may write through ``actions.perform`` and nothing else.
        right: The action that it needs; none if it only reads.
        query, body: What it may be given.
    """

    method: str
    path: str
    schema: str
    call: Callable[[Visit, Body], Data]
    text: str
    right: str = ""
    query: Mapping[str, Param] = {}
    body: Mapping[str, Param] = {}
    status: int = 200


# ---- reading --------------------------------------------------------------------------------


def _overview(visit: Visit, _: Body) -> Data:
    return visit.site.kept(
        "overview",
        _OVERVIEW_SECS,
        lambda: overview(visit.runtime, visit.inspector, COUNTED_JOBS),
        until_change=True,
    )


def _jobs(visit: Visit, _: Body) -> Data:
    search, before = parse_search(visit.asked("q")), visit.asked("before") or None
    found = visit.inspector.search(search, before=before, limit=_number(visit, "limit", 50))
    jobs = [views.job_data(one) for one in found.jobs]
    return {**found._asdict(), "jobs": jobs}


def _snapshot(visit: Visit) -> JobSnapshot:
    """Return the job of the path: its id, or the end of it. Raises: JobNotFound, AmbiguousJob."""
    inspector = visit.inspector
    return inspector.snapshot(inspector.find_id(visit.named("id")))


def _job(visit: Visit, _: Body) -> Data:
    snapshot = _snapshot(visit)
    return {
        **job_details(visit.inspector, snapshot),
        "editable": _editable(visit, snapshot.record),
    }


def _editable(visit: Visit, record: JobRecord) -> str | None:
    """Return a job's call as JSON text, in which integers of any size are exact."""
    try:
        args, kwargs = visit.inspector.editable_arguments(record)
    except PayloadError:
        return None
    return json.dumps({"args": args, "kwargs": kwargs}, indent=2)


def _attempts(visit: Visit, _: Body) -> Data:
    attempts = visit.inspector.attempts(_snapshot(visit).record.id)
    return {"attempts": [views.attempt_data(one) for one in attempts]}


def _queues(visit: Visit, _: Body) -> Data:
    inspector, now = visit.inspector, visit.now
    stats = inspector.stats(COUNTED_JOBS)
    found = [views.queue_data(one, now, inspector.workers_on(one.queue)) for one in stats]
    return {"queues": found}


def _workers(visit: Visit, _: Body) -> Data:
    return {"workers": [views.worker_data(one) for one in visit.inspector.processes()]}


def _schedules(visit: Visit, _: Body) -> Data:
    return {"schedules": [schedule_data(one) for one in visit.inspector.schedules()]}


def _schedule(visit: Visit, _: Body) -> Data:
    inspector = visit.inspector
    handle = Schedule(inspector.schedule(visit.named("name")), visit.runtime)
    times = handle.next(_FIRES)
    jobs = latest_jobs(inspector, handle.record)
    return schedule_details(inspector, handle.record, times=times, jobs=jobs)


def _errors(visit: Visit, _: Body) -> Data:
    groups = visit.inspector.error_groups(_number(visit, "limit", 50))
    return {"errors": [views.group_data(one) for one in groups]}


def _error(visit: Visit, _: Body) -> Data:
    inspector, fingerprint = visit.inspector, visit.named("fingerprint")
    groups = inspector.error_groups(_GROUPS)
    group = next((one for one in groups if one.fingerprint == fingerprint), None)
    if group is None:
        raise FailureNotFound(fingerprint, [one.fingerprint for one in groups])
    ids = inspector.failed_ids(fingerprint)[:_GROUP_JOBS]
    jobs = [inspector.snapshot(one) for one in ids]
    newest = views.error_data(jobs[0].error, traceback=True) if jobs else None
    listed = [views.job_data(one) for one in jobs]
    return {**views.group_data(group), "newest": newest, "jobs": listed}


def _tasks(visit: Visit, _: Body) -> Data:
    manifest = visit.runtime.settings.manifest_file
    tasks = [views.task_data(one) for one in tasks_or_nothing(manifest)]
    return {"manifest": manifest if manifest.exists() else None, "tasks": tasks}


def _history(visit: Visit, _: Body) -> Data:
    until = _number(visit, "until", math.ceil(visit.now), most=None)
    since = _number(visit, "since", until - 3600, most=None)
    step = _number(visit, "step", _MINUTE, most=None)
    if step % _MINUTE or not step:
        raise HttpError(422, f"step has to be a multiple of {_MINUTE} seconds.")
    if (until - since) / step > _MOST_STEPS:
        raise HttpError(422, f"These are more than {_MOST_STEPS} steps: make them longer.")
    rows = visit.inspector.history(since, until, step)
    return {"since": since, "until": until, "step": step, "rows": [asdict(one) for one in rows]}


def _audit(visit: Visit, _: Body) -> Data:
    before = visit.asked("before") or None
    found = visit.inspector.audit(_number(visit, "limit", 100), before)
    return {"audit": [{**asdict(one), "at": rfc3339(one.at)} for one in found]}


def _number(visit: Visit, name: str, default: int, *, most: int | None = _MOST_ROWS) -> int:
    """Return a whole number of the query, at most ``most``. Raises: HttpError."""
    text = visit.asked(name) or str(default)
    found = whole(text)
    if found is None:
        raise HttpError(422, f"{name} has to be a whole number, not {text[:50]!r}.")
    return found if most is None else min(max(found, 1), most)


# ---- jobs -----------------------------------------------------------------------------------


def _change(do: str) -> Callable[[Visit, Body], Data]:
    def change(visit: Visit, body: Body) -> Data:
        before = _snapshot(visit)
        _check_seen(before, body)
        entry = actions.change_job(visit, do, before.record.id, before.record.lease_epoch)
        if not entry.done:
            what = f"Job {before.record.id} is {before.status}, or has changed meanwhile"
            raise Refused(what, "Read it again.")
        return {"id": before.record.id, "action": do, "status_before": str(before.status)}

    return change


def _check_seen(now: JobSnapshot, body: Body) -> None:
    """Raises: Refused: the job is not as the sender has seen it."""
    status, epoch = body.get("status"), body.get("lease_epoch")
    if status not in (None, now.status) or epoch not in (None, now.record.lease_epoch):
        raise Refused(f"Job {now.record.id} has changed, and is {now.status} now", "Read it again.")


def _repeat(visit: Visit, body: Body) -> Data:
    seen = _snapshot(visit)
    _check_seen(seen, body)
    old, changes = seen.record, Data()
    if "args" in body or "kwargs" in body:
        call = visit.inspector.edited_arguments(
            old, body.get("args") or [], body.get("kwargs") or {}
        )
        called = _called(visit, old.func_name, call)
        # The key of the old call may not be that of the new one.
        changes = {"args": called.args, "kwargs": called.kwargs}
        changes |= {"unique_key": None, "unique_for": None}
    return {"id": actions.repeat(visit, seen, **changes), "retried_from": old.id}


def _enqueue(visit: Visit, body: Body) -> Data:
    given = dict(body.get("options") or {})
    unknown = given.keys() - _OPTIONS
    if unknown:
        known = ", ".join(sorted(_OPTIONS))
        raise HttpError(422, f"There is no option {min(unknown)}. There are: {known}.")
    for name in ("run_at", "expires"):
        given = {**given, name: _moment(name, given[name])} if name in given else given
    options = call_options(NO_CALL_OPTIONS, given)
    call = tuple(body.get("args") or ()), dict(body.get("kwargs") or {})
    record = _called(visit, str(body["task"]), call, options)
    stored: list[str | None] = []

    def store() -> bool:
        stored.append(visit.runtime.dispatcher.enqueue(record))
        return stored[0] is None

    actions.perform(visit, "enqueue", record.func_name, [store])
    return {"id": stored[0] or record.id, "created": stored[0] is None}


_OPTIONS = {
    *("queue", "priority", "retries", "retry_delay_secs", "timeout_secs", "soft_timeout_secs"),
    *("timeout_policy", "store_result", "result_ttl_secs", "tags", "delay", "run_at", "expires"),
    *("unique_key", "unique_for", "metadata"),
}


def _moment(name: str, given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        return datetime.fromisoformat(given)
    except ValueError:
        raise HttpError(422, f"{name} has to be a time such as 2026-05-11T09:30:00Z.") from None


def _called(
    visit: Visit,
    task: str,
    call: tuple[tuple[Any, ...], dict[str, Any]],
    options: CallOptions = NO_CALL_OPTIONS,
) -> JobRecord:
    """Return the record of a call. Nothing is imported, whatever the task is named.

    Raises: TaskNotFound: the manifest does not list it, nor has this program registered it.
    """
    runtime = visit.runtime
    listed = by_any_name(tasks_or_nothing(runtime.settings.manifest_file))
    if task in listed:
        return make_record(runtime, listed[task], call, options)
    definition = runtime.registry.get(task)
    if definition is None:
        raise TaskNotFound(task, sorted(listed))
    return runtime.dispatcher.make_record(definition, *call, options)


# ---- failures, queues, workers and schedules ----------------------------------------------------


def _counts(entry: AuditEntry) -> Data:
    names = ("action", "target", "asked", "done", "skipped", "failed", "note")
    return {name: getattr(entry, name) for name in names}


def _change_group(do: str) -> Callable[[Visit, Body], Data]:
    return lambda visit, _: _counts(actions.change_group(visit, do, visit.named("fingerprint")))


def _pause(visit: Visit, _: Body) -> Data:
    actions.pause_queue(visit)
    return {"queue": visit.named("name"), "change": "paused", "by": visit.by}


def _resume(visit: Visit, _: Body) -> Data:
    is_done = actions.resume(visit).done
    return {"queue": visit.named("name"), "change": "resumed" if is_done else "was not paused"}


def _purge(visit: Visit, body: Body) -> Data:
    name = visit.named("name")
    removed = actions.purge(visit, str(body["confirm"])).done
    return {"queue": name, "change": f"purged, {removed} removed", "removed": removed}


def _tell(word: str) -> Callable[[Visit, Body], Data]:
    def tell(visit: Visit, _: Body) -> Data:
        actions.tell_worker(visit, word)
        return {"command": word, "workers": [visit.named("id")]}

    return tell


def _run(visit: Visit, _: Body) -> Data:
    return {"name": visit.named("name"), "job": actions.run_schedule_now(visit)}


def _change_schedule(call: Callable[[Visit], object], change: str) -> Callable[[Visit, Body], Data]:
    def act(visit: Visit, _: Body) -> Data:
        call(visit)
        one = visit.inspector.schedule(visit.named("name"))
        next_at = rfc3339(one.next_at) if one.state == "active" else None
        return {"name": one.name, "change": change, "state": one.state, "next_at": next_at}

    return act


# ---- the table --------------------------------------------------------------------------------

_LIMIT = Param("integer", f"How many at most; no more than {_MOST_ROWS}.")
_BEFORE = Param("string", "Go on behind this id: the last one of the page before.")
_SEEN = {
    "status": Param("string", "Only if the job still has this status."),
    "lease_epoch": Param("integer", "Only if the job still has this number: each run raises it."),
}
_CALL = {
    "args": Param("array", "Arguments by place."),
    "kwargs": Param("object", "Arguments by name."),
}


def _job_change(do: str, text: str) -> Endpoint:
    path = f"/jobs/{{id}}/{do}"
    return Endpoint("POST", path, "nuvom.job_change/1", _change(do), text, do, body=_SEEN)


def _worker_change(word: str, text: str) -> Endpoint:
    path = f"/workers/{{id}}/{word}"
    return Endpoint("POST", path, "nuvom.worker_command/1", _tell(word), text, "worker")


ENDPOINTS = (
    Endpoint("GET", "/overview", "nuvom.overview/1", _overview, "The state of the project."),
    Endpoint(
        "GET",
        "/jobs",
        "nuvom.jobs/1",
        _jobs,
        "Jobs that match a search, newest first.",
        query={
            "q": Param("string", "The search, such as status:FAILED task:shop.*; empty: all."),
            "before": Param("string", "Go on behind this: the next_before of the page before."),
            "limit": _LIMIT,
        },
    ),
    Endpoint(
        "POST",
        "/jobs",
        "nuvom.enqueued/1",
        _enqueue,
        "Enqueue a job of a task. Its arguments are checked against the task's signature.",
        "enqueue",
        body={
            "task": Param("string", "The full name of the task.", is_required=True),
            **_CALL,
            "options": Param("object", "As for .options(), such as queue, delay and priority."),
        },
        status=201,
    ),
    Endpoint("GET", "/jobs/{id}", "nuvom.job/1", _job, "Everything about a job."),
    Endpoint("GET", "/jobs/{id}/attempts", "nuvom.attempts/1", _attempts, "The attempts of a job."),
    _job_change("retry", "Run a job again that ended FAILED, DEAD or CANCELLED."),
    _job_change("cancel", "Cancel a job that has not ended."),
    _job_change("discard", "Remove a job that has ended."),
    Endpoint(
        "POST",
        "/jobs/{id}/repeat",
        "nuvom.repeated/1",
        _repeat,
        "Store a new job with the same arguments, or with others.",
        "repeat",
        body={**_SEEN, **_CALL},
        status=201,
    ),
    Endpoint("GET", "/queues", "nuvom.queues/1", _queues, "All queues, with counts."),
    Endpoint(
        "POST",
        "/queues/{name}/pause",
        "nuvom.queue_change/1",
        _pause,
        "Start no more jobs of a queue.",
        "pause",
    ),
    Endpoint(
        "POST",
        "/queues/{name}/resume",
        "nuvom.queue_change/1",
        _resume,
        "Start jobs of a queue again.",
        "pause",
    ),
    Endpoint(
        "POST",
        "/queues/{name}/purge",
        "nuvom.queue_change/1",
        _purge,
        "Remove all waiting jobs of a queue.",
        "purge",
        body={"confirm": Param("string", "The name of the queue once more.", is_required=True)},
    ),
    Endpoint("GET", "/workers", "nuvom.workers/1", _workers, "All workers and schedulers."),
    _worker_change("quiet", "Let a worker take no more jobs."),
    _worker_change("resume", "Let a worker take jobs again."),
    _worker_change("stop", "Let a worker finish its jobs and stop."),
    Endpoint("GET", "/schedules", "nuvom.schedules/1", _schedules, "All schedules."),
    Endpoint(
        "GET", "/schedules/{name}", "nuvom.schedule/1", _schedule, "Everything about a schedule."
    ),
    Endpoint(
        "POST",
        "/schedules/{name}/run",
        "nuvom.schedule_run/1",
        _run,
        "Enqueue a job of a schedule now.",
        "schedule",
    ),
    Endpoint(
        "POST",
        "/schedules/{name}/pause",
        "nuvom.schedule_change/1",
        _change_schedule(actions.pause_schedule, "paused"),
        "Stop a schedule from firing.",
        "schedule",
    ),
    Endpoint(
        "POST",
        "/schedules/{name}/resume",
        "nuvom.schedule_change/1",
        _change_schedule(actions.resume_schedule, "resumed"),
        "Let a schedule fire again.",
        "schedule",
    ),
    Endpoint(
        "GET",
        "/errors",
        "nuvom.errors/1",
        _errors,
        "Failures grouped by cause, latest first.",
        query={"limit": _LIMIT},
    ),
    Endpoint("GET", "/errors/{fingerprint}", "nuvom.error_group/1", _error, "One group."),
    Endpoint(
        "POST",
        "/errors/{fingerprint}/retry",
        "nuvom.change/1",
        _change_group("retry"),
        "Run all jobs of a group again.",
        "retry",
    ),
    Endpoint(
        "POST",
        "/errors/{fingerprint}/discard",
        "nuvom.change/1",
        _change_group("discard"),
        "Remove all jobs of a group.",
        "discard",
    ),
    Endpoint("GET", "/tasks", "nuvom.tasks/1", _tasks, "The tasks that were found in the code."),
    Endpoint(
        "GET",
        "/history",
        "nuvom.history/1",
        _history,
        "How many jobs ended in which way, in steps of time.",
        query={
            "since": Param("integer", "Seconds since the epoch; an hour before until."),
            "until": Param("integer", "Seconds since the epoch; now."),
            "step": Param("integer", "Seconds of a step: 60, or a multiple of it."),
        },
    ),
    Endpoint(
        "GET",
        "/audit",
        "nuvom.audit/1",
        _audit,
        "Who changed what, newest first.",
        query={"before": _BEFORE, "limit": _LIMIT},
    ),
)
