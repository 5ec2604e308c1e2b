"""``nuvom demo``: the tour. What it does is in ``nuvom/cli/touring.py``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from nuvom.cli.base import Command
from nuvom.cli.invocation import Invocation, pass_invocation


@click.command(cls=Command)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Work in DIR and leave it as a project to go on with.",
)
@pass_invocation
def demo(invocation: Invocation, keep: Path | None) -> int:
    """Run 24 jobs in front of you: quick, long, failing, healing, delayed and async ones.

    It needs no project and leaves nothing behind, unless --keep. Exit 0 only if every job
    ended as it should.
    """
    # It imports the engine, which help does not need.
    code: int = import_module("nuvom.cli.touring").run(invocation, keep)
    return code
