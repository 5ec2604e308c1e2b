"""The entry point: the table of commands, and how each call of ``nuvom`` ends.

``nuvom --help`` prints the table and imports no command. To add a command, write a click command
with ``cls=Command`` in a module of ``nuvom/cli/commands/`` and list it in ``SECTIONS``.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import Abort, Exit

from nuvom._version import __version__
from nuvom.cli import exit_codes
from nuvom.cli.context import Entry, Group, Invocation, wants_json
from nuvom.cli.output import never_raise_over_characters
from nuvom.errors import NuvomError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECTIONS: dict[str, dict[str, Entry]] = {
    "Start": {
        "demo": Entry("checks:demo", "Take a ten-second tour in a temporary folder."),
        "init": Entry("scaffold:init", "Turn this folder into a project with a first task."),
        "dev": Entry("workers:dev", "Run a worker that reloads when your code changes."),
        "dashboard": Entry("checks:dashboard", "Serve the web dashboard of the project."),
        "doctor": Entry("checks:doctor", "Check settings, tasks, store and workers."),
    },
    "Tasks and jobs": {
        "discover": Entry("tasks:discover", "Find the tasks in your code."),
        "tasks": Entry("tasks:list_tasks", "List the tasks that were found."),
        "list": Entry("tasks:list_", "List the tasks that were found."),
        "run": Entry("run:run_", "Enqueue a job; with --wait, print its result."),
        "wait": Entry("jobs:wait", "Wait for jobs to finish."),
        "status": Entry("checks:status", "Show what needs attention, or the status of a job."),
        "top": Entry("checks:top", "Watch the project in the terminal, and act on it."),
        "why": Entry("jobs:why", "Say why a job is not running."),
        "inspect": Entry("jobs:inspect_", "Show everything about a job."),
        "history": Entry("jobs:history", "List the newest jobs."),
        "retry": Entry("jobs:retry", "Run jobs again."),
        "cancel": Entry("jobs:cancel", "Cancel jobs."),
        "errors": Entry("errors:errors_", "List failures by cause; retry or discard them."),
        "explain": Entry("errors:explain", "Say what an error means and what to do."),
    },
    "Workers and queues": {
        "runworker": Entry("workers:runworker", "Run jobs and fire schedules until you stop it."),
        "workers": Entry("workers:workers", "List workers; quiet, stop or inspect one."),
        "queues": Entry("queues:queues", "List queues; pause, resume or purge one."),
        "prune": Entry("queues:prune", "Remove old jobs that have ended."),
        "runtestworker": Entry("runtestworker:runtestworker", "Run one job from a file."),
    },
    "Schedules": {
        "schedule": Entry("schedules:schedule", "List schedules; show, run, pause or delete one."),
        "runscheduler": Entry("workers:runscheduler", "Fire schedules without running jobs."),
    },
    "Setup": {
        "config": Entry("config:config", "Show, check and explain the settings."),
        "migrate": Entry("store:migrate", "Make or change the tables of the store."),
        "copy": Entry("store:copy", "Move jobs to another store."),
        "export": Entry("store:export", "Write the store's jobs to a file."),
        "import": Entry("store:import_", "Store the jobs of such a file."),
        "migrate-from": Entry("tasks:migrate_from", "Report which Celery code runs on Nuvom."),
        "plugin": Entry("plugin:plugin", "List, test and scaffold plugins."),
        "torture": Entry("checks:torture", "Kill workers, and check that nothing is lost."),
        "completion": Entry("shell:completion", "Set up completion in your shell."),
        "version": Entry("shell:version", "Show the version."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
FOREGROUND = frozenset({"dashboard", "dev", "runscheduler", "runworker"})
ERROR_SCHEMA = "nuvom.error/1"
ERRORS_PAGE = "docs/errors.md"
COMPLETE_VARIABLE = "_NUVOM_COMPLETE"


class Nuvom(Group):
    """The ``nuvom`` command itself: a group whose help has sections."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; first install signal handlers for one that stays in the foreground."""
        invocation = ctx.ensure_object(Invocation)
        if cmd_name in FOREGROUND and not ctx.resilient_parsing and invocation.signals is None:
            invocation.signals = import_module("nuvom.cli.processes").StopSignals().install()
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take ``nuvom help COMMAND`` for ``nuvom COMMAND --help``."""
        if args[:1] == ["help"] and not ctx.resilient_parsing:
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands first: they are what users look for."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, section by section."""
        width = max(map(len, COMMANDS))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), self.summary(ctx, name)) for name in section]
                )


