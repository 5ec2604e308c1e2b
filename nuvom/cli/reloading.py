"""``nuvom dev`` and ``runworker --reload``: a worker in a child, replaced when code changes.

The new child takes the next job; the old one finishes what it runs on the old code. A file
that cannot be parsed changes nothing. Children stop when their standard input ends, so that
none outlives this process, however it dies.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from nuvom.cli import exit_codes
from nuvom.cli.processes import own_command
from nuvom.cli.serving import stop_signals
from nuvom.cli.session import folder_or_root, settings
from nuvom.cli.text import plural, quoted
from nuvom.cli.watching import changes, snapshot
from nuvom.clock import SYSTEM_CLOCK
from nuvom.discovery.auto_register import refresh
from nuvom.discovery.parser import syntax_tree
from nuvom.errors import ProjectNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nuvom.cli.invocation import Invocation
    from nuvom.config import Settings
    from nuvom.discovery.entries import Scan

SCHEMA = "nuvom.dev/1"
_CHILD_SETTINGS = {
    "NUVOM_SHUTDOWN_TIMEOUT_SECS": "86400",  # an old child finishes its jobs, however long
    "NUVOM_TASK_IMPORT": "start",  # so that a child never mixes old code with new
}

_HAND_BACK_SECS = 10.0
_LOOK_SECS = 0.05


def serve(invocation: Invocation, **options: Any) -> int:  # as parsed
    """Run a worker child until a signal comes; return the exit code.

    Raises: ProjectNotFound: there is no project here, and no task that would make it one.
    """
    signals = stop_signals()
    root = folder_or_root(invocation)
    loaded = settings(invocation, root)
    supervisor = Supervisor(invocation, loaded.settings, child_options(options))
    signals.connect(supervisor.stop, supervisor.abort)
    supervisor.run()
    return signals.exit_code or exit_codes.OK


def child_options(options: Mapping[str, Any]) -> list[str]:
    """Return the options of ``runworker`` that say the same again."""
    words = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value not in (None, False):
            words += [option, str(value)]
    return words


class Supervisor:
    """Keeps one child at work and replaces it."""

    def __init__(self, invocation: Invocation, settings: Settings, options: Sequence[str]) -> None:
        self._invocation = invocation
        self._settings = settings
        self._options = list(options)
        self._stop = threading.Event()
        self._is_aborted = False
        self._current: subprocess.Popen[bytes] | None = None
        self._old: list[subprocess.Popen[bytes]] = []
        self._told_end = False

    def stop(self) -> None:
        """End in good order; may be called from a signal handler."""
        self._stop.set()

    def abort(self) -> None:
        """End at once; may be called from a signal handler."""
        self._is_aborted = True

    def run(self) -> None:
        """Watch and replace until ``stop``."""
        before = snapshot(self._settings.root)
        found = self._discover()
        self._tell("started", self._headline(found), tasks=len(found.tasks))
        self._current = self._spawn()
        try:
            root, stop = self._settings.root, self._stop
            for files in changes(root, before, stop=stop, clock=SYSTEM_CLOCK):
                if files:
                    self._react(files)
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
            raise ProjectNotFound([settings.root])
        for task in difference.added:
            self._invocation.out.say(f"+ {task.name}{task.signature}")
        for task in difference.removed:
            self._invocation.out.say(f"- {task.name}")
        for problem in found.problems:
            self._invocation.out.warn(str(problem))
        return found

    # ---- children -----------------------------------------------------------------------

    def _spawn(self) -> subprocess.Popen[bytes]:
        out = self._invocation.out
        flags = ["--quiet"] if out.quiet else ["-" + "v" * out.verbosity] if out.verbosity else []
        root = str(self._settings.root)
        command = own_command(
            "--project", root, "--color", out.color, "runworker", "--child", *flags, *self._options
        )
        self._told_end = False
        # A group of its own: Ctrl-C in the terminal is for us, who pass it on as fits.
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, env={**os.environ, **_CHILD_SETTINGS}, **apart
        )

    def _replace(self) -> None:
        if self._current is not None:
            _ask_to_stop(self._current)
            self._old.append(self._current)
        self._current = self._spawn()

    def _look_after(self) -> None:
        self._old = [child for child in self._old if child.poll() is None]
        current = self._current
        if current is not None and current.poll() is not None and not self._told_end:
            self._told_end = True
            text = f"The worker ended with code {current.returncode}; a change starts a new one."
            self._tell("ended", text, code=current.returncode)

    def _end(self) -> None:
        children = [child for child in (*self._old, self._current) if child is not None]
        for child in children:
            _ask_to_stop(child)
        self._tell("stopping", "Stopping. Once more to stop at once.")
        if not self._wait_for(children, self._settings.shutdown_timeout_secs):
            for child in children:
                _stop_at_once(child)
            # Long enough to hand back what runs; a child that hangs is ended.
            self._is_aborted = False
            if not self._wait_for(children, _HAND_BACK_SECS):
                for child in children:
                    child.kill()
        self._tell("stopped", "Stopped.")

    def _wait_for(self, children: Sequence[subprocess.Popen[bytes]], secs: float) -> bool:
        """Wait until all have ended; False when the time is over or ``abort`` was called."""
        deadline = SYSTEM_CLOCK.monotonic() + secs
        while any(child.poll() is None for child in children):
            if self._is_aborted or SYSTEM_CLOCK.monotonic() > deadline:
                return False
            SYSTEM_CLOCK.sleep(_LOOK_SECS)
        return True

    def _tell(self, event: str, text: str, **data: Any) -> None:  # further keys
        if self._invocation.out.as_json:
            self._invocation.out.json_line(SCHEMA, {"event": event, "text": text, **data})
        else:
            self._invocation.out.say(text)


def _ask_to_stop(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None and not child.stdin.closed:
        child.stdin.close()


def _stop_at_once(child: subprocess.Popen[bytes]) -> None:
    """Send what the child takes for its second signal; where there are no signals, end it."""
    if child.poll() is not None:
        return
    if sys.platform == "win32":
        child.kill()
        return
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGTERM)


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
