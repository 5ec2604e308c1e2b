"""Runs one worker in the foreground: set-up, start lines, signals, exit code.

Several of them, each in a process of its own, are ``nuvom/cli/supervising.py``'s affair.

Loaded by ``nuvom runworker`` alone, since it imports the engine. The order matters: plugins
before backends, import paths before plugins, signals before everything.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nuvom.cli import exit_codes
from nuvom.cli.processes import replace_self
from nuvom.cli.serving_text import setting_warnings, start_lines, start_warnings
from nuvom.cli.session import folder_or_root, project_root
from nuvom.cli.signals import StopSignals, stop_signals, write_now
from nuvom.cli.worker_process import SupervisorLine
from nuvom.config.sources import Loaded, load
from nuvom.discovery.auto_register import add_import_roots, refresh, register_manifest
from nuvom.discovery.manifest import is_stale
from nuvom.discovery.scan import hiding_problems
from nuvom.errors import TaskImportFailed, plural
from nuvom.events import WorkerStarted, default_bus
from nuvom.host import processes as platforms
from nuvom.inspection import Inspector
from nuvom.log import configure_logging, flush_logs, get_logger
from nuvom.logs.events import subscribe_logging
from nuvom.plugins.lifecycle import bind_extras, make_extras
from nuvom.plugins.loader import load_plugins
from nuvom.runtime import Runtime, build_runtime, use_runtime
from nuvom.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuvom.cli.invocation import Invocation
    from nuvom.config.settings import Settings
    from nuvom.plugins.lifecycle import PluginSet

SCHEMA = "nuvom.worker_run/1"
_YOUNG_OBJECTS = 10_000  # more than a batch of jobs in flight; Python's own default is 700
_SWITCH_SECS = 0.0005  # Python's own is 0.005
_STARTS_ANEW = frozenset({"stuck-threads", "restart"})  # reasons to end that are none
_LOG = get_logger("nuvom.worker")


def serve(invocation: Invocation, **options: Any) -> int:  # as parsed
    """Run a worker until it ends; return the exit code.

    Raises: ProjectNotFound, ConfigError, PluginError, QueueError: it could not start.
    """
    signals = stop_signals()
    line = None if options["parent"] is None else SupervisorLine(options["parent"])
    loaded = _settings(invocation, options)
    if line is None and needs_supervisor(loaded.settings):
        for text in setting_warnings(loaded.settings):
            invocation.out.warn(text)
        # A single worker does without the rest of this module, and without what it imports.
        supervising = import_module("nuvom.cli.supervising")
        return int(supervising.supervise(invocation, signals, loaded, options))
    worker, plugins = _assemble(invocation, loaded, options)
    began_at = worker.runtime.clock.monotonic()
    _listen(worker, signals, line)
    if line is None:  # else its supervisor has said all that; the log says that it started
        _tell_start(invocation, worker, plugins)
    try:
        with _seldom_collecting(), _quick_to_switch():
            reason = worker.run()
    finally:
        worker.runtime.stop()  # and its plugins
        flush_logs()
    is_asked_to_end = signals.received or (line is not None and line.was_told)
    if reason in _STARTS_ANEW and not is_asked_to_end:
        if line is not None:
            line.give_back()
        replace_self(*_what_is_left(worker, options, began_at))
    if line is None:
        _tell_end(invocation, worker, reason)
    return signals.exit_code or exit_codes.OK


def needs_supervisor(settings: Settings) -> bool:
    """Whether workers are to run in processes of their own."""
    return settings.processes > 1 or platforms.is_first_process()


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Have Python look for cyclic garbage less often, and not among what is loaded by now.

    Jobs in flight form no cycles, yet with Python's own threshold each batch of them makes the
    collector walk through them several times, for 6 % of a worker's time. This process is a
    worker and nothing else; how often a program of the user's collects is the program's affair.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _quick_to_switch() -> Iterator[None]:
    """Have busy threads give way to others after half a millisecond.

    A task that computes in pure Python lets go of the interpreter lock only when the switch
    interval is over, and the pump, the heartbeat and every other slot ask for it anew after each
    statement of SQLite. Jobs beside such a task wait a tenth of the time for it.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _listen(worker: Worker, signals: StopSignals, line: SupervisorLine | None) -> None:
    """Have the worker obey signals, and its supervisor where there is one."""
    say = (lambda _: None) if line is not None or _logs_for_programs(worker) else write_now
    restart = (lambda: worker.stop("restart")) if line is None else lambda: None
    signals.connect(lambda: _first(worker, say), lambda: _second(worker, say), restart)
    if line is not None:
        line.connect(worker.stop, worker.abort)
        _tell_up(worker, line)


def _tell_up(worker: Worker, line: SupervisorLine) -> None:
    """Tell the supervisor once the worker has started, and listen to nothing any more."""

    def tell(_: WorkerStarted) -> None:
        unsubscribe()
        line.tell_up()

    unsubscribe = worker.runtime.bus.subscribe(WorkerStarted, tell)


