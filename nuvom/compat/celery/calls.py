"""Turns a call into a job: ``apply_async``, ``send_task``, links and schedules all end here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from nuvom import sdk
from nuvom.compat.celery.canvas import signature
from nuvom.compat.celery.context import METADATA, running
from nuvom.compat.celery.exceptions import CeleryError, NotSupported
from nuvom.compat.celery.options import job_options
from nuvom.compat.celery.result import AsyncResult, job_id_of
from nuvom.compat.celery.schedules import rule_options
from nuvom.compat.celery.signals import after_task_publish, before_task_publish
from nuvom.config.sources import project_name
from nuvom.core.guard import engine_call
from nuvom.core.ids import new_id
from nuvom.core.job_context import current
from nuvom.core.options import CallOptions, call_options
from nuvom.errors import (
    CapabilityMissing,
    NuvomError,
    ScheduleError,
    SerializationError,
    TaskError,
)
from nuvom.execution.attempts import current_job
from nuvom.runtime import current_runtime
from nuvom.scheduler import planner
from nuvom.scheduler.schedule import put, store_of, wanted_record
from nuvom.scheduler.store import all_records
from nuvom.scheduler.trigger import checked_rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuvom.registry.registry import TaskDefinition
    from nuvom.scheduler.record import ScheduleRecord
    from nuvom.scheduler.store import BaseScheduleStore

_NOTHING: Mapping[str, Any] = {}
_CALLS_KEPT = 500
_PLAIN = (int, float, str)
_LINE = ("parent_id", "root_id")
_ORIGIN = "celery"  # of schedules
_FAULTS = (CeleryError, ScheduleError, TaskError, SerializationError, TypeError, ValueError)

_log = logging.getLogger("nuvom.celery")


class Target(NamedTuple):
    """A task of Nuvom's with the options of one call, as ``current_job().enqueue`` takes it."""

    definition: TaskDefinition
    call_options: CallOptions


def submit(
    app: Any,
    definition: TaskDefinition,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    own: Mapping[str, Any] = _NOTHING,
    given: Mapping[str, Any] = _NOTHING,
) -> AsyncResult:
    """Store a job.

    Args:
        app: The application, whose settings count.
        own, given: The options of the task, and of the call.
    Raises: NotSupported: an option cannot be kept; and what ``Task.delay`` of Nuvom raises.
    """
    given = {name: value for name, value in given.items() if value is not None}
    headers, task_id = dict(given.pop("headers", {})), given.pop("task_id", None)
    links = [dict(signature(one)) for one in listed(given.pop("link", ()))]
    told = _line_of_call()
    options = _options_of(
        app, definition.name, (args, kwargs), own=own, given=given, line=tuple(told.values())
    )
    told["link"] = links
    if task_id is not None and job_id_of(task_id) != task_id:
        told["task_id"] = task_id
    task_id = task_id or new_id()
    sent = {"id": task_id, "task": definition.name, **headers}
    message = {"body": (args, kwargs, {}), "headers": sent, "exchange": "", "properties": {}}
    message["routing_key"] = options.get("queue") or definition.options.queue
    before_task_publish.send(
        definition.name, declare=[], retry_policy=None, **message
    )  # a receiver may add headers
    told["headers"] = {name: one for name, one in sent.items() if name not in ("id", "task")}
    if told["headers"] or links or "task_id" in told:
        told = {name: value for name, value in told.items() if value}
        options = call_options(options, {"metadata": {METADATA: told}})
    _store(definition, args, kwargs, options=options, job_id=job_id_of(task_id))
    after_task_publish.send(definition.name, **message)
    return AsyncResult(task_id, app=app, task_name=definition.name)


def _options_of(
    app: Any,
    name: str,
    call: tuple[Any, Any],
    *,
    own: Mapping[str, Any],
    given: dict[str, Any],
    line: tuple[Any, ...],
) -> CallOptions:
    """Return Nuvom's options of a call: the same object for like calls, which is much faster.

    Args:
        line: Ids of the parent and the root.
    """
    conf = app.conf
    if not conf.routes_by_call and all(isinstance(one, _PLAIN) for one in given.values()):
        key = name, tuple(given.items()), *own.values(), *line
        found: CallOptions | None = conf.calls.get(key)
        if found is not None:
            return found
        if len(conf.calls) >= _CALLS_KEPT:
            conf.calls.clear()
    else:
        key = None
    options = job_options(name, *call, conf, own=own, given=given)
    if line:
        told = dict(zip(_LINE, line, strict=True))
        options = call_options(options, {"metadata": {METADATA: told}})
    if key is not None:
        conf.calls[key] = options
    return options


