"""Loads what a command works on: the project's root, settings, tasks and store.

Tasks come from the manifest. If it is missing, or does not list a name, the code is read again
(never run), so that nobody has to remember a discovery step. For a name that stays unknown, the
error explains which file should define it and what hides it there.
"""

from __future__ import annotations

import os
from importlib import import_module
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

import click

from nuvom.config.address import StoreAddress
from nuvom.config.project import find_root, import_roots, require_root, root_or_here
from nuvom.config.sources import Loaded, load
from nuvom.core.options import NO_CALL_OPTIONS
from nuvom.discovery.explain import why_no_task
from nuvom.discovery.manifest import (
    by_any_name,
    read_manifest,
    tasks_or_nothing,
    with_kept,
    write_manifest,
)
from nuvom.discovery.scan import Hints, scan
from nuvom.discovery.stub import definition_of
from nuvom.errors import (
    AmbiguousTask,
    MissingExtra,
    ProjectNotFound,
    QueueNotFound,
    TaskHidden,
    TaskNotFound,
    TaskNotImportable,
    plural,
)
from nuvom.events import default_bus
from nuvom.inspection.inspector import Inspector
from nuvom.log import configure_logging, get_logger, reset_logging
from nuvom.logs.events import subscribe_logging
from nuvom.registry.registry import find_name
from nuvom.runtime import Runtime, build_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nuvom.cli.context import Invocation
    from nuvom.config.settings import Settings
    from nuvom.core.options import CallOptions
    from nuvom.core.record import JobRecord
    from nuvom.discovery.entries import TaskEntry

    Call = tuple[tuple[Any, ...], dict[str, Any]]

_LEVELS = ("WARNING", "INFO", "DEBUG")


# ---- root and settings ------------------------------------------------------------------


def project_root(invocation: Invocation) -> Path:
    """Return the root of the project around the working directory, or of ``--project``.

    Raises: ProjectNotFound.
    """
    given = invocation.project
    if given is None:
        return require_root()
    root = find_root(given)
    if root is None or root != given.resolve():
        raise ProjectNotFound([given])
    return root


def folder_or_root(invocation: Invocation) -> Path:
    """Return the project's root or, if there is none, the folder that would become one.

    Raises: ProjectNotFound: the working directory has been removed.
    """
    return root_or_here() if invocation.project is None else invocation.project.resolve()


def load_settings(invocation: Invocation, root: Path) -> Loaded:
    """Return the settings of the project at ``root``; warn about anything odd in them."""
    loaded = load(root)
    for warning in loaded.warnings:
        invocation.out.warn(warning)
    return loaded


# ---- the store --------------------------------------------------------------------------


def reader(invocation: Invocation) -> tuple[Runtime, Inspector]:
    """Return a read-only runtime, which loads no project code.

    Raises: ProjectNotFound, ConfigError, PluginNotLoaded.
    """
    runtime = _open(invocation, project_root(invocation), allow_project_plugins=False)
    return runtime, Inspector(runtime)


def writer(invocation: Invocation, root: Path | None = None) -> tuple[Runtime, Inspector]:
    """Return a runtime for changing jobs, which may load the configured backend's plugin.

    Raises: ProjectNotFound, ConfigError, UnknownBackend, PluginError.
    """
    root = project_root(invocation) if root is None else root
    runtime = _open(invocation, root, allow_project_plugins=True)
    for loaded in runtime.plugins.started:  # this code ran: show whose it is
        invocation.out.say(f"Plugin: {loaded.describe()}")
    return runtime, Inspector(runtime)


def opened(invocation: Invocation, *urls: str) -> list[tuple[str, Runtime]]:
    """Open the stores at these addresses with the project's other settings.

    Returns: for each, what to show of its address, and its runtime.
    Raises: InvalidAddress; ProjectNotFound, ConfigError, UnknownBackend.
    """
    loaded = _loaded(invocation, project_root(invocation))
    found = []
    for address in [StoreAddress.of(url, loaded.settings) for url in urls]:
        runtime = build_runtime(loaded._replace(settings=address.settings))
        click.get_current_context().call_on_close(runtime.stop)
        found.append((address.name, runtime))
    return found


def _open(invocation: Invocation, root: Path, *, allow_project_plugins: bool) -> Runtime:
    loaded = _loaded(invocation, root)
    runtime = build_runtime(loaded, allow_project_plugins=allow_project_plugins)
    click.get_current_context().call_on_close(runtime.stop)
    return runtime


def _loaded(invocation: Invocation, root: Path) -> Loaded:
    """Return the settings, and have the log shown while this command runs."""
    loaded = load_settings(invocation, root)
    out, context = invocation.out, click.get_current_context()
    # Warnings, and more with -v.
    level = "ERROR" if out.quiet else _LEVELS[min(out.verbosity, len(_LEVELS) - 1)]
    configure_logging(level, "plain")
    context.call_on_close(reset_logging)
    if out.verbosity:
        context.call_on_close(subscribe_logging(default_bus, get_logger(), level))
    return loaded


class ServedDashboard(Protocol):
    """A dashboard that is served until it is stopped."""

    @property
    def sign_in_url(self) -> str:
        """The address that lets one person in, once."""

    def stop(self) -> None:
        """End it, and wait until it has ended."""


