"""Runs one worker or one scheduler in the foreground: setup, start lines, signals, exit code.

``nuvom/cli/supervisor.py`` runs several workers, each in its own process.

Only ``nuvom runworker`` and ``runscheduler`` load this module, since it imports the engine. The
order of setup matters: plugins before backends, import paths before plugins, signals before
everything.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import defaultdict
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nuvom._version import __version__
from nuvom.cli import exit_codes
from nuvom.cli.output import quoted
from nuvom.cli.processes import StopSignals, SupervisorLine, replace_self, write_now
from nuvom.cli.project import folder_or_root, require_marker
from nuvom.config.sources import Loaded, load
from nuvom.discovery.auto_register import (
    add_import_roots,
    import_unnamed,
    refresh,
    register_manifest,
)
from nuvom.discovery.manifest import is_stale, tasks_or_nothing
from nuvom.discovery.scan import Hints, hiding_problems
from nuvom.errors import NuvomError, TaskImportFailed, plural
from nuvom.events import WorkerStarted, default_bus
from nuvom.hooks import load_hooks
from nuvom.host import platforms
from nuvom.inspection.inspector import Inspector
from nuvom.inspection.overview import store_place
from nuvom.inspection.views import short_id
from nuvom.log import configure_logging, flush_logs, get_logger
from nuvom.logs.events import subscribe_logging
from nuvom.plugins.lifecycle import bind_extras, make_extras
from nuvom.plugins.loader import load_plugins
from nuvom.runtime import Runtime, build_runtime, use_runtime
from nuvom.scheduler.service import SchedulerProcess
from nuvom.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nuvom.cli.context import Invocation
    from nuvom.cli.output import Output
    from nuvom.config.settings import Settings
    from nuvom.core.views import QueueStats
    from nuvom.discovery.entries import Problem
    from nuvom.logs.progress import ProgressDisplay

_MOST_WARNINGS = 5  # of one kind, at the start
_YOUNG_OBJECTS = 10_000  # more than a batch of jobs in flight; Python's own default is 700
_SWITCH_SECS = 0.0005  # Python's own is 0.005
_STARTS_ANEW = frozenset({"stuck-threads", "restart"})  # reasons to restart, not to exit
_SURVIVES = {"full": "survives a power cut", "normal": "survives the death of any process"}
_LOG = get_logger("nuvom.worker")


def serve(invocation: Invocation, **options: Any) -> int:  # as click parsed them
    """Run a worker until it ends; return the exit code.

    Raises: ProjectNotFound, ConfigError, PluginError, QueueError: it could not start.
    """
    signals = invocation.signals or StopSignals().install()
    line = None if options["parent"] is None else SupervisorLine(options["parent"])
    loaded, out = _settings(invocation, options), invocation.out
    settings = loaded.settings
    if line is None and needs_supervisor(settings):
        # A single worker does not need this module or its imports.
        supervisor = import_module("nuvom.cli.supervisor")
        return int(supervisor.supervise(out, signals, settings, options))
    worker, unloadable = _assemble(invocation, loaded, options)
    _listen(worker, signals, line)
    if line is None:  # else the supervisor has said all this, and the log shows the start
        tell_start(out, settings, _start_lines(worker, unloadable))
    is_shown = options["burst"] and line is None and not logs_for_programs(settings)
    with out.progress("Jobs", "jobs", clock=worker.runtime.clock) as shown:
        reason = _run(worker, _burst_teller(worker, shown) if is_shown else lambda: None)
    is_asked_to_end = signals.received or (line is not None and line.was_told)
    if reason in _STARTS_ANEW and not is_asked_to_end:
        if line is not None:
            line.give_back()
        replace_self()
    if line is None:
        _tell_end(out, worker, reason)
    return signals.exit_code or exit_codes.OK


def _burst_teller(worker: Worker, shown: ProgressDisplay) -> Callable[[], None]:
    """Return what shows how many jobs of a burst are done."""
    inspector, most = Inspector(worker.runtime), 0

    def tell() -> None:
        nonlocal most
        done = worker.finished_jobs
        if done >= most:  # count again: jobs may have come since
            with suppress(NuvomError):
                ready = sum(one.ready for one in inspector.stats() if _is_served(worker, one))
                most = done + worker.open_attempts + ready
        shown.tell(done, total=max(most, done) or None)

    return tell


def _is_served(worker: Worker, one: QueueStats) -> bool:
    if worker.queues is not None and one.queue not in worker.queues:
        return False
    return one.queue not in worker.exclude and one.paused_by is None


def _run(worker: Worker, tell: Callable[[], None]) -> str:
    """Run the worker until it ends; return the reason.

    Raises: RuntimeError: a plugin or a backend raised ``SystemExit`` or the like in the worker's
        loop. Otherwise that would look like a requested exit.
    """
    try:
        try:
            _tune_interpreter()
            return worker.run(tell)
        finally:
            worker.runtime.stop()  # and its plugins
            flush_logs()
    except Exception:
        raise
    except BaseException as error:  # SystemExit and the like: nobody requested this exit
        msg = f"the worker was ended by {error!r}, which nothing here may raise"
        raise RuntimeError(msg) from error


def serve_scheduler(invocation: Invocation, **options: Any) -> int:  # as click parsed them
    """Run a scheduler until it is stopped; return the exit code.

    Raises: ProjectNotFound, ConfigError, PluginError, QueueError: it could not start;
        CapabilityMissing: the store keeps no schedules.
    """
    signals = invocation.signals or StopSignals().install()
    loaded, out = _settings(invocation, options), invocation.out
    for warning in (*loaded.warnings, *_bring_tasks_up_to_date(invocation, loaded.settings)):
        _LOG.warning("%s", warning)
    runtime = _start_runtime(loaded)
    try:
        process = SchedulerProcess(runtime)
        restarts: list[bool] = []

        def restart() -> None:
            restarts.append(True)
            process.stop()

        signals.connect(process.stop, process.stop, restart)
        lines = start_lines(loaded.settings, f"scheduler {short_id(process.id)}")
        facts = ["  schedules fired by this process", *_plugin_lines(runtime)]
        tell_start(out, loaded.settings, [*lines, *facts, "Ready. Press Ctrl-C to stop."])
        process.run()
    finally:
        runtime.stop()
        flush_logs()
    if restarts and not signals.received:
        replace_self()
    if out.as_json:
        out.json("nuvom.scheduler_run/1", {"id": process.id, "fired": process.scheduler.fired})
    elif not logs_for_programs(loaded.settings):
        out.say(f"Scheduler ended after {plural(process.scheduler.fired, 'fire')}.")
    return signals.exit_code or exit_codes.OK


def needs_supervisor(settings: Settings) -> bool:
    """Return whether workers should run in their own processes."""
    return settings.processes > 1 or platforms.is_first_process()


def _tune_interpreter() -> None:
    """Make Python collect cyclic garbage less often and switch threads sooner.

    Jobs in flight form no cycles. Yet with Python's default threshold, the collector walks through
    each batch of them several times, which takes 6 % of a worker's time.

    A task that computes in pure Python releases the interpreter lock only after the switch
    interval. The loop, the heartbeat and every other slot need the lock again after each SQLite
    statement. With the shorter interval, jobs beside such a task wait a tenth of the time for it.

    This process is only a worker. In a user's program, both settings are up to the program.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
    sys.setswitchinterval(_SWITCH_SECS)


