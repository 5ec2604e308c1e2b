"""``nuvom dev`` and ``runworker --reload``: workers in children, replaced when code changes.

The new child takes the next job; the old one finishes what it runs on the old code. A file
that cannot be parsed changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.cli import exit_codes
from nuvom.cli.crew import Crew
from nuvom.cli.session import folder_or_root, project_root, settings
from nuvom.cli.signals import stop_signals
from nuvom.cli.text import quoted
from nuvom.cli.watching import changes, snapshot
from nuvom.cli.worker_process import WorkerProcess, worker_command, worker_options
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.discovery.auto_register import refresh
from nuvom.discovery.parser import syntax_tree
from nuvom.errors import plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nuvom.cli.invocation import Invocation
    from nuvom.config.settings import Settings
    from nuvom.discovery.scan import Scan

SCHEMA = "nuvom.dev/1"
_CHILD_SETTINGS = {
    "NUVOM_SHUTDOWN_TIMEOUT_SECS": "86400",  # an old child finishes its jobs, however long
    "NUVOM_TASK_IMPORT": "start",  # so that a child never mixes old code with new
}


def serve(invocation: Invocation, **options: Any) -> int:  # as parsed
    """Run worker children until a signal comes; return the exit code.

    Raises: ProjectNotFound: there is no project here, and no task that would make it one.
    """
    signals = stop_signals()
    root = folder_or_root(invocation)
    loaded = settings(invocation, root)
    count = options.get("processes") or loaded.settings.processes
    supervisor = Supervisor(invocation, loaded.settings, worker_options(options), count)
    signals.connect(supervisor.stop, supervisor.abort, supervisor.restart)
    supervisor.run()
    return signals.exit_code or exit_codes.OK


class Supervisor:
    """Keeps ``count`` children at work and replaces them."""

    def __init__(
        self, invocation: Invocation, settings: Settings, options: Sequence[str], count: int = 1
    ) -> None:
        self._invocation = invocation
        self._settings = settings
        self._count = count
        command = worker_command(invocation, settings.root, options)
        self._crew = Crew(
            lambda: WorkerProcess(command, _CHILD_SETTINGS),
            clock=SYSTEM_CLOCK,
            grace_secs=settings.shutdown_timeout_secs,
        )
        self._wants_new = False
        # Those of the newest code; the others finish their jobs.
        self._current: list[WorkerProcess] = []

    def stop(self) -> None:
        """End in good order; may be called from a signal handler."""
        self._crew.is_stopping = True

    def abort(self) -> None:
        """End at once; may be called from a signal handler."""
        self._crew.is_aborted = True

    def restart(self) -> None:
        """Start new children soon; may be called from a signal handler."""
        self._wants_new = True

    def run(self) -> None:
        """Watch and replace until ``stop``."""
        before = snapshot(self._settings.root)
        found = self._discover()
        self._tell("started", self._headline(found), tasks=len(found.tasks))
        self._replace()
        try:
            root, is_over = self._settings.root, lambda: self._crew.is_stopping
            for files in changes(root, before, is_over=is_over, clock=SYSTEM_CLOCK):
                if files:
                    self._react(files)
                elif self._wants_new:
                    self._replace()
                self._look_after()
        finally:
            self._end()

    def _headline(self, found: Scan) -> str:
        where = quoted(self._settings.root)
        return f"Watching {where}: {plural(len(found.tasks), 'task')}. Ctrl-C stops it."

    # ---- code that changes --------------------------------------------------------------

    def _react(self, files: set[str]) -> None:
        listed = ", ".join(sorted(files)[:3]) + (", ..." if len(files) > 3 else "")  # noqa: PLR2004  # enough to tell
        broken = _syntax_error(self._settings.root, files)
        if broken is not None:
            text = f"{broken}\nThe worker goes on with the code before."
            self._tell("syntax_error", text, files=sorted(files))
            return
        found = self._discover()
        tasks = plural(len(found.tasks), "task")
        self._tell("reloaded", f"Changed: {listed}. New worker, {tasks}.", files=sorted(files))
        self._replace()

    def _discover(self) -> Scan:
        settings = self._settings
        found, difference = refresh(settings.root, settings.manifest_file)
        if not found.tasks and not settings.state_dir.is_dir():
            project_root(self._invocation)  # without a task, only a marker makes this a project
        for task in difference.added:
            self._invocation.out.say(f"+ {task.name}{task.signature}")
        for task in difference.removed:
            self._invocation.out.say(f"- {task.name}")
        for problem in found.problems:
            self._invocation.out.warn(str(problem))
        return found

    # ---- children -----------------------------------------------------------------------

    def _replace(self) -> None:
        self._wants_new = False
        for child in self._current:
            child.ask_to_stop()
        self._current = [self._crew.start_one() for _ in range(self._count)]

    def _look_after(self) -> None:
        for child, code in self._crew.let_go_of_ended():
            if child in self._current:
                self._current.remove(child)
                text = f"The worker ended with code {code}; a change starts a new one."
                self._tell("ended", text, code=code)
        self._crew.reap_orphans()

    def _end(self) -> None:
        self._tell("stopping", "Stopping. Once more to stop at once.")
        self._crew.end()
        self._tell("stopped", "Stopped.")

    def _tell(self, event: str, text: str, **data: Any) -> None:  # further keys
        if self._invocation.out.as_json:
            self._invocation.out.json_line(SCHEMA, {"event": event, "text": text, **data})
        else:
            self._invocation.out.say(text)


def _syntax_error(root: Path, files: set[str]) -> str | None:
    """Return what is wrong with the first of ``files`` that cannot be parsed."""
    for file in sorted(file for file in files if file.endswith(".py")):
        try:
            syntax_tree((root / file).read_bytes())
        except FileNotFoundError:  # removed
            continue
        except SyntaxError as error:
            return f"{file}:{error.lineno}: {error.msg}"
        except (OSError, ValueError) as error:
            return f"{file}: {error}"
    return None