def dashboard_beside(runtime: Runtime) -> ServedDashboard | None:
    """Serve the dashboard beside the work of this process; None if its extra is not installed."""
    try:
        module = import_module("nuvom.contrib.dashboard.server")
    except MissingExtra:
        return None
    server: ServedDashboard = module.start_beside(runtime)
    return server


# ---- tasks ------------------------------------------------------------------------------


def find_task(invocation: Invocation, settings: Settings, name: str) -> TaskEntry:
    """Return the task for ``name``: a full name or an unambiguous last part.

    Raises: TaskNotFound, TaskHidden, AmbiguousTask; ProjectNotFound, InvalidManifest.
    """
    listed = read_manifest(settings.manifest_file)
    if listed is not None:
        try:
            return _named(name, listed)
        except TaskNotFound:
            if settings.environment == "prod":
                raise
    why = "There is no manifest yet" if listed is None else f"The manifest has no task {name}"
    found = _scanned(invocation, settings, why)
    try:
        return _named(name, found)
    except TaskNotFound as error:
        hidden = next(_explanations(settings, name), None)
        if hidden is None:
            raise
        file, reason = hidden
        raise TaskHidden(name, file, reason, [entry.name for entry in found]) from error


def _named(name: str, listed: Sequence[TaskEntry]) -> TaskEntry:
    known = by_any_name(listed)
    return known[name if name in known else find_name(name, [entry.name for entry in listed])]


def _scanned(invocation: Invocation, settings: Settings, why: str) -> tuple[TaskEntry, ...]:
    found = scan(settings.root, hints=Hints.of(settings))
    require_marker(invocation, settings, has_tasks=bool(found.tasks))
    before = tasks_or_nothing(settings.manifest_file)
    tasks = with_kept(found.tasks, before, found.unparsed)
    write_manifest(settings.manifest_file, tasks, root=settings.root)
    seen = f"read {plural(found.files_seen, 'file')}, found {plural(len(found.tasks), 'task')}"
    invocation.out.say(f"{why}: {seen}.")
    for problem in found.errors:
        invocation.out.warn(str(problem))
    return tasks


def require_marker(invocation: Invocation, settings: Settings, *, has_tasks: bool) -> None:
    """Refuse a folder that is not a project: without a task, it needs a marker to be one.

    Raises: ProjectNotFound.
    """
    if not has_tasks and not settings.state_dir.is_dir():
        project_root(invocation)


def _explanations(settings: Settings, name: str) -> Iterator[tuple[str, str]]:
    """Yield the files that may define a task of this name, and why it is not found there."""
    root, parts, hints = settings.root, name.split("."), Hints.of(settings)
    roots = import_roots(root, settings.source_roots)
    for base, count in product(roots, range(len(parts) - 1, 0, -1)):
        module = os.path.join(base, *parts[:count])
        for file in (f"{module}.py", os.path.join(module, "__init__.py")):
            reason = os.path.isfile(file) and why_no_task(
                root, file, ".".join(parts[count:]), hints
            )
            if reason:
                yield os.path.relpath(file, root), reason


def manifest_or_nothing(settings: Settings) -> tuple[TaskEntry, ...]:
    """Return the tasks of the manifest; empty if it is missing or damaged.

    Only for output that merely reads better with them. All other code must report the damage.
    """
    return tasks_or_nothing(settings.manifest_file)


def full_name(settings: Settings, name: str) -> str:
    """Return the full name for a last part, or ``name`` itself if that is ambiguous or unknown."""
    try:
        return find_name(name, [entry.name for entry in manifest_or_nothing(settings)])
    except (TaskNotFound, AmbiguousTask):
        return name


def require_known(
    inspector: Inspector, settings: Settings, *, queue: str | None, task: str | None
) -> None:
    """Refuse the name of a queue or task that does not exist.

    Raises: QueueNotFound, TaskNotFound, AmbiguousTask.
    """
    queues = known_queues(inspector, settings)
    if queue is not None and queue not in queues:
        raise QueueNotFound(queue, queues)
    tasks = [entry.name for entry in manifest_or_nothing(settings)]
    if task is not None and tasks:
        find_name(task, tasks)


def known_queues(inspector: Inspector, settings: Settings) -> set[str]:
    """Return the queues that tasks name, or that hold or have held jobs."""
    entries = manifest_or_nothing(settings)
    named = {str(entry.options.get("queue", "default")) for entry in entries}
    return {"default", *named, *(stats.queue for stats in inspector.stats())}


# ---- calls of tasks ---------------------------------------------------------------------


def make_record(
    runtime: Runtime, entry: TaskEntry, call: Call, options: CallOptions = NO_CALL_OPTIONS
) -> JobRecord:
    """Return the record of a call, checked against the manifest's signature but not yet stored.

    Raises: TaskNotImportable, InvalidArguments, NotStorable, PayloadTooLarge.
    """
    if not entry.importable:
        repair = f"Move it to the top level of its module ({entry.place}); nothing was enqueued."
        is_inside = "<locals>" in entry.qualname
        reason = "it is defined inside a function" if is_inside else "importing does not define it"
        raise TaskNotImportable(entry.name, reason, repair)
    args, kwargs = call
    return runtime.dispatcher.make_record(definition_of(entry), args, kwargs, options)


def changes_of(called: JobRecord) -> dict[str, Any]:
    """Return what a job that repeats another one takes from the record of a new call."""
    return {"args": called.args, "kwargs": called.kwargs, "unique_key": None, "unique_for": None}
