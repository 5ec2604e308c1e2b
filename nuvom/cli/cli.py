"""The way in: a table of commands, a group that loads one when it is called, and ``main``.

``nuvom --help`` prints from the table and imports no command. What a command does is in
``nuvom/cli/commands/``.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from nuvom._version import __version__
from nuvom.cli.base import Entry, Group
from nuvom.cli.ending import run
from nuvom.cli.invocation import Invocation, wants_json
from nuvom.cli.streams import never_raise_over_characters

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMPLETION_VARIABLE = "_NUVOM_COMPLETE"
_HERE = "nuvom.cli.commands"

SECTIONS: dict[str, dict[str, Entry]] = {
    "Start": {
        "demo": Entry(
            f"{_HERE}.demo:demo", "See all of it in ten seconds, in a folder of its own."
        ),
        "init": Entry(f"{_HERE}.init:init", "Make this folder a project, with a first task."),
        "dev": Entry(f"{_HERE}.dev:dev", "Run a worker that reloads when your code changes."),
        "doctor": Entry(f"{_HERE}.doctor:doctor", "Check settings, tasks, store and workers."),
    },
    "Tasks and jobs": {
        "discover": Entry(f"{_HERE}.discover:discover", "Find the tasks in your code."),
        "list": Entry(f"{_HERE}.list_tasks:list_", "Show the tasks that were found."),
        "run": Entry(f"{_HERE}.run:run_", "Enqueue a job; with --wait print what it returns."),
        "wait": Entry(f"{_HERE}.wait:wait", "Wait for jobs to end."),
        "status": Entry(f"{_HERE}.status:status", "Show where a job is."),
        "inspect": Entry(f"{_HERE}.inspect_job:inspect_", "Show all that is known of a job."),
        "history": Entry(f"{_HERE}.history:history", "Show the newest jobs."),
        "retry": Entry(f"{_HERE}.retry:retry", "Run a job again."),
        "cancel": Entry(f"{_HERE}.cancel:cancel", "Cancel jobs."),
        "errors": Entry(
            f"{_HERE}.errors:errors_", "Show failures by cause; retry or discard them."
        ),
    },
    "Workers and queues": {
        "runworker": Entry(f"{_HERE}.runworker:runworker", "Run jobs until you stop it."),
        "workers": Entry(f"{_HERE}.workers:workers", "Show workers; quiet, stop or look inside."),
        "queues": Entry(f"{_HERE}.queues:queues", "Show queues; pause, resume or purge one."),
        "prune": Entry(f"{_HERE}.store:prune", "Remove old jobs that have ended."),
        "runtestworker": Entry(f"{_HERE}.runtestworker:runtestworker", "Run one job from a file."),
    },
    "Set-up": {
        "config": Entry(f"{_HERE}.config:config", "Show, check and explain the settings."),
        "plugin": Entry(f"{_HERE}.plugin:plugin", "Show, test and scaffold plugins."),
        "torture": Entry(f"{_HERE}.torture:torture", "Kill workers; see that nothing is lost."),
        "completion": Entry(f"{_HERE}.completion:completion", "Let your shell complete commands."),
        "version": Entry(f"{_HERE}.version:version", "Show the version."),
    },
}
SIGNALS = "nuvom.signals"  # where a foreground command finds the handlers
FOREGROUND = frozenset({"dev", "runworker"})
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class Nuvom(Group):
    """The ``nuvom`` command itself: a group whose help has sections."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; one that stays in the foreground listens to signals first."""
        if cmd_name in FOREGROUND and not ctx.resilient_parsing and SIGNALS not in ctx.meta:
            ctx.meta[SIGNALS] = import_module("nuvom.cli.signals").StopSignals().install()
        return super().get_command(ctx, cmd_name)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands first: they are what one looks for."""
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
@click.version_option(__version__, "--version", message="nuvom %(version)s")
def cli() -> None:
    """Background tasks for Python without a broker.

    New here? `nuvom demo` shows all of it in ten seconds.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with the documented exit code."""
    given = list(sys.argv[1:] if args is None else args)
    never_raise_over_characters()
    invocation = Invocation()
    invocation.out.as_json = wants_json(given)
    sys.exit(run(invocation, lambda: _call(given, invocation)))


def _call(args: list[str], invocation: Invocation) -> object:
    instruction = os.environ.get(_COMPLETION_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete  # noqa: PLC0415  # only when a shell asks

        import_module("nuvom.cli.powershell")  # makes that shell known to click
        return shell_complete(cli, {}, "nuvom", _COMPLETION_VARIABLE, instruction)
    with cli.make_context("nuvom", args, obj=invocation) as context:
        return cli.invoke(context)