def _listen(worker: Worker, signals: StopSignals, line: SupervisorLine | None) -> None:
    """Make the worker obey signals and, if there is one, its supervisor."""
    is_silent = line is not None or logs_for_programs(worker.runtime.settings)
    say = (lambda _: None) if is_silent else write_now

    def first() -> None:
        count = worker.open_attempts
        draining = f": draining {plural(count, 'job')}. Repeat to stop at once" if count else ""
        say(f"\nStopping{draining}.\n")
        worker.stop()

    def second() -> None:
        say("\nStopping at once; unfinished jobs go back to the queue.\n")
        worker.abort()

    restart = (lambda: worker.stop("restart")) if line is None else lambda: None
    signals.connect(first, second, restart)
    if line is None:
        return
    line.connect(worker.stop, worker.abort)

    def tell_up(_: WorkerStarted) -> None:
        unsubscribe()
        line.tell_up()

    unsubscribe = worker.runtime.bus.subscribe(WorkerStarted, tell_up)


# ---- setup ------------------------------------------------------------------------------


def _settings(invocation: Invocation, options: dict[str, Any]) -> Loaded:
    """Return the settings, with those that options give, and have the log written as they say."""
    flags = {
        "threads": options.get("threads"),
        "processes": options.get("processes"),
        "async_slots": options.get("async_slots"),
        "batch_size": options.get("batch"),
        "log_format": options["log_format"],
        "log_level": "DEBUG" if invocation.out.verbosity > 1 else None,
    }
    if invocation.out.quiet:
        flags["log_level"] = "ERROR"
    loaded = load(folder_or_root(invocation), flags=flags)
    color = None if invocation.out.color == "auto" else invocation.out.err.has_color
    configure_logging(loaded.settings.log_level, loaded.settings.log_format, color=color)
    return loaded


