"""``nuvom runtestworker run FILE``: one job from a file, here and now."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from nuvom.cli.base import Group
from nuvom.cli.invocation import Invocation, pass_invocation

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Group, default="run")
def runtestworker() -> None:
    """Run one job from a file, without any store; made for tests of tasks in CI."""


@runtestworker.command()
@click.argument("file", type=_FILE, required=False)
@click.option("--input", "given", type=_FILE, metavar="FILE", help="The same as FILE.")
@click.option(
    "--task-module",
    type=_FILE,
    metavar="FILE",
    help="A Python file that defines the task; default: as the manifest says.",
)
@pass_invocation
def run(
    invocation: Invocation, file: Path | None, given: Path | None, task_module: Path | None
) -> int:
    """Run the job that FILE describes; print what it returns, exit 1 if it fails.

    FILE is JSON: {"func_name": "tasks.add", "args": [2, 3], "kwargs": {}, "timeout_secs": 5,
    "retries": 0}. Everything but func_name may be left out. Timeouts, retries and hooks work
    as in a worker; nothing is stored.
    """
    if (file is None) is (given is None):
        raise click.UsageError("Name the job's file once: as FILE, or with --input.")
    # It imports the engine, which help does not need.
    run_file = import_module("nuvom.cli.single_job").run_file
    code: int = run_file(invocation, file or given, task_module)
    return code
