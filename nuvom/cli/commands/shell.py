"""``nuvom completion`` and ``nuvom version``; adds PowerShell to click's completion.

As for click's own shells, environment variables pass the words. The answer to PowerShell has one
line per word: its value, a tab, and its note.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
from click.shell_completion import (
    ShellComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from nuvom._version import __version__
from nuvom.cli.cli import COMPLETE_VARIABLE, cli
from nuvom.cli.context import Invocation, command, template

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHELLS = {
    "bash": "nuvom completion bash > ~/.local/share/bash-completion/completions/nuvom",
    "zsh": "echo 'eval \"$(nuvom completion zsh)\"' >> ~/.zshrc",
    "fish": "nuvom completion fish > ~/.config/fish/completions/nuvom.fish",
    "powershell": "nuvom completion powershell >> $PROFILE",
}
"""Each shell, and the command that installs its script."""


class PowerShellComplete(ShellComplete):
    """Completion for PowerShell 5.1 and 7, as the script of the template expects it."""

    name = "powershell"

    @property
    def source_template(self) -> str:  # type: ignore[override]  # loaded on demand
        """The script, with placeholders for click to fill in."""
        return template("completion.ps1.txt")

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words before the cursor, and the incomplete one."""
        words = split_arg_string(os.environ.get("COMP_WORDS", ""))[1:]
        incomplete = os.environ.get("COMP_WORD", "").strip("'\"")
        if incomplete and words:
            words.pop()
        return words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return one line of the answer."""
        note = " ".join((item.help or "").split())
        return f"{item.value}\t{note}"


add_completion_class(PowerShellComplete)


@command()
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
def completion(invocation: Invocation, shell: str) -> None:
    """Print the completion script for SHELL."""
    out = invocation.out
    shell_class = get_completion_class(shell)
    if shell_class is None:
        raise click.UsageError(f"This version of click cannot complete in {shell}.")
    complete = shell_class(cli, {}, "nuvom", COMPLETE_VARIABLE)
    # Not ``source()``: it runs bash to ask for its version, which this machine may not have.
    script = complete.source_template % complete.source_vars()
    data = {"shell": shell, "install": SHELLS[shell], "script": script}
    out.answer("nuvom.completion/1", data, script.rstrip("\n"))
    out.hint(f"To install it: {SHELLS[shell]}")


@command()
def version(invocation: Invocation) -> None:
    """Show the version of Nuvom and of Python."""
    python = ".".join(map(str, sys.version_info[:3]))
    data = {"version": __version__, "python": python}
    invocation.out.answer("nuvom.version/1", data, f"nuvom {__version__} (Python {python})")
