"""The state of a whole project, and what in it needs attention."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nuvom._version import __version__
from nuvom.core.record import JobStatus
from nuvom.core.text import mask_text
from nuvom.core.views import ENDS
from nuvom.discovery.manifest import by_any_name, tasks_or_nothing
from nuvom.errors import JobNotFound, PayloadError, plural
from nuvom.inspection import figures, views
from nuvom.inspection.formats import ago, duration, rfc3339
from nuvom.inspection.history import series
from nuvom.inspection.inspector import COUNTED_JOBS, Inspector
from nuvom.inspection.views import short_id
from nuvom.scheduler.declared import declared_by
from nuvom.scheduler.trigger import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from nuvom.config.settings import Settings
    from nuvom.core.record import JobSnapshot
    from nuvom.core.views import QueueStats, WorkerInfo
    from nuvom.discovery.entries import TaskEntry
    from nuvom.runtime import Runtime
    from nuvom.scheduler.record import ScheduleRecord

_LATEST = 5  # failures that the overview tells of
SCHEDULE_STATES = ("active", "paused", "disabled", "ended")
_SHOWN = 5
_SHOWN_PARKED = 3
_MOST_DEAD = 100  # DEAD jobs of a queue among which the last one is looked for
_STEP_SECS, _STEPS = 60, 30  # of the throughput
_MOST_RUNNING = 10_000  # jobs whose worker is looked for
_TAKES_BACK = "Start a worker, which takes its jobs back: nuvom runworker"
_FEW_QUEUES = 2  # about which it is said one by one that no worker serves them
_BEHIND_SECS = 300.0
_OVERDUE_SECS = 60.0  # twice the longest sleep of a scheduler


class Check(NamedTuple):
    """The result of one check.

    Attributes:
        name: The part that was checked, in one word.
        level: ``warn``: it works, but perhaps not as intended.
        fix: What to do about it, or empty.
        code: The class of the underlying error, or empty.
        kind: For what needs attention: ``silent``, ``other_code``, ``orphans``, ``paused``,
            ``unserved``, ``behind``, ``dead``, ``parked``, ``slow``, ``declared``, or empty.
        subject: The worker, queue or task that it is about, or empty.
    """

    name: str
    level: Literal["ok", "warn", "fail"]
    text: str
    fix: str = ""
    code: str = ""
    kind: str = ""
    subject: str = ""


def store_place(settings: Settings) -> Path | None:
    """Return the file or folder that holds the queue, or None if it is not on disk here."""
    return {"sqlite": settings.db_path, "file": settings.files_dir}.get(settings.queue_backend)


def overview(runtime: Runtime, inspector: Inspector, most: int | None = None) -> dict[str, Any]:
    """Return the state of the whole project.

    Args:
        most: Count the jobs of a queue only so far, so that it can be asked for often.
    """
    settings, now, processes = runtime.settings, runtime.clock.now(), inspector.processes()
    workers = [one for one in processes if one.runs_jobs]
    living = [one for one in processes if one.state != "silent"]
    groups = inspector.error_groups()
    found = list(inspector.schedules())
    upcoming = [one for one in found if one.state == "active" and one.next_at is not None]
    first = min(upcoming, key=lambda one: one.next_at or 0.0, default=None)
    return {
        "project": settings.root,
        "environment": settings.environment,
        "backend": settings.queue_backend,
        "store": store_place(settings),
        "workers": {
            "alive": sum(one.runs_jobs for one in living),
            "silent": sum(one.state == "silent" for one in workers),
            "slots": sum(one.slots for one in living),
            "running": sum(one.running for one in living),
            "schedulers": sum(one.scheduler for one in living),
        },
        "queues": [
            views.queue_data(one, now, inspector.workers_on(one.queue))
            for one in inspector.stats(most)
        ],
        "throughput": throughput(inspector, now),
        "schedules": {
            **{state: sum(one.state == state for one in found) for state in SCHEDULE_STATES},
            "next": None
            if first is None
            else {"name": first.name, "task": first.task, "at": rfc3339(first.next_at)},
        },
        "failures": {
            "jobs": sum(one.count for one in groups),
            "groups": len(groups),
            "latest": [views.group_data(one) for one in groups[:_LATEST]],
        },
        "attention": [one._asdict() for one in attention(runtime, inspector)],
    }


def job_details(inspector: Inspector, snapshot: JobSnapshot) -> dict[str, Any]:
    """Return everything about a job, with secrets masked."""
    record = snapshot.record
    args = kwargs = damage = progress = None
    try:
        args, kwargs = inspector.shown_arguments(record)
    except PayloadError as error:
        damage = error.what
    if snapshot.progress is not None:
        done, total, note = snapshot.progress
        progress = {"done": done, "total": total, "note": mask_text(note)}
    why = inspector.why(snapshot)
    return {
        **views.job_data(snapshot),
        "args": args,
        "kwargs": kwargs,
        "damage": damage,
        "result": inspector.shown_result(snapshot),
        "error": views.error_data(snapshot.error, traceback=True),
        "attempts": [views.attempt_data(attempt) for attempt in inspector.attempts(record.id)],
        "progress": progress,
        "why": None if why is None else why._asdict(),
        "timeout_secs": record.timeout_secs,
        "timeout_policy": record.timeout_policy,
        "unique_key": record.unique_key,
        **inspector.links(snapshot)._asdict(),
        "deliveries": record.deliveries,
        "lease_epoch": record.lease_epoch,
    }


def throughput(inspector: Inspector, now: float) -> dict[str, Any] | None:
    """Return how many jobs ended in each of the last minutes, and how many of them in failure.

    The last minute is the running one; ``per_minute`` is the mean of the five before it. None if
    the backend does not count.
    """
    if not inspector.keeps_history:
        return None
    since = (now // _STEP_SECS - _STEPS + 1) * _STEP_SECS
    rows = inspector.history(since, now, _STEP_SECS)
    return {
        "step_secs": _STEP_SECS,
        "per_minute": round(figures.per_min(rows, now), 1),
        "ended": series(rows, since, now, _STEP_SECS, kinds=ENDS),
        "failed": series(rows, since, now, _STEP_SECS, kinds=figures.FAILURES),
    }


def schedule_data(one: ScheduleRecord) -> dict[str, Any]:
    """Return a schedule as a list element: without arguments and jobs."""
    rule = one.rule
    return {
        "name": one.name,
        "task": one.task,
        "description": describe(rule),
        "state": one.state,
        "at": rfc3339(rule.at),
        "interval_secs": rule.interval,
        "cron": rule.cron,
        "timezone_name": rule.timezone_name,
        "next_at": rfc3339(one.next_at) if one.state == "active" else None,
        "last_at": rfc3339(one.last_at),
        "fired": one.fired,
        "missed": one.missed,
        "skipped": one.skipped,
        "origin": one.origin,
        "paused_by": one.paused_by,
        "paused_at": rfc3339(one.paused_at),
        "disabled": one.disabled,
    }


def schedule_details(
    inspector: Inspector,
    one: ScheduleRecord,
    *,
    times: Iterable[datetime],
    jobs: Iterable[JobSnapshot],
) -> dict[str, Any]:
    """Return everything about a schedule, with secrets masked.

    Args:
        times: Its next fire times.
        jobs: Those of its latest jobs that are not pruned; see ``latest_jobs``.
    """
    args = kwargs = damage = None
    try:
        args, kwargs = inspector.shown_arguments(one.job)
    except PayloadError as error:
        damage = error.what
    rule = one.rule
    return {
        **schedule_data(one),
        "id": one.id,
        "args": args,
        "kwargs": kwargs,
        "damage": damage,
        "queue": one.job.queue,
        "priority": one.job.priority,
        "expires_secs": one.expires_secs,
        "misfire": rule.misfire,
        "misfire_max": rule.misfire_max,
        "grace_secs": rule.grace,
        "overlap": rule.overlap,
        "jitter_secs": rule.jitter,
        "start": rfc3339(rule.start),
        "end": rfc3339(rule.end),
        "created_at": rfc3339(one.created_at),
        "waiting_at": rfc3339(one.waiting_at),
        "next": [rfc3339(at.timestamp()) for at in times],
        "jobs": [views.job_data(job) for job in jobs],
    }


def latest_jobs(inspector: Inspector, one: ScheduleRecord) -> list[JobSnapshot]:
    """Return the latest jobs of a schedule that are not pruned, newest first."""
    found = []
    for job_id in reversed(one.recent):
        with suppress(JobNotFound):
            found.append(inspector.look(job_id))
    return [job for job in found if job is not None]


def _workers(_: Runtime, inspector: Inspector) -> Iterator[Check]:
    workers, other_code = inspector.workers(), inspector.other_code()
    alive = sum(one.state != "silent" for one in workers)
    yield Check("workers", "ok", f"{alive} alive")
    for one in workers:
        place = f"{short_id(one.id)} (pid {one.pid} on {one.host})"
        if one.state == "silent":
            text = f"{place} is silent: no heartbeat for {duration(one.beat_age_secs)}"
            fix = "Other workers take its jobs back." if alive else _TAKES_BACK
            yield Check("workers", "warn", text, fix, kind="silent", subject=one.id)
        elif one.version not in ("", __version__):
            text = f"{place} runs nuvom {one.version}, this is {__version__}"
            yield Check("workers", "warn", text, "Restart it.", kind="other_code", subject=one.id)
        elif one.id in other_code:
            text = f"{place} runs other code ({one.release}) than {other_code[one.id]}"
            yield Check("workers", "warn", text, "Restart it.", kind="other_code", subject=one.id)


def _orphans(_: Runtime, inspector: Inspector) -> Iterator[Check]:
    """Yield whether jobs are RUNNING on workers that are not there any more."""
    running = inspector.pages(statuses=[JobStatus.RUNNING], most=_MOST_RUNNING)
    orphans = inspector.orphans(running)
    if orphans:
        are = f"{plural(len(orphans), 'job')} RUNNING on a worker that has died"
        is_helped = any(one.state != "silent" for one in inspector.workers())
        level: Literal["warn", "fail"] = "warn" if is_helped else "fail"
        fix = "Other workers take its jobs back." if is_helped else _TAKES_BACK
        text = f"{are}, such as {orphans[0].record.id}"
        yield Check("workers", level, text, fix, kind="orphans")


def _queues(runtime: Runtime, inspector: Inspector) -> Iterator[Check]:
    now = runtime.clock.now()
    living = [one for one in inspector.workers() if one.state == "alive"]
    found = inspector.backlog(COUNTED_JOBS)
    is_stopped = not living and sum(one.ready > 0 for one in found) > _FEW_QUEUES
    if is_stopped:
        text = f"{plural(sum(one.ready for one in found), 'job')} waiting, and no worker is running"
        yield Check("queues", "warn", text, "Start one: nuvom runworker", kind="unserved")
    for stats in found:
        name = stats.queue
        workers = sum(not one.queues or name in one.queues for one in living)
        waited = 0.0 if stats.oldest_ready_at is None else now - stats.oldest_ready_at
        if stats.paused_by is not None:
            text, fix = f"{name} is paused by {stats.paused_by}", f"nuvom queues resume {name}"
            yield _of_queue(name, "paused", text, f"To resume it: {fix}")
        elif stats.ready and workers == 0 and not is_stopped:
            text = f"{_jobs(stats, 'ready')} waiting on {name}, and no worker serves it"
            yield _of_queue(name, "unserved", text, "Start one: nuvom runworker")
        elif stats.ready and workers and waited > _BEHIND_SECS:
            text = f"{name} falls behind: its oldest job has waited for {duration(waited)}"
            yield _of_queue(name, "behind", text, "Start more workers, or give them more threads.")
        if stats.dead:
            text = f"{_jobs(stats, 'dead')} on {name} {_are(stats.dead)} DEAD: their workers died"
            text += _last_death(inspector, stats, now)
            yield _of_queue(name, "dead", text, "See: nuvom errors")


def _last_death(inspector: Inspector, stats: QueueStats, now: float) -> str:
    """Return when the last of a queue's DEAD jobs ended, if there are few enough to tell."""
    if stats.dead > _MOST_DEAD:
        return ""
    found = inspector.page(statuses=[JobStatus.DEAD], queue=stats.queue, limit=_MOST_DEAD)
    last = max((one.finished_at or 0.0 for one in found), default=0.0)
    return f", the last one {ago(last, now)}" if last else ""