@click.group(cls=Nuvom, lazy=COMMANDS)
@click.version_option(__version__, "-V", "--version", message="nuvom %(version)s")
def cli() -> None:
    """Background tasks for Python, without a broker.

    New here? `nuvom demo` takes you on a ten-second tour.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the documented exit code."""
    given = list(sys.argv[1:] if args is None else args)
    never_raise_over_characters()
    invocation = Invocation()
    invocation.out.as_json = wants_json(given)
    sys.exit(run(invocation, lambda: _call(given, invocation)))


def _call(args: list[str], invocation: Invocation) -> object:
    instruction = os.environ.get(COMPLETE_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete  # noqa: PLC0415  # only when a shell asks

        import_module("nuvom.cli.commands.shell")  # registers PowerShell with click
        return shell_complete(cli, {}, "nuvom", COMPLETE_VARIABLE, instruction)
    with cli.make_context("nuvom", args, obj=invocation) as context:
        return cli.invoke(context)


# ---- how a call ends --------------------------------------------------------------------


def run(invocation: Invocation, action: Callable[[], Any]) -> int:
    """Run ``action`` and return the exit code; only ``SystemExit`` escapes.

    The only place that turns exceptions into exit codes. It shows a traceback only with
    ``--debug``. A broken pipe, from a reader who has seen enough, is not an error.
    """
    try:
        code = _run(invocation, action)
        sys.stdout.flush()
        return code
    except OSError as error:
        if not _is_broken_pipe(error):
            raise
        # Send the interpreter's final flush nowhere, so that it does not complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return exit_codes.OK


def _run(invocation: Invocation, action: Callable[[], Any]) -> int:
    try:
        code = action()
        return code if isinstance(code, int) else exit_codes.OK
    except Exit as end:
        return end.exit_code
    except (Abort, KeyboardInterrupt, EOFError):
        return exit_codes.INTERRUPTED
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = "nuvom" if context is None else context.command_path
        told = ("Usage", error.format_message(), f"Read: {path} --help", exit_codes.USAGE)
        return _report(invocation, error, told)
    except NuvomError as error:
        told = (_name_of(error), error.what, error.fix, exit_codes.exit_code_of(type(error)))
        return _report(invocation, error, told)
    except Exception as error:  # the outermost frame: a bug must not look like success
        if isinstance(error, OSError) and _is_broken_pipe(error):
            raise
        text = f"{type(error).__name__}: {error}"
        fix = "This should not happen. Run the command with --debug to see where it comes from."
        return _report(invocation, error, ("Unexpected", text, fix, exit_codes.FAILED))


def _report(invocation: Invocation, error: BaseException, told: tuple[str, str, str, int]) -> int:
    name, what, fix, code = told
    page, more = f"{ERRORS_PAGE}#{name.lower()}", f"nuvom explain {name}"
    if invocation.debug:
        import traceback  # noqa: PLC0415  # only with --debug

        traceback.print_exception(error)
    if invocation.out.as_json:
        data = {"code": name, "message": what, "hint": fix, "docs": page, "explain": more}
        invocation.out.json(ERROR_SCHEMA, {**data, "exit": code})
    elif name == "Usage":
        invocation.out.error(what, help=fix.removeprefix("Read: "))
    else:
        invocation.out.error(what, fix, more=more)
    return code


def _name_of(error: NuvomError) -> str:
    """Return the name of its class, or of the base that is Nuvom's own."""
    module = NuvomError.__module__
    return next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == module)


def _is_broken_pipe(error: OSError) -> bool:
    # Windows reports EINVAL when the reader of a pipe is gone.
    return error.errno == errno.EPIPE or (sys.platform == "win32" and error.errno == errno.EINVAL)
