"""Writes ``docs/cli.md`` and ``docs/errors.md`` from the code itself, and compares them.

``python -m nuvom.cli.reference`` writes the pages of this checkout, ``--check`` only says whether
they are as they should be. Run it after every change of a command or an error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nuvom.cli.base import CommonOption, Group, load
from nuvom.cli.cli import SECTIONS, cli
from nuvom.cli.error_reference import errors_page
from nuvom.cli.exit_codes import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"

_HEAD = """\
# Command line

This page is made from the commands: `python -m nuvom.cli.reference` writes it, and a test
compares it with the code.

- Standard output carries data, standard error everything else.
- Every command takes the [common options](#common-options), before or after its name.
- An ID may be cut down to its last six or more characters.
- Commands that only show something run none of your code and make no file.
"""
_JSON = """\
With `--json` the answer is one object with a `schema`, such as `nuvom.jobs/1`: new keys may come
at any time, other changes make a new number. An error is an object of the schema
`nuvom.error/1`, on standard output too. Times are RFC 3339 in UTC, durations are seconds, whole
numbers beyond 2^53 are text under a key that ends in `_str`.
"""


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD, "## Common options\n", _options(_common()), _JSON, _exit_codes()]
    for title, section in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name, entry in section.items():
            parts += _command(f"nuvom {name}", load(entry))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _common() -> list[click.Parameter]:
    return [param for param in cli.params if isinstance(param, CommonOption)]


def _exit_codes() -> str:
    rows = [f"| {code} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["## Exit codes\n", "| Code | Meaning |", "|---|---|", *rows])


def _command(path: str, command: click.Command) -> Iterator[str]:
    if isinstance(command, Group):
        yield f"### {path}\n"
        yield _text(command.help)
        if command.default is not None:
            yield f"Without a command: `{path} {command.default}`."
        for name, part in command.commands.items():
            yield from _command(f"{path} {name}", part)
        return
    level = "###" if path.count(" ") == 1 else "####"
    yield f"{level} {path}\n"
    yield f"```\n{_usage(path, command)}\n```"
    yield _text(command.help)
    own = [
        param
        for param in command.params
        if isinstance(param, click.Option)
        and not isinstance(param, CommonOption)
        and not param.hidden
    ]
    if own:
        yield _options(own)


def _usage(path: str, command: click.Command) -> str:
    ctx = click.Context(command, info_name=path)
    return " ".join([path, *command.collect_usage_pieces(ctx)])


def _text(text: str | None) -> str:
    paragraphs = (text or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _options(options: Sequence[click.Parameter]) -> str:
    rows = ["| Option | Meaning |", "|---|---|"]
    for option in options:
        if isinstance(option, click.Option):
            names = ", ".join(sorted(option.opts, key=len))
            words = " ".join(filter(None, (names, _metavar(option)))).replace("|", "\\|")
            rows.append(f"| `{words}` | {option.help} |")
    return "\n".join(rows)


def _metavar(option: click.Option) -> str:
    # Not click's own: it words these differently from version to version.
    if option.is_flag or option.count:
        return ""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return "N" if isinstance(option.type, click.types.IntParamType) else "TEXT"


def pages() -> dict[Path, str]:
    """Return the text of each generated page."""
    return {DOCS / "cli.md": page(), DOCS / "errors.md": errors_page()}


def main(args: list[str]) -> int:
    """Write the pages, or with ``--check`` compare them; return the exit code."""
    for path, text in pages().items():
        if args != ["--check"]:
            path.write_text(text, encoding="utf-8", newline="\n")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{path} is stale. Run: python -m nuvom.cli.reference\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
