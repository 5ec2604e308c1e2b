"""The checks of ``nuvom doctor``, in order.

If the settings are wrong, the checks that need them are skipped. No project code runs.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from nuvom._version import __version__
from nuvom.cli.commands.tasks import changes_text
from nuvom.cli.project import store_place
from nuvom.config.project import STATE_DIR, check_state_dir
from nuvom.config.sources import load, problems
from nuvom.core.record import JobStatus
from nuvom.discovery.manifest import diff, read_manifest
from nuvom.discovery.scan import scan
from nuvom.discovery.stub import definition_of
from nuvom.errors import InvalidArguments, NuvomError, PayloadError, plural
from nuvom.host.worker_lock import count_workers
from nuvom.inspection import Inspector
from nuvom.plugins.loader import find_entries
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.queue_backends.sqlite.salvage import salvage
from nuvom.registry.signature import Binder
from nuvom.runtime import build_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nuvom.config.settings import Settings
    from nuvom.config.sources import Loaded
    from nuvom.core.record import JobRecord
    from nuvom.core.views import QueueStats
    from nuvom.runtime import Runtime
    from nuvom.serialization.base import Codec

_LEAST_FREE_BYTES = 200 << 20
_SHOWN = 5
_WAITING = (JobStatus.PENDING, JobStatus.PARKED)


class Check(NamedTuple):
    """The result of one check.

    Attributes:
        name: The part that was checked, in one word.
        level: ``warn``: it works, but perhaps not as intended.
        fix: What to do about it, or empty.
        code: The class of the underlying error, or empty.
    """

    name: str
    level: Literal["ok", "warn", "fail"]
    text: str
    fix: str = ""
    code: str = ""


def _failed(name: str, error: NuvomError) -> Check:
    """Return the result of a check that ended in an error."""
    return Check(name, "fail", error.what, error.fix, type(error).__name__)


def diagnose(root: Path, *, pending: bool = False) -> list[Check]:
    """Return the results of all checks of the project at ``root``; runs none of its code.

    Args:
        pending: Also bind the arguments of all waiting jobs to the signatures in the code.
    """
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    versions = f"nuvom {__version__}, {python}, msgspec {msgspec.__version__}"
    found = [Check("versions", "ok", versions), *_settings_findings(root)]
    if any(finding.level == "fail" for finding in found):
        return found
    loaded = load(root)
    for check in (_folder_findings, _task_findings, _plugin_findings):
        found.extend(check(loaded))
    found.extend(_store_findings(loaded, pending=pending))
    return found


# ---- the project ------------------------------------------------------------------------


def _settings_findings(root: Path) -> Iterator[Check]:
    """Yield all problems with the settings."""
    errors, warnings = problems(root)
    yield from (_failed("settings", error) for error in errors)
    yield from (Check("settings", "warn", text, "Correct or remove it.") for text in warnings)
    if not errors and not warnings:
        yield Check("settings", "ok", "all sources are valid")


def _folder_findings(loaded: Loaded) -> Iterator[Check]:
    """Yield whether ``.nuvom`` can be written, and whether the disk has room."""
    root = loaded.settings.root
    folder = root / STATE_DIR
    try:
        check_state_dir(root)
        if not folder.is_dir():
            yield Check("folder", "ok", f"{folder} does not exist yet; the first job creates it")
        elif os.access(folder, os.W_OK):
            yield Check("folder", "ok", f"{folder} can be written")
        else:
            fix = "Make it writable, or move what is in it with sqlite_path and similar settings."
            yield Check("folder", "fail", f"{folder} cannot be written", fix)
    except NuvomError as error:
        yield _failed("folder", error)
    free = shutil.disk_usage(root).free
    if free < _LEAST_FREE_BYTES:
        text = f"only {free >> 20} MiB are free on the disk of {root}"
        yield Check("disk", "warn", text, "Free some space; `nuvom prune` removes old results.")


def _task_findings(loaded: Loaded) -> Iterator[Check]:
    """Yield how the manifest compares with the code, and the problems that discovery found."""
    settings = loaded.settings
    found = scan(settings.root, use_cache=settings.state_dir.is_dir())
    try:
        listed = read_manifest(settings.manifest_file)
    except NuvomError as error:
        yield _failed("tasks", error)
        return
    changes = diff(listed or (), found.tasks)
    refresh = "Run: nuvom discover tasks"
    if listed is None and not found.tasks:
        yield Check("tasks", "warn", "no task was found", "Write a first one: nuvom init")
    elif listed is None:
        text = f"{len(found.tasks)} found, but there is no manifest"
        yield Check("tasks", "warn", text, refresh)
    elif not changes.is_empty:
        text = f"the manifest is stale: {changes_text(changes)}"
        yield Check("tasks", "warn", text, refresh)
    else:
        yield Check("tasks", "ok", f"{len(found.tasks)} in the manifest, as in the code")
    for problem in found.problems[:_SHOWN]:
        yield Check("tasks", "warn", str(problem))
    if len(found.problems) > _SHOWN:
        more = f"{len(found.problems) - _SHOWN} more such problems"
        yield Check("tasks", "warn", more, "All of them: nuvom discover tasks --check")


def _plugin_findings(loaded: Loaded) -> Iterator[Check]:
    """Yield which plugins are listed, and where; loads none."""
    if loaded.settings.plugins == "off":
        yield Check("plugins", "ok", "off")
        return
    try:
        entries = find_entries(loaded.settings)
    except NuvomError as error:
        yield _failed("plugins", error)
        return
    if not entries:
        yield Check("plugins", "ok", "none is named")
    for entry in entries:
        text = f"{entry.name}: {entry.target}, named by {entry.source}"
        yield Check("plugins", "ok", text)


# ---- the store --------------------------------------------------------------------------


def _store_findings(loaded: Loaded, *, pending: bool) -> Iterator[Check]:
    """Yield whether the store answers, and what in it needs attention."""
    settings = loaded.settings
    try:
        runtime = build_runtime(loaded, allow_project_plugins=False)
    except NuvomError as error:
        yield _failed("store", error)
        return
    try:
        if isinstance(runtime.queue, LeasedJobQueue):
            runtime.queue.check_store()
        inspector = Inspector(runtime)
        yield Check("store", "ok", _describe(settings, inspector.stats()))
        if settings.queue_backend == "memory":
            text = "in memory, jobs end with the program that made them, and no worker gets them"
            fix = "Use sqlite or file, or nuvom.local_worker() in the program."
            yield Check("store", "warn", text, fix)
        yield from _worker_findings(inspector)
        for stats in inspector.stats():
            yield from _queue_findings(inspector, stats)
        yield from _parked_findings(inspector)
        if pending:
            yield from _pending_findings(runtime, inspector)
    except NuvomError as error:
        yield _failed("store", error)
    finally:
        runtime.stop()


def _describe(settings: Settings, stats: list[QueueStats]) -> str:
    place = store_place(settings)
    waiting = plural(sum(one.waiting for one in stats), "job")
    text = f"{settings.queue_backend}, {plural(len(stats), 'queue')}, {waiting} waiting"
    if place is None:
        return text
    if not place.exists():
        return f"{settings.queue_backend}, {place} (does not exist yet)"
    size = f", {os.stat(place).st_size / 1e6:.1f} MB" if place.is_file() else ""
    return f"{text}, durability {settings.durability}, {place}{size}"


def _worker_findings(inspector: Inspector) -> Iterator[Check]:
    workers = inspector.workers()
    yield Check("workers", "ok", f"{sum(one.state != 'silent' for one in workers)} alive")
    for one in workers:
        if one.state == "silent":
            place = f"{one.id[-8:]} (pid {one.pid} on {one.host})"
            text = f"{place} has not been heard of for {one.beat_age_secs:.0f} s"
            yield Check("workers", "warn", text, "Other workers take its jobs back.")
        elif one.version not in ("", __version__):
            text = f"{one.id[-8:]} runs nuvom {one.version}, this is {__version__}"
            yield Check("workers", "warn", text, "Restart it.")


def _queue_findings(inspector: Inspector, stats: QueueStats) -> Iterator[Check]:
    name = stats.queue
    if stats.paused_by is not None:
        text = f"{name} is paused by {stats.paused_by}"
        yield Check("queues", "warn", text, f"To go on: nuvom queues resume {name}")
    elif stats.ready and inspector.workers_on(name) == 0:
        verb = "waits" if stats.ready == 1 else "wait"
        text = f"{plural(stats.ready, 'job')} {verb} on {name}, and no worker serves it"
        yield Check("queues", "warn", text, "Start one: nuvom runworker")
    if stats.dead:
        text = f"{plural(stats.dead, 'job')} DEAD on {name}: workers died while running it"
        yield Check("queues", "warn", text, "See: nuvom errors")


def _parked_findings(inspector: Inspector) -> Iterator[Check]:
    for task, count in inspector.parked_tasks().items():
        verb = "is" if count == 1 else "are"
        text = f"{plural(count, 'job')} {verb} PARKED: no running worker knows the task {task}"
        fix = "Start or restart a worker that has it: workers look for tasks when they start."
        yield Check("parked", "fail", text, fix)


# ---- whether waiting jobs still fit the current tasks -----------------------------------


def _pending_findings(runtime: Runtime, inspector: Inspector) -> Iterator[Check]:
    """Yield the tasks with waiting jobs that could not be called, with an example of each."""
    settings = runtime.settings
    tasks = scan(settings.root, use_cache=settings.state_dir.is_dir()).tasks
    binders = {task.name: Binder(task.name, definition_of(task).func) for task in tasks}
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    total = 0
    for snapshot in inspector.pages(statuses=_WAITING):
        total += 1
        reason = _misfit(snapshot.record, binders, runtime.codec)
        if reason:
            key = (snapshot.record.func_name, reason)
            counts[key] += 1
            examples.setdefault(key, snapshot.record.id)
    for (task, reason), count in counts.items():
        example = examples[task, reason]
        text = f"{plural(count, 'waiting job')} of {task} cannot run: {reason} (such as {example})"
        fix = f"Change the task, or the job: nuvom retry job {example[-8:]} --edit; or cancel it."
        yield Check("pending", "fail", text, fix)
    if not counts:
        fit = "fits its task" if total == 1 else "fit their tasks"
        yield Check("pending", "ok", f"{plural(total, 'waiting job')} {fit}")


def _misfit(record: JobRecord, binders: Mapping[str, Binder], codec: Codec) -> str:
    """Return why a job's call would fail before the task's first line, or ``""``."""
    binder = binders.get(record.func_name)
    if binder is None:
        return "the code has no such task"
    try:
        args, kwargs = codec.decode_call(record.args, record.kwargs, shaped=True)
        binder.check(args, kwargs)
    except (InvalidArguments, PayloadError) as error:
        return str(error.reason)
    return ""


# ---- salvage ----------------------------------------------------------------------------


def salvage_findings(root: Path, target: Path) -> list[Check]:
    """Copy the readable jobs of the project at ``root`` to ``target``; return the results.

    Raises: InvalidSetting and others: the settings cannot be read.
    """
    settings = load(root).settings
    if settings.queue_backend != "sqlite":
        text = f"the queue is {settings.queue_backend}; only SQLite files can be salvaged"
        fix = "A file queue sets damaged entries aside by itself."
        return [Check("salvage", "fail", text, fix)]
    source = settings.db_path
    try:
        alive, _ = count_workers(source.with_name(f"{source.name}.d"))
        if alive:
            text = f"{plural(alive, 'worker')} still running on {source}"
            fix = "Stop them and all programs that enqueue jobs, and try again."
            return [Check("salvage", "fail", text, fix)]
        saved = salvage(source, target)
    except NuvomError as error:
        return [_failed("salvage", error)]
    jobs, attempts = plural(saved.jobs, "job"), plural(saved.attempts, "attempt")
    lost = f"at most {plural(saved.lost, 'job')}" if saved.lost else "none"
    text = f"{jobs} with {attempts} are in {target}; {lost} could not be read"
    names = " ".join(f"{source.name}{end}" for end in ("", "-wal", "-shm"))
    fix = f"To use it, move {names} out of {source.parent}, and the new file to {source}."
    return [Check("salvage", "warn", text, fix)]