def _what_is_left(worker: Worker, options: dict[str, Any], began_at: float) -> list[str]:
    """Return the options that keep the limits of a worker which starts anew."""
    words = []
    if options["max_jobs"] is not None:
        words += ["--max-jobs", str(max(1, options["max_jobs"] - worker.finished_jobs))]
    if options["max_seconds"] is not None:
        passed = worker.runtime.clock.monotonic() - began_at
        words += ["--max-seconds", f"{max(0.001, options['max_seconds'] - passed):.3f}s"]
    return words


def _settings(invocation: Invocation, options: dict[str, Any]) -> Loaded:
    flags = {
        "max_workers": options["threads"],
        "processes": options["processes"],
        "async_slots": options["async_slots"],
        "batch_size": options["batch"],
        "log_format": options["log_format"],
        "log_level": "DEBUG" if invocation.out.verbosity > 1 else None,
    }
    if invocation.out.quiet:
        flags["log_level"] = "ERROR"
    return load(folder_or_root(invocation), flags=flags)


def _assemble(
    invocation: Invocation, loaded: Loaded, options: dict[str, Any]
) -> tuple[Worker, PluginSet]:
    settings = loaded.settings
    found_tasks = _bring_tasks_up_to_date(invocation, loaded)
    configure_logging(settings.log_level, settings.log_format, color=_color(invocation))
    subscribe_logging(default_bus, _LOG, settings.log_level)
    for warning in loaded.warnings:
        _LOG.warning("%s", warning)
    add_import_roots(settings.root)
    extras = make_extras()
    plugins = load_plugins(settings)
    plugins.start(settings, extras)
    runtime = build_runtime(loaded, plugins=plugins)
    use_runtime(runtime)
    bind_extras(extras, Inspector(runtime), runtime.control)
    plugins.update_runtime(runtime)
    register_manifest(runtime.registry, settings.root, settings.manifest_file)
    if settings.task_import == "start":
        _import_all(runtime)
    if not found_tasks and not len(runtime.registry):
        _LOG.warning("No task was found: jobs of unknown tasks are PARKED until one is.")
    return _worker(runtime, options), plugins


def _bring_tasks_up_to_date(invocation: Invocation, loaded: Loaded) -> int:
    """Refresh the manifest in development, look at it in production; return how many tasks."""
    settings = loaded.settings
    if settings.environment == "prod":
        if is_stale(settings.root, settings.manifest_file):
            invocation.out.warn("The manifest is stale or missing. Run: nuvom discover tasks")
        for problem in hiding_problems(settings.root):
            invocation.out.warn(str(problem))
        return 1
    found, _ = refresh(settings.root, settings.manifest_file)
    if not found.tasks and not settings.state_dir.is_dir():
        project_root(invocation)  # without a task, only a marker makes this a project
    for problem in found.problems:
        invocation.out.warn(str(problem))
    return len(found.tasks)


def _color(invocation: Invocation) -> bool | None:
    return None if invocation.out.color == "auto" else invocation.out.err.has_color


def _import_all(runtime: Runtime) -> None:
    for name in runtime.registry.names():
        try:
            runtime.registry.resolve(name)
        except TaskImportFailed as error:
            _LOG.warning("%s", error.what)


def _worker(runtime: Runtime, options: dict[str, Any]) -> Worker:
    return Worker(
        runtime,
        queues=names(options["queues"]),
        exclude_queues=names(options["exclude_queues"]) or (),
        burst=options["burst"],
        max_jobs=options["max_jobs"],
        max_secs=options["max_seconds"],
        concurrency=options["concurrency"],
    )


def names(text: str | None) -> list[str] | None:
    """Return the names in ``a,b c``, None where there are none."""
    found = [] if text is None else text.replace(",", " ").split()
    return found or None


def _first(worker: Worker, say: Callable[[str], None]) -> None:
    count = worker.open_attempts
    draining = f": draining {plural(count, 'job')}. Once more to stop at once" if count else ""
    say(f"\nStopping{draining}.\n")
    worker.stop()


def _second(worker: Worker, say: Callable[[str], None]) -> None:
    say("\nStopping at once; what has not ended goes back to the queue.\n")
    worker.abort()


def _logs_for_programs(worker: Worker) -> bool:
    """Return whether standard error is read by a program, which free text would confuse."""
    return worker.runtime.settings.log_format in {"json", "logfmt"}


def _tell_start(invocation: Invocation, worker: Worker, plugins: PluginSet) -> None:
    if _logs_for_programs(worker):
        for line in start_lines(worker, plugins):
            _LOG.info("%s", " ".join(line.split()))
        for text in start_warnings(worker):
            _LOG.warning("%s", text)
        return
    for line in start_lines(worker, plugins):
        invocation.out.say(line)
    for text in start_warnings(worker):
        invocation.out.warn(text)


def _tell_end(invocation: Invocation, worker: Worker, reason: str) -> None:
    if invocation.out.as_json:
        data = {"id": worker.id, "reason": reason, "jobs": worker.finished_jobs}
        invocation.out.json(SCHEMA, data)
    elif not _logs_for_programs(worker):
        invocation.out.say(f"Worker ended ({reason}) after {plural(worker.finished_jobs, 'job')}.")