def _assemble(
    invocation: Invocation, loaded: Loaded, options: dict[str, Any]
) -> tuple[Worker, int]:
    """Return the worker, and how many tasks are known to be unloadable."""
    settings = loaded.settings
    warnings = [*loaded.warnings, *_bring_tasks_up_to_date(invocation, settings)]
    runtime = _start_runtime(loaded)
    register_manifest(runtime.registry, settings.root, settings.manifest_file)
    failures = {error.name: error for error in _failed_imports(runtime)}
    warnings += _grouped(failures.values())
    if not len(runtime.registry):
        warnings.append("No task was found: jobs of unknown tasks are PARKED until one is.")
    for warning in warnings:
        _LOG.warning("%s", warning)
    worker = Worker(
        runtime,
        queues=names(options["queues"]),
        exclude_queues=names(options["exclude_queues"]) or (),
        burst=options["burst"],
        max_jobs=options["max_jobs"],
        max_secs=options["max_seconds"],
        concurrency=options["concurrency"],
        scheduler=not (options["no_scheduler"] or options["burst"]),
    )
    listed = tasks_or_nothing(settings.manifest_file)
    return worker, len(failures) + sum(not task.importable for task in listed)


def _start_runtime(loaded: Loaded) -> Runtime:
    """Return the runtime of this process, with the project's hooks and plugins."""
    settings = loaded.settings
    subscribe_logging(default_bus, _LOG, settings.log_level)
    add_import_roots(settings.root, settings.source_roots)
    load_hooks(settings.hooks)
    extras = make_extras()
    plugins = load_plugins(settings)
    plugins.start(settings, extras)
    runtime = build_runtime(loaded, plugins=plugins)
    use_runtime(runtime)
    bind_extras(extras, Inspector(runtime), runtime.control)
    plugins.update_runtime(runtime)
    return runtime


def _bring_tasks_up_to_date(invocation: Invocation, settings: Settings) -> list[str]:
    """Refresh the manifest in development, only check it in production; return warnings."""
    if settings.environment == "prod":
        warnings = _few(hiding_problems(settings.root, settings.source_roots))
        if is_stale(settings.root, settings.manifest_file):
            warnings.append("The manifest is stale or missing. Run: nuvom discover tasks")
        return warnings
    found, _ = refresh(settings.root, settings.manifest_file, Hints.of(settings))
    require_marker(invocation, settings, has_tasks=bool(found.tasks))
    return _few(found.problems)


def _few(problems: Iterable[Problem]) -> list[str]:
    """Return the first problems as text, errors before warnings, and how many more there are."""
    found = [str(one) for one in sorted(problems, key=lambda one: one.level)]
    more = len(found) - _MOST_WARNINGS
    if more > 0:
        found[_MOST_WARNINGS:] = [f"{more:,} more such problems: nuvom discover tasks --check"]
    return found


def _failed_imports(runtime: Runtime) -> Iterator[TaskImportFailed]:
    """Import what the worker has to know before its first job; yield what failed."""
    settings = runtime.settings
    yield from import_unnamed(settings.root, settings.manifest_file)
    for name in runtime.registry.names() if settings.task_import == "start" else ():
        try:
            runtime.registry.resolve(name)
        except TaskImportFailed as error:
            yield error


