"""``nuvom completion``: the script that lets a shell complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

import nuvom.cli.powershell  # noqa: F401  # makes the shell known to click
from nuvom.cli.base import Command
from nuvom.cli.invocation import Invocation

SCHEMA = "nuvom.completion/1"
VARIABLE = "_NUVOM_COMPLETE"
SHELLS = ("bash", "zsh", "fish", "powershell")

_INSTALL = {
    "bash": "nuvom completion bash > ~/.local/share/bash-completion/completions/nuvom",
    "zsh": "echo 'eval \"$(nuvom completion zsh)\"' >> ~/.zshrc",
    "fish": "nuvom completion fish > ~/.config/fish/completions/nuvom.fish",
    "powershell": "nuvom completion powershell >> $PROFILE",
}


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes nuvom's commands in SHELL."""
    invocation = ctx.ensure_object(Invocation)
    script = _script(ctx.find_root().command, shell)
    if invocation.out.as_json:
        data = {"shell": shell, "install": _INSTALL[shell], "script": script}
        invocation.out.json(SCHEMA, data)
        return
    invocation.out.lines(script.rstrip("\n").split("\n"))
    invocation.out.hint(f"To keep it: {_INSTALL[shell]}")


def _script(command: click.Command, shell: str) -> str:
    cls = get_completion_class(shell)
    if cls is None:
        raise click.UsageError(f"This version of click cannot complete in {shell}.")
    complete = cls(command, {}, "nuvom", VARIABLE)
    # Not ``source()``: it runs bash to ask for its version, which this machine may not have.
    return complete.source_template % complete.source_vars()
