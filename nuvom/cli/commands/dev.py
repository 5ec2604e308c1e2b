"""``nuvom dev``: a worker that reloads. What it does is in ``nuvom/cli/reloading.py``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from nuvom.cli.base import Command
from nuvom.cli.completion import queues
from nuvom.cli.invocation import Invocation, pass_invocation


@click.command(cls=Command)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Slots for plain tasks.")
@click.option("--queues", metavar="A,B", shell_complete=queues, help="Serve only these.")
@click.option("--exclude-queues", metavar="A,B", help="Serve all but these.")
@pass_invocation
def dev(invocation: Invocation, /, **options: Any) -> int:
    """Run a worker that takes up changes of your code by itself.

    When a file changes, tasks are discovered anew and a new worker takes the next job; a job
    that runs finishes on the old code. A syntax error is shown and changes nothing.
    """
    # It imports the engine, which help does not need.
    code: int = import_module("nuvom.cli.reloading").serve(invocation, **options)
    return code
