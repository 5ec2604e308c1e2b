"""``nuvom version``."""

from __future__ import annotations

import sys

import click

from nuvom._version import __version__
from nuvom.cli.base import Command
from nuvom.cli.invocation import Invocation, pass_invocation

SCHEMA = "nuvom.version/1"


@click.command(cls=Command)
@pass_invocation
def version(invocation: Invocation) -> None:
    """Show the version of Nuvom and of Python."""
    python = ".".join(map(str, sys.version_info[:3]))
    if invocation.out.as_json:
        invocation.out.json(SCHEMA, {"version": __version__, "python": python})
    else:
        invocation.out.text(f"nuvom {__version__} (Python {python})")
