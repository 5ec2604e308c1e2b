"""The checks of ``nuvom doctor``, in order.

If the settings are wrong, the checks that need them are skipped. No project code runs.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from nuvom._version import __version__
from nuvom.cli.commands.tasks import changes_text
from nuvom.config.project import STATE_DIR, check_state_dir
from nuvom.config.sources import load, problems
from nuvom.core.record import JobStatus
from nuvom.discovery.manifest import by_any_name, diff, read_manifest
from nuvom.discovery.scan import Hints, scan
from nuvom.discovery.stub import definition_of
from nuvom.errors import InvalidArguments, NuvomError, PayloadError, plural
from nuvom.host.worker_lock import count_workers
from nuvom.inspection.inspector import Inspector
from nuvom.inspection.overview import OF_THE_STATE, Check, store_place
from nuvom.inspection.views import short_id
from nuvom.plugins.loader import find_entries
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.queue_backends.sqlite.salvage import salvage
from nuvom.registry.signature import Binder
from nuvom.runtime import build_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nuvom.config.settings import Settings
    from nuvom.core.record import JobRecord
    from nuvom.discovery.scan import Scan
    from nuvom.runtime import Runtime
    from nuvom.serialization.base import Codec

_LEAST_FREE_BYTES = 200 << 20
_SHOWN = 5
_WAITING = (JobStatus.PENDING, JobStatus.PARKED)


def _failed(name: str, error: NuvomError) -> Check:
    """Return the result of a check that ended in an error."""
    return Check(name, "fail", error.what, error.fix, type(error).__name__)


def diagnose(root: Path, *, pending: bool = False) -> Iterator[Check]:
    """Yield the results of all checks of the project at ``root``; runs none of its code.

    Args:
        pending: Also bind the arguments of all waiting jobs to the signatures in the code.
    """
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    versions = f"nuvom {__version__}, {python}, msgspec {msgspec.__version__}"
    yield Check("versions", "ok", versions)
    errors, warnings = problems(root)
    yield from (_failed("settings", error) for error in errors)
    yield from (Check("settings", "warn", text, "Correct or remove it.") for text in warnings)
    if errors:
        return
    if not warnings:
        yield Check("settings", "ok", "all sources are valid")
    loaded = load(root)
    for name, check in _OF_THE_PROJECT.items():
        try:
            yield from check(loaded.settings)
        except NuvomError as error:
            yield _failed(name, error)
    try:
        runtime = build_runtime(loaded, allow_project_plugins=False)
        try:
            for look in (*_OF_THE_STORE, *((_pending,) if pending else ())):
                yield from look(runtime, Inspector(runtime))
        finally:
            runtime.stop()
    except NuvomError as error:
        yield _failed("store", error)


# ---- the project ------------------------------------------------------------------------


def _folder(settings: Settings) -> Iterator[Check]:
    """Yield whether ``.nuvom`` can be written."""
    folder = settings.root / STATE_DIR
    check_state_dir(settings.root)
    if not folder.is_dir():
        yield Check("folder", "ok", f"{folder} does not exist yet; the first job creates it")
    elif os.access(folder, os.W_OK):
        yield Check("folder", "ok", f"{folder} can be written")
    else:
        fix = "Make it writable, or move what is in it with sqlite_path and similar settings."
        yield Check("folder", "fail", f"{folder} cannot be written", fix)


def _disk(settings: Settings) -> Iterator[Check]:
    free = shutil.disk_usage(settings.root).free
    if free < _LEAST_FREE_BYTES:
        text = f"only {free >> 20} MiB are free on the disk of {settings.root}"
        yield Check("disk", "warn", text, "Free some space; `nuvom prune` removes old results.")


def _scanned(settings: Settings) -> Scan:
    return scan(settings.root, hints=Hints.of(settings), use_cache=settings.state_dir.is_dir())


def _tasks(settings: Settings) -> Iterator[Check]:
    """Yield how the manifest compares with the code, and the problems that discovery found."""
    found = _scanned(settings)
    listed = read_manifest(settings.manifest_file)
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
    if found.guessed_roots:
        text = f"the code imports from {', '.join(found.guessed_roots)}, as it seems"
        folders = ", ".join(f'"{one}"' for one in found.guessed_roots)
        yield Check("tasks", "warn", text, f"To make it sure, set source_roots = [{folders}].")
    for problem in found.problems[:_SHOWN]:
        yield Check("tasks", "warn", str(problem))
    if len(found.problems) > _SHOWN:
        more = f"{len(found.problems) - _SHOWN} more such problems"
        yield Check("tasks", "warn", more, "All of them: nuvom discover tasks --check")


def _plugins(settings: Settings) -> Iterator[Check]:
    """Yield which plugins are listed, and where; loads none."""
    entries = find_entries(settings)
    if not entries:
        yield Check("plugins", "ok", "off" if settings.plugins == "off" else "none is listed")
    for entry in entries:
        yield Check("plugins", "ok", f"{entry.name}: {entry.target}, listed in {entry.source}")


_OF_THE_PROJECT: dict[str, Callable[[Settings], Iterator[Check]]] = {
    "folder": _folder,
    "disk": _disk,
    "tasks": _tasks,
    "plugins": _plugins,
}


# ---- the store --------------------------------------------------------------------------


def _store(runtime: Runtime, inspector: Inspector) -> Iterator[Check]:
    """Yield what the store is and whether it answers."""
    settings = runtime.settings
    if isinstance(runtime.queue, LeasedJobQueue):
        runtime.queue.check_store()
    backend, place, stats = settings.queue_backend, store_place(settings), inspector.stats()
    waiting = plural(sum(one.waiting for one in stats), "job")
    text = f"{backend}, {plural(len(stats), 'queue')}, {waiting} waiting"
    if place is not None and not place.exists():
        text = f"{backend}, {place} (does not exist yet)"
    elif place is not None:
        size = f", {os.stat(place).st_size / 1e6:.1f} MB" if place.is_file() else ""
        text += f", durability {settings.durability}, {place}{size}"
    yield Check("store", "ok", text)
    if backend == "memory":
        text = "in memory, jobs end with the program that made them, and no worker gets them"
        fix = "Use sqlite or file, or nuvom.local_worker() in the program."
        yield Check("store", "warn", text, fix)
    elif settings.scheduler_backend == "memory":
        text = "in memory, schedules end with the program that made them, and no worker fires them"
        fix = "Remove the setting scheduler_backend to keep them with the jobs."
        yield Check("store", "warn", text, fix)


def _promises(runtime: Runtime, _: Inspector) -> Iterator[Check]:
    """Yield what the settings of a server mean for the jobs that it keeps."""
    if isinstance(runtime.queue, LeasedJobQueue):
        for one in runtime.queue.promises():
            yield Check("promises", one.level, f"{one.setting}: {one.means}", one.fix)


_OF_THE_STORE = (_store, _promises, *OF_THE_STATE)


# ---- whether waiting jobs still fit the current tasks -----------------------------------


def _pending(runtime: Runtime, inspector: Inspector) -> Iterator[Check]:
    """Yield the tasks with waiting jobs that could not be called, with an example of each."""
    settings = runtime.settings
    tasks = _scanned(settings).tasks
    known = by_any_name(tasks).items()
    binders = {name: Binder(task.name, definition_of(task).func) for name, task in known}
    total, misfits = 0, defaultdict[tuple[str, str], list[str]](list)
    for snapshot in inspector.pages(statuses=_WAITING):
        total += 1
        reason = _misfit(snapshot.record, binders, runtime.codec)
        if reason:
            misfits[snapshot.record.func_name, reason].append(snapshot.record.id)
    for (task, reason), ids in misfits.items():
        text = f"{plural(len(ids), 'waiting job')} of {task} cannot run: {reason}, such as {ids[0]}"
        edit = f"nuvom retry job {short_id(ids[0])} --edit"
        yield Check("pending", "fail", text, f"Change the task; or change the job: {edit}.")
    if not misfits:
        yield Check("pending", "ok", f"{plural(total, 'waiting job')} checked against the tasks")


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


def salvaged(root: Path, target: Path) -> Check:
    """Copy the readable jobs of the project at ``root`` to ``target``; return the result.

    Raises: InvalidSetting and others: the settings cannot be read.
    """
    settings = load(root).settings
    if settings.queue_backend != "sqlite":
        text = f"the queue is {settings.queue_backend}; only SQLite files can be salvaged"
        return Check("salvage", "fail", text, "A file queue sets damaged entries aside by itself.")
    source = settings.db_path
    try:
        alive, _ = count_workers(source.with_name(f"{source.name}.d"))
        if alive:
            text = f"{plural(alive, 'worker')} still running on {source}"
            fix = "Stop them and all programs that enqueue jobs, and try again."
            return Check("salvage", "fail", text, fix)
        saved = salvage(source, target)
    except NuvomError as error:
        return _failed("salvage", error)
    jobs, attempts = plural(saved.jobs, "job"), plural(saved.attempts, "attempt")
    lost = f"at most {plural(saved.lost, 'job')}" if saved.lost else "none"
    text = f"{jobs} with {attempts} are in {target}; {lost} could not be read"
    names = " ".join(f"{source.name}{end}" for end in ("", "-wal", "-shm"))
    fix = f"To use it, move {names} out of {source.parent}, and the new file to {source}."
    return Check("salvage", "warn", text, fix)
