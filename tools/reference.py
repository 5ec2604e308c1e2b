"""Writes the reference pages from the code: commands, errors, and the table of settings.

``python -m tools.reference`` writes the pages of this checkout, ``--check`` only says whether
they are as they should be. Run it after every change of a command, an error or a setting.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nuvom.cli import exit_codes
from nuvom.cli.cli import ERROR_SCHEMA, SECTIONS, cli
from nuvom.cli.commands.errors import error_entries
from nuvom.cli.context import CommonOption, Group
from nuvom.config.settings import SETTINGS, WORKER_START, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuvom.cli.commands.errors import ErrorEntry
    from nuvom.config.settings import Setting

DOCS = Path(__file__).resolve().parent.parent / "docs"

MEANINGS: dict[int, str] = {
    exit_codes.OK: "success",
    exit_codes.FAILED: "the job ended FAILED, DEAD or CANCELLED; or an unexpected error",
    exit_codes.USAGE: "the command was not called as its help says",
    exit_codes.NOT_FOUND: "not found or ambiguous: a job, task, queue, worker, plugin or failure",
    exit_codes.CONFIG: "the configuration, the manifest, a plugin or a value cannot be used",
    exit_codes.BACKEND: "the store cannot be reached, is locked or full",
    exit_codes.TIMED_OUT: "timed out waiting; the job is untouched",
    exit_codes.CHECK_FAILED: "a check failed: discover --check, doctor, config check, plugin test; "
    "or copy, export or import left out a job",
    exit_codes.REFUSED: "refused: it needs --yes, or is not allowed here",
    exit_codes.INTERRUPTED: "ended by Ctrl-C (SIGINT)",
    exit_codes.TERMINATED: "ended by SIGTERM",
}
_HEAD = """\
# Command line

This page is made from the commands: `python -m tools.reference` writes it, and a test
compares it with the code.

- Standard output carries data, standard error everything else.
- Every command takes the [common options](#common-options), before or after its name.
- An ID may be cut down to its last six or more characters.
- Commands that only show something run none of your code and make no file.
- Commands that take long show on standard error how far they are: a bar on a terminal, elsewhere a
  line every 10 s. With `--quiet` and `--json` they do not.
"""
_JSON = """\
With `--json` the answer is one object with a `schema`, such as `nuvom.jobs/1`: new keys may come
at any time, other changes make a new number. An error is an object of the schema
`nuvom.error/1`, on standard output too. Times are RFC 3339 in UTC, durations are seconds, whole
numbers beyond 2^53 are text under a key that ends in `_str`.
"""


_TABLE_BEGIN = "<!-- settings: generated from nuvom/config/settings.py -->"
_TABLE_END = "<!-- end of settings -->"

_ERRORS_HEAD = f"""\
# Errors

This page is made from `nuvom/errors.py`: `python -m tools.reference` writes it, and a test
compares it with the code. `nuvom explain JobTimeout` shows one entry.

Every error of Nuvom derives from `nuvom.NuvomError` and can be imported from `nuvom`. Its text
says what happened and why, then what to do; words in braces below are filled in. On the command
line each leads to an exit code; with `--json` it is an object of the schema `{ERROR_SCHEMA}`.
"""


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD, "## Common options\n", _options(_common()), _JSON, _exit_codes()]
    for title, section in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name, entry in section.items():
            parts += _command(f"nuvom {name}", entry.load())
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
    return "N" if isinstance(option.type, click.types.IntParamType) else option.type.name.upper()


# ---- errors -----------------------------------------------------------------------------


def errors_page() -> str:
    """Return the whole page."""
    entries = list(error_entries())
    rows = [
        f"| {'· ' * one.depth}[{one.name}](#{one.name.lower()}) | {one.exit} | {one.meaning} |"
        for one in entries
        if one.says
    ]
    table = "\n".join(["| Error | Exit | Meaning |", "|---|---|---|", *rows])
    return "\n".join([_ERRORS_HEAD, f"{table}\n", *map(_section, entries)])


def _section(entry: ErrorEntry) -> str:
    lines = [f"## {entry.name}\n", f"{entry.meaning}\n"]
    if entry.bases:
        lines.append(f"- Is a: {', '.join(f'`{base}`' for base in entry.bases)}")
    if entry.says:
        lines.append(f"- Says: {_quoted(entry.says)}")
    lines.append(f"- Fix: {_quoted(entry.fix)}")
    lines.append(f"- Exit code: {entry.exit}\n")
    return "\n".join(lines)


def _quoted(template: str) -> str:
    # Some hold code of their own, so the quotes are plain ones.
    return template.replace("|", "\\|")


# ---- settings ---------------------------------------------------------------------------


def configuration_page() -> str:
    """Return the page about the configuration with its table up to date.

    Raises: ValueError: the page lacks a marker.
    """
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    before, after = text.index(_TABLE_BEGIN) + len(_TABLE_BEGIN), text.index(_TABLE_END)
    rows = ["| Setting | Default | Values | Meaning |", "|---|---|---|---|"]
    rows += [_setting(setting) for setting in SETTINGS.values()]
    return "\n".join([text[:before], *rows, text[after:]])


def _setting(setting: Setting) -> str:
    default = setting.absent if setting.default is None else f"`{show(setting.default)}`"
    mark = " (W)" if setting.read == WORKER_START else ""
    return f"| `{setting.name}`{mark} | {default} | {_values(setting)} | {setting.meaning} |"


def _values(setting: Setting) -> str:
    if setting.secret:
        return "text, secret"
    if setting.base is bool or setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices or ("true", "false"))
    if setting.bounds:
        return f"{setting.range(' to ')} {setting.unit}".rstrip()
    return "a backend's name" if setting.kind == "name" else setting.kind


# ---- all pages --------------------------------------------------------------------------


def pages() -> dict[Path, str]:
    """Return the text of each generated page."""
    return {
        DOCS / "cli.md": page(),
        DOCS / "errors.md": errors_page(),
        DOCS / "configuration.md": configuration_page(),
    }


def main(args: list[str]) -> int:
    """Write the pages, or with ``--check`` compare them; return the exit code."""
    for path, text in pages().items():
        if args != ["--check"]:
            path.write_text(text, encoding="utf-8", newline="\n")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{path} is stale. Run: python -m tools.reference\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