@engine_call
def _store(
    definition: TaskDefinition,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    options: CallOptions,
    job_id: str,
) -> None:
    current_runtime().dispatcher.dispatch(definition, args, kwargs, options, job_id=job_id)


def follow(app: Any, links: list[dict[str, Any]], value: Any) -> None:
    """Enqueue the linked calls of the running job, together with its success."""
    for link in links:
        call = signature(link)
        args = call.args if call.immutable else (value, *call.args)
        target = _target(app, call.task, (args, call.kwargs), call.options, of="a link")
        current_job().enqueue(target, *args, **call.kwargs)


def _target(
    app: Any, name: str, call: tuple[Any, Any], given: dict[str, Any], *, of: str
) -> Target:
    """Return a task, which need not be imported, with the options of a call that comes later.

    Raises: TaskNotFound; NotSupported: an option cannot be kept.
    """
    task = app.tasks.get(name)
    definition = sdk.task_by_name(name).definition if task is None else task.definition
    own = _NOTHING if task is None else task.own_options
    for option in ("task_id", "link", "headers"):
        if given.get(option):
            raise NotSupported(f"{option}= of {of}", "let a task call it by apply_async().")
    given = {key: value for key, value in given.items() if value is not None}
    return Target(definition, job_options(name, *call, app.conf, own=own, given=given))


def listed(links: Any) -> list[Any]:
    """Return the links of a call as a list."""
    return list(links) if isinstance(links, list | tuple) else [links]


def _line_of_call() -> dict[str, Any]:
    """Return the ids of the job that makes this call, if one does."""
    attempt, here = current.get(), running.get()
    if attempt is None:
        return {}
    parent = attempt.record.id if here is None else here[1].id
    return dict(zip(_LINE, (parent, parent if here is None else here[1].root_id), strict=True))


# ---- schedules -----------------------------------------------------------------------------


@engine_call
def store_schedules(apps: Sequence[Any]) -> None:
    """Store the schedules of all applications, and disable those that they no longer have.

    One that cannot be stored is logged, and does not keep a worker from starting.

    Raises: what the store raises.
    """
    entries = {
        name: (app, entry)
        for app in apps
        for name, entry in {**(app.conf.beat_schedule or {}), **app.periodic}.items()
    }
    try:
        store = store_of(current_runtime())
    except CapabilityMissing as error:
        if entries:
            _log.error("No periodic task runs: %s", error)
        return
    project = project_name(current_runtime().settings)
    for name, (app, entry) in entries.items():
        try:
            wanted = replace(_wanted(store, app, name, entry), origin=_ORIGIN, project=project)
        except _FAULTS as error:
            reason = error.what if isinstance(error, NuvomError) else error
            _log.error("The periodic task %r does not run: %s", name, reason)
            continue
        seen = store.get(name)
        if seen is None or (seen.origin, seen.project) == (_ORIGIN, project):
            put(store, wanted)
        else:
            _log.error("The periodic task %r does not run: a schedule has this name already", name)
    for seen in all_records(store):
        if (seen.origin, seen.project) == (_ORIGIN, project) and seen.name not in entries:
            _disable(store, seen)


def _wanted(
    store: BaseScheduleStore, app: Any, name: str, entry: Mapping[str, Any]
) -> ScheduleRecord:
    args, kwargs = tuple(entry.get("args") or ()), dict(entry.get("kwargs") or {})
    if "task" not in entry:
        raise NotSupported("an entry of beat_schedule without a task", "name one.")
    given = dict(entry.get("options") or {})
    definition, options = _target(app, entry["task"], (args, kwargs), given, of="a schedule")
    rule = checked_rule(rule_options(entry, app.conf), store.clock.now())
    job = current_runtime().dispatcher.make_record(definition, args, kwargs, options)
    return wanted_record(job, options, rule, name)


def _disable(store: BaseScheduleStore, seen: ScheduleRecord | None) -> None:
    while seen is not None and seen.disabled is None:
        change = planner.disabled(
            seen, "beat_schedule does not have it any more", store.clock.now()
        )
        if store.apply([change])[0]:
            return
        seen = store.get(seen.name)