def _jobs(stats: QueueStats, name: str) -> str:
    """Return a count of a queue, which may have stopped early."""
    return f"{'over ' * (name in stats.at_least)}{plural(getattr(stats, name), 'job')}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _of_queue(queue: str, kind: str, text: str, fix: str) -> Check:
    return Check("queues", "warn", text, fix, kind=kind, subject=queue)


def _slow(runtime: Runtime, inspector: Inspector) -> Iterator[Check]:
    """Yield the tasks with jobs that run far longer than usual: they may be stuck."""
    now, long = runtime.clock.now(), dict[str, list[float]]()
    for one in inspector.pages(statuses=[JobStatus.RUNNING], most=_MOST_RUNNING):
        secs = now - (one.claimed_at or now)
        if secs > figures.LEAST_SLOW_SECS:
            long.setdefault(one.record.func_name, []).append(secs)
    if not long:
        return
    usual = figures.Usual(figures.recent(inspector, now))
    slow = {task: [one for one in secs if usual.is_slow(task, one)] for task, secs in long.items()}
    for task, found in slow.items():
        if not found:
            continue
        text = f"{plural(len(found), 'job')} of {task} may be stuck: the longest runs for "
        text += f"{duration(max(found))}, and 95 % end within {duration(usual.p95(task) or 0.0)}"
        fix = "See what it waits for: nuvom workers stacks ID"
        yield Check("workers", "warn", text, fix, kind="slow", subject=task)


