"""``nuvom init [DIR]``: make a folder a project."""

from __future__ import annotations

from pathlib import Path

import click

from nuvom.cli.base import Command
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.starter import write_project
from nuvom.cli.text import quoted
from nuvom.config.project import here

SCHEMA = "nuvom.init/1"


@click.command(cls=Command)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("-f", "--force", is_flag=True, help="Overwrite the files that init writes.")
@pass_invocation
def init(invocation: Invocation, folder: Path | None, *, force: bool) -> None:
    """Make DIR, or this folder, a project: tasks.py, nuvom.toml, .nuvomignore, .gitignore.

    Files that are there already are kept, unless --force.
    """
    chosen = invocation.project if folder is None else folder
    root = here() if chosen is None else chosen.absolute()
    done = list(write_project(root, force=force))
    out = invocation.out
    if out.as_json:
        data = {"root": root, "files": {one.file: one.change for one in done}}
        out.json(SCHEMA, data)
        return
    for one in done:
        style = "dim" if one.change == "kept" else "green"
        out.lines([f"{out.out.paint(one.change.ljust(8), style)}  {quoted(root / one.file)}"])
    if any(one.change == "kept" and one.file == "tasks.py" for one in done):
        out.say("tasks.py was there already; --force would overwrite it.")
    enter = "" if root == Path.cwd() else f"cd {quoted(root)}; "
    out.hint(f"Next: {enter}nuvom dev, and in another terminal: nuvom run add 2 3 --wait")