def _grouped(failures: Iterable[TaskImportFailed]) -> Iterator[str]:
    """Yield one warning for each reason why tasks could not be loaded, the most frequent first."""
    by_reason = defaultdict[str, list[TaskImportFailed]](list)
    for error in failures:
        by_reason[error.reason].append(error)
    groups = sorted(by_reason.values(), key=len, reverse=True)
    for group in groups[:_MOST_WARNINGS]:
        first, modules = group[0], {error.module for error in group}
        others = f" and {plural(len(modules) - 1, 'other module')}" if len(modules) > 1 else ""
        what = (
            f"{len(group):,} tasks of {first.module}{others} could not be loaded: {first.reason}."
        )
        yield first.what if len(group) == 1 else what
    rest = sum(len(group) for group in groups[_MOST_WARNINGS:])
    if rest:
        yield f"{plural(rest, 'more task')} could not be loaded, for other reasons."


def names(text: str | None) -> list[str] | None:
    """Return the names in ``a,b c``, or None if there are none."""
    found = [] if text is None else text.replace(",", " ").split()
    return found or None


# ---- output -----------------------------------------------------------------------------


def logs_for_programs(settings: Settings) -> bool:
    """Return whether a program reads standard error, so that free text would confuse it."""
    return settings.log_format in {"json", "logfmt"}


def tell_start(out: Output, settings: Settings, lines: Iterable[str]) -> None:
    """Write the start information to standard error, or to the log if programs read it."""
    for line in lines:
        if logs_for_programs(settings):
            _LOG.info("%s", " ".join(line.split()))
        else:
            out.say(line)
    if settings.queue_backend == "memory":
        _LOG.warning(
            "The memory queue is inside this process: no job of another program or command "
            "gets here. Use sqlite or file, or nuvom.local_worker() in the program that enqueues."
        )


def _tell_end(out: Output, worker: Worker, reason: str) -> None:
    if out.as_json:
        data = {"id": worker.id, "reason": reason, "jobs": worker.finished_jobs}
        out.json("nuvom.worker_run/1", data)
    elif not logs_for_programs(worker.runtime.settings):
        out.say(f"Worker ended ({reason}) after {plural(worker.finished_jobs, 'job')}.")


def start_lines(settings: Settings, what: str) -> Iterator[str]:
    """Yield the lines with which a worker and a supervisor begin: version, project, store."""
    yield f"nuvom {__version__}  {what}  pid {os.getpid()}"
    yield f"  project   {quoted(settings.root)} ({settings.environment})"
    yield f"  store     {_store_text(settings)}"


def _start_lines(worker: Worker, unloadable: int) -> Iterator[str]:
    """Yield one line each, also for slots, queues, tasks, promise and plugins."""
    yield from start_lines(worker.runtime.settings, f"worker {short_id(worker.id)}")
    yield f"  slots     {plural(worker.threads, 'thread')}, {worker.async_slots:,} async"
    yield f"  queues    {_queues_text(worker)}"
    yield f"  tasks     {len(worker.runtime.registry)}"
    yield f"  delivery  {worker.promise}"
    if worker.runtime.schedule_store is not None:
        yield f"  schedules {'' if worker.fires_schedules else 'not '}fired by this worker"
    yield from _plugin_lines(worker.runtime)
    but = f", but {plural(unloadable, 'task')} cannot be loaded" if unloadable else ""
    yield f"Ready{but}. Press Ctrl-C to stop."


def _plugin_lines(runtime: Runtime) -> Iterator[str]:
    for loaded in runtime.plugins.started:
        yield f"  plugin    {loaded.describe()}"


def _store_text(settings: Settings) -> str:
    """Return the backends, where they store jobs, and what the jobs survive."""
    queue, results = settings.queue_backend, settings.result_backend
    backend = queue if queue == results else f"{queue}, results {results}"
    place = store_place(settings)
    if place is None:
        return backend
    if place.is_relative_to(settings.root):
        place = place.relative_to(settings.root)
    durability = f"durability {settings.durability} ({_SURVIVES[settings.durability]})"
    return f"{backend} in {quoted(place)}, {durability}"


def _queues_text(worker: Worker) -> str:
    served = "all, including later ones"
    if worker.queues is not None:
        served = ", ".join(worker.queues)
    elif worker.exclude:
        served = f"all but {', '.join(worker.exclude)}"
    limits = [f"{most} of {queue}" for queue, most in worker.concurrency.items()]
    return f"{served}; at most {', '.join(limits)} at once" if limits else served