def _parked(_: Runtime, inspector: Inspector) -> Iterator[Check]:
    """Yield the tasks that workers could not run, those with the most jobs first."""
    found = sorted(inspector.parked_tasks().items(), key=lambda one: -one[1])
    for task, count in found[:_SHOWN_PARKED]:
        for example in inspector.page(statuses=[JobStatus.PARKED], task=task, limit=1):
            reason = inspector.why(example)
            if reason is not None:
                text = f"{plural(count, 'job')} of {task} {_are(count)} PARKED: {reason.text}"
                yield Check("parked", "fail", text, reason.fix, kind="parked", subject=task)
    more = found[_SHOWN_PARKED:]
    if more:
        jobs, tasks = sum(count for _, count in more), plural(len(more), "other task")
        text = f"{plural(jobs, 'job')} of {tasks} {_are(jobs)} PARKED"
        fix = "See: nuvom list jobs -s PARKED"
        yield Check("parked", "fail", text, fix, kind="parked")


def _schedules(runtime: Runtime, inspector: Inspector) -> Iterator[Check]:
    """Yield how many schedules there are, who fires them, and which of them cannot run."""
    found = list(inspector.schedules())
    states = Counter(one.state for one in found)
    if found:
        shown = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
        yield Check("schedules", "ok", shown)
    active = [one for one in found if one.state == "active"]
    yield from _unfired(runtime, inspector, active)
    tasks = tasks_or_nothing(runtime.settings.manifest_file)
    yield from _declared(runtime, inspector, tasks, {one.name for one in found})
    known = by_any_name(tasks)
    gone = [one for one in active if known and one.task not in known]
    for one in gone[:_SHOWN]:
        text = f"{one.name} enqueues {one.task}, which the manifest does not list"
        fix = f"Give the task its name back, or: nuvom schedule delete {one.name}"
        yield Check("schedules", "warn", text, fix)
    disabled = [one for one in found if one.disabled is not None]
    for one in disabled[:_SHOWN]:
        text = f"{one.name} is disabled: {one.disabled}"
        fix = f"If it is no longer needed: nuvom schedule delete {one.name}"
        yield Check("schedules", "warn", text, fix)
    more = sum(max(0, len(some) - _SHOWN) for some in (gone, disabled))
    if more:
        yield Check("schedules", "warn", f"{more:,} more of these", "See: nuvom schedule list")


