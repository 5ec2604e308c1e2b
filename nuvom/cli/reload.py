"""``nuvom dev`` and ``runworker --reload``: child workers, replaced when code changes.

The new child takes the next job; the old one finishes its running jobs on the old code. A file
that cannot be parsed changes nothing.

With the package ``watchfiles`` (the extra ``nuvom[dev]``), the system reports changes. Without it,
times and sizes are compared several times a second.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from nuvom.cli import exit_codes
from nuvom.cli.output import quoted
from nuvom.cli.processes import StopSignals, WorkerProcess, worker_command, worker_options
from nuvom.cli.project import dashboard_beside, folder_or_root, load_settings, require_marker
from nuvom.cli.supervisor import WorkerPool
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.discovery.auto_register import refresh
from nuvom.discovery.ignore import IgnoreRules
from nuvom.discovery.parser import syntax_tree
from nuvom.discovery.walker import Walker
from nuvom.errors import NuvomError, plural
from nuvom.runtime import build_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nuvom.cli.context import Invocation
    from nuvom.cli.output import Output
    from nuvom.config.settings import Settings
    from nuvom.config.sources import Loaded

    Snapshot = dict[str, tuple[int, int]]

_POLL_SECS = 0.3
_MOST_FILES = 3  # to list when they have changed
_CONFIGURATION = ("nuvom.toml", "pyproject.toml", ".env", ".nuvomignore", ".nuvom_plugins.toml")
_CHILD_SETTINGS = {
    "NUVOM_SHUTDOWN_TIMEOUT_SECS": "86400",  # an old child finishes its jobs, however long
    "NUVOM_TASK_IMPORT": "start",  # a child must not mix old code with new
}


def serve(invocation: Invocation, *, shows: bool = False, **options: Any) -> int:
    """Run worker children until a signal comes; return the exit code.

    Args:
        shows: Whether to serve the dashboard as well, if it is installed.
        options: As click parsed them.
    Raises: ProjectNotFound: this is not a project, and no task makes it one.
    """
    signals = invocation.signals or StopSignals().install()
    loaded = load_settings(invocation, folder_or_root(invocation))
    settings = loaded.settings
    count = options.get("processes") or settings.processes
    reloader = Reloader(invocation, settings, worker_options(options), count)
    signals.connect(reloader.pool.stop, reloader.pool.abort, reloader.pool.restart)
    with _dashboard(invocation.out, loaded) if shows else nullcontext():
        reloader.run()
    return signals.exit_code or exit_codes.OK


@contextmanager
def _dashboard(out: Output, loaded: Loaded) -> Iterator[None]:
    """Serve the dashboard meanwhile, if it is installed, from the store that the workers use."""
    if loaded.settings.queue_backend == "memory":  # which no other process can see
        yield
        return
    with ExitStack() as stack:
        try:
            runtime = build_runtime(loaded, allow_project_plugins=False)
        except NuvomError as error:
            out.warn(f"No dashboard: {error.what}")
        else:
            stack.callback(runtime.stop)
            if (server := dashboard_beside(runtime)) is not None:
                stack.callback(server.stop)
                out.say(f"Dashboard: {server.sign_in_url}")
        yield


class Reloader:
    """Keeps ``count`` children running and replaces them.

    Attributes:
        pool: All children that have not ended.
    """

    def __init__(
        self, invocation: Invocation, settings: Settings, options: Sequence[str], count: int = 1
    ) -> None:
        self._invocation = invocation
        self._settings = settings
        self._count = count
        self._say = invocation.out.say
        command = worker_command(invocation.out, settings.root, options)
        self.pool = WorkerPool(
            lambda: WorkerProcess(command, _CHILD_SETTINGS),
            grace_secs=settings.shutdown_timeout_secs,
        )
        # Children that run the newest code; the others finish their jobs.
        self._current: list[WorkerProcess] = []

    def run(self) -> None:
        """Watch and replace until ``stop``."""
        root = self._settings.root
        before = snapshot(root)
        tasks = self._discover()
        self._say(f"Watching {quoted(root)}: {plural(tasks, 'task')}. Press Ctrl-C to stop.")
        self._replace()
        try:
            for files in changes(root, before, is_over=lambda: self.pool.is_stopping):
                if files:
                    self._react(sorted(files))
                elif self.pool.wants_restart:
                    self._replace()
                self._look_after()
        finally:
            self._say("Stopping. Repeat to stop at once.")
            self.pool.end()
            self._say("Stopped.")

    def _react(self, files: Sequence[str]) -> None:
        broken = syntax_error(self._settings.root, files)
        if broken is not None:
            self._say(f"{broken}\nThe worker keeps running the previous code.")
            return
        tasks = self._discover()
        listed = ", ".join(files[:_MOST_FILES]) + (", ..." if len(files) > _MOST_FILES else "")
        self._say(f"Changed: {listed}. New worker, {plural(tasks, 'task')}.")
        self._replace()

    def _discover(self) -> int:
        """Bring the manifest up to date and show what changed; return the number of tasks."""
        settings, out = self._settings, self._invocation.out
        found, difference = refresh(settings.root, settings.manifest_file)
        require_marker(self._invocation, settings, has_tasks=bool(found.tasks))
        for task in difference.added:
            out.say(f"+ {task.name}{task.signature}")
        for task in difference.removed:
            out.say(f"- {task.name}")
        for problem in found.problems:
            out.warn(str(problem))
        return len(found.tasks)

    def _replace(self) -> None:
        self.pool.wants_restart = False
        for child in self._current:
            child.ask_to_stop()
        self._current = [self.pool.start_one() for _ in range(self._count)]

    def _look_after(self) -> None:
        for child, code in self.pool.let_go_of_ended():
            if child in self._current:
                self._current.remove(child)
                self._say(f"The worker ended with code {code}; a change starts a new one.")
        self.pool.reap_orphans()


def syntax_error(root: Path, names: Sequence[str]) -> str | None:
    """Return the error in the first file that cannot be parsed, or None."""
    for file in names:
        try:
            if file.endswith(".py"):
                syntax_tree((root / file).read_bytes())
        except FileNotFoundError:  # removed
            continue
        except SyntaxError as error:
            return f"{file}:{error.lineno}: {error.msg}"
        except (OSError, ValueError) as error:
            return f"{file}: {error}"
    return None


# ---- watching ---------------------------------------------------------------------------


def changes(root: Path, before: Snapshot, *, is_over: Callable[[], bool]) -> Iterator[set[str]]:
    """Yield the files that changed, relative to ``root``; sometimes an empty set.

    New and removed files count as changed. Files that discovery skips do not.

    Args:
        before: The snapshot to start from, taken before the code was first read.
        is_over: Polled several times a second. An event would not do: a signal handler that sets
            it may have interrupted this very thread inside the event's lock.
    """
    for _ in _ticks(root, is_over):
        now = snapshot(root)
        yield {file for file in before.keys() | now.keys() if before.get(file) != now.get(file)}
        before = now


def snapshot(root: Path) -> Snapshot:
    """Return time and size of each relevant file: Python files and configuration files."""
    base = os.path.realpath(root)
    found: Snapshot = {
        source.file: (source.mtime_ns, source.size)
        for source in Walker(base, IgnoreRules()).files()
    }
    for name in _CONFIGURATION:
        try:
            status = os.stat(os.path.join(base, name))
        except OSError:  # most projects do not have all of them
            continue
        found[name] = (status.st_mtime_ns, status.st_size)
    return found


def _ticks(root: Path, is_over: Callable[[], bool]) -> Iterator[object]:
    """Yield whenever it is time to check again."""
    if find_spec("watchfiles") is not None:
        watchfiles: Any = import_module("watchfiles")
        stop_event = SimpleNamespace(is_set=is_over)
        options = {"rust_timeout": 500, "yield_on_timeout": True, "raise_interrupt": False}
        yield from watchfiles.watch(root, stop_event=stop_event, **options)
        return
    SYSTEM_CLOCK.sleep(_POLL_SECS)
    while not is_over():
        yield None
        SYSTEM_CLOCK.sleep(_POLL_SECS)
