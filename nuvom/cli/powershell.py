"""Completion for PowerShell 5.1 and 7; importing this makes it known to click.

Words travel in environment variables, as with click's own shells; the answer has one line for
each word: its value, a tab, its note.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from click.shell_completion import ShellComplete, add_completion_class, split_arg_string

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_SCRIPT = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $line = $commandAst.ToString()
    if ($cursorPosition -lt $line.Length) { $line = $line.Substring(0, $cursorPosition) }
    $env:%(complete_var)s = "powershell_complete"
    $env:COMP_WORDS = $line
    $env:COMP_WORD = $wordToComplete
    try {
        %(prog_name)s | Where-Object { $_ } | ForEach-Object {
            $value, $note = $_ -split "`t", 2
            if (-not $note) { $note = $value }
            if ($value -match "\\s") { $text = "'" + $value.Replace("'", "''") + "'" }
            else { $text = $value }
            [System.Management.Automation.CompletionResult]::new(
                $text, $value, "ParameterValue", $note)
        }
    } finally {
        Remove-Item Env:%(complete_var)s, Env:COMP_WORDS, Env:COMP_WORD -ErrorAction Ignore
    }
}
"""


class PowerShellComplete(ShellComplete):
    """Asks and answers in the way that the script above expects."""

    name: ClassVar[str] = "powershell"
    source_template: ClassVar[str] = _SCRIPT

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
