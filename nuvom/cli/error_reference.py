"""The text of ``docs/errors.md``, made from the error tree; ``reference.py`` writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.cli.ending import ERROR_SCHEMA
from nuvom.cli.exit_codes import FAILED, USAGE, exit_code_of
from nuvom.errors import NuvomError

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = f"""\
# Errors

This page is made from `nuvom/errors.py`: `python -m nuvom.cli.reference` writes it, and a test
compares it with the code.

Every error of Nuvom derives from `nuvom.NuvomError` and can be imported from `nuvom`. Its text
says what happened and why, then what to do; words in braces below are filled in. On the command
line each leads to an exit code; with `--json` it is an object of the schema `{ERROR_SCHEMA}`.
"""

_TAIL = f"""\
## Usage

Only on the command line: a command was not called as its help says.

- Fix: Read the help of the command, which the message names.
- Exit code: {USAGE}

## Unexpected

Only on the command line: something failed in a way that nobody foresaw.

- Fix: Run the command again with `--debug`, which shows where it comes from, and report it.
- Exit code: {FAILED}
"""


def errors_page() -> str:
    """Return the whole page."""
    classes = list(_tree(NuvomError))
    rows = [
        f"| {'· ' * depth}[{cls.__name__}](#{cls.__name__.lower()}) | {exit_code_of(cls)} | "
        f"{_summary(cls)} |"
        for cls, depth in classes
    ]
    table = "\n".join(["| Error | Exit | Meaning |", "|---|---|---|", *rows])
    return "\n".join([_HEAD, f"{table}\n", *(_section(cls) for cls, _ in classes), _TAIL])


def _tree(cls: type[NuvomError], depth: int = 0) -> Iterator[tuple[type[NuvomError], int]]:
    yield cls, depth
    for child in cls.__subclasses__():
        # A class with two bases stands under the first; others' subclasses are not ours.
        if child.__bases__[0] is cls and child.__module__ == NuvomError.__module__:
            yield from _tree(child, depth + 1)


def _summary(cls: type[NuvomError]) -> str:
    # ``python -OO`` removes docstrings, but nobody writes pages with it.
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")


def _section(cls: type[NuvomError]) -> str:
    lines = [f"## {cls.__name__}\n", f"{_summary(cls)}\n"]
    bases = [base.__name__ for base in cls.__bases__ if base is not Exception]
    if bases:
        lines.append(f"- Is a: {', '.join(f'`{base}`' for base in bases)}")
    lines.append(f"- Says: {_quoted(cls.message)}")
    lines.append(f"- Fix: {_quoted(cls.remedy)}")
    lines.append(f"- Exit code: {exit_code_of(cls)}\n")
    return "\n".join(lines)


def _quoted(template: str) -> str:
    # Some hold code of their own, so the quotes are plain ones.
    return template.replace("|", "\\|")