def _declared(
    runtime: Runtime, inspector: Inspector, tasks: Sequence[TaskEntry], stored: set[str]
) -> Iterator[Check]:
    """Yield declarations that schedulers cannot follow, and those that wait for a scheduler."""
    declared = declared_by(runtime, tasks)
    for problem in declared.problems[:_SHOWN]:
        yield Check("schedules", "warn", problem, "Correct the declaration: nuvom schedule diff")
    unmade = sorted(declared.wanted.keys() - stored)
    if unmade and not _schedulers(inspector):
        names = ", ".join(unmade[:_SHOWN]) + (" ..." if len(unmade) > _SHOWN else "")
        text = f"declared, but not stored until a scheduler starts: {names}"
        fix = "Look at nuvom schedule diff, then start one: nuvom runworker"
        yield Check("schedules", "warn", text, fix, kind="declared")


def _schedulers(inspector: Inspector) -> list[WorkerInfo]:
    return [one for one in inspector.schedulers() if one.state != "silent"]


def _unfired(
    runtime: Runtime, inspector: Inspector, active: Sequence[ScheduleRecord]
) -> Iterator[Check]:
    """Yield whether no scheduler runs, and how late the first schedule is that is overdue."""
    store = runtime.schedule_store
    if store is None or not active:
        return
    count = plural(len(active), "active schedule")
    first = min(active, key=lambda one: one.due_at or 0.0)
    now, due_at = store.clock.now(), first.due_at or 0.0
    overdue = f"{first.name} was due {ago(due_at, now)}"
    is_late = now - due_at > _OVERDUE_SECS
    if inspector.sees_processes and not _schedulers(inspector):
        level: Literal["warn", "fail"] = "fail" if is_late else "warn"
        text = f"no scheduler runs for {count}"
        fix = "Start one: nuvom runworker, or nuvom runscheduler"
        yield Check("schedules", level, f"{text}; {overdue}" if is_late else text, fix)
    elif is_late:
        fix = "Look at the log of the workers, and compare the clocks of their machines."
        yield Check("schedules", "warn", f"{overdue}, and has not fired", fix)


OF_THE_STATE = (_workers, _orphans, _slow, _queues, _parked, _schedules)


def attention(runtime: Runtime, inspector: Inspector) -> Iterator[Check]:
    """Yield what is not as it should be with workers, queues, jobs and schedules."""
    for look in OF_THE_STATE:
        yield from (one for one in look(runtime, inspector) if one.level != "ok")
