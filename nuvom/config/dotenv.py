"""Reads the ``NUVOM_*`` lines of a ``.env`` file. Text in, entries out; nothing else.

The file is data: no variable is expanded, no command run, no other variable set. Lines of
other tools are skipped, with values that go over several lines. ``config_sources.py`` calls it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from nuvom.errors import InvalidConfigFile

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "NUVOM_"

_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][\w.-]*)\s*(?P<assigned>=(?P<rest>.*))?")
_COMMENT = re.compile(r"\s#.*")
_TAIL = re.compile(r"\s*(?:#.*)?")
# Up to the closing quote. Within double quotes a backslash protects a quote or a backslash and
# stands for itself elsewhere (Windows paths). No text matches in two ways: linear time.
_CLOSED = {
    "'": re.compile(r"'([^']*)'"),
    '"': re.compile(r'"((?:[^"\\]|\\[\\"]|\\(?![\\"]))*)"'),
}
_PROTECTED = re.compile(r'\\([\\"])')


class Entry(NamedTuple):
    """One ``NUVOM_*`` line: the variable, its value, and the line's number from 1."""

    variable: str
    value: str
    line: int


def parse(text: str, path: Path) -> list[Entry]:
    """Return the ``NUVOM_*`` entries in the order of the file.

    Args:
        text: The file's content, without a byte order mark.
        path: Only for the error.

    Raises: InvalidConfigFile: a line is nothing that any tool could read, or a ``NUVOM_*``
        line has no ``=``, an open quote, or text after the closing quote. It names the line
        and shows nothing of it, for it may be a secret.
    """
    lines = text.split("\n")  # a CR before it is a blank like any other
    entries: list[Entry] = []
    index = 0
    while index < len(lines):
        number = index + 1
        try:
            entry, index = _read_line(lines, index)
        except ValueError as error:
            raise InvalidConfigFile(path, f"line {number}: {error}") from None
        if entry is not None:
            entries.append(entry)
    return entries


def _read_line(lines: list[str], index: int) -> tuple[Entry | None, int]:
    """Return the entry, if any, and where the next line starts."""
    line = lines[index]
    if _TAIL.fullmatch(line):
        return None, index + 1
    match = _LINE.fullmatch(line)
    if match is None:
        msg = "it is not of the form NAME=value"
        raise ValueError(msg)
    name, rest = match["name"], match["rest"]
    if not name.startswith(PREFIX):
        return None, _after_foreign(lines, index, (rest or "").lstrip())
    if rest is None:
        msg = f"{name} has no '='"
        raise ValueError(msg)
    return Entry(name, _value(rest), index + 1), index + 1


def _value(rest: str) -> str:
    text = rest.strip()
    if not text.startswith(("'", '"')):
        return _COMMENT.sub("", rest, count=1).strip()
    match = _CLOSED[text[0]].match(text)
    if match is None:
        msg = "the quote is not closed on this line"
        raise ValueError(msg)
    if not _TAIL.fullmatch(text, match.end()):
        msg = "there is text after the closing quote"
        raise ValueError(msg)
    return match[1] if text[0] == "'" else _PROTECTED.sub(r"\1", match[1])


def _after_foreign(lines: list[str], index: int, rest: str) -> int:
    """Return where the line after another tool's value starts."""
    if not rest.startswith(("'", '"')) or _CLOSED[rest[0]].match(rest):
        return index + 1
    for following in range(index + 1, len(lines)):
        # The part of a closed value that lies on its last line looks like a value of its own.
        match = _CLOSED[rest[0]].match(rest[0] + lines[following])
        if match is not None:
            if _TAIL.fullmatch(rest[0] + lines[following], match.end()):
                return following + 1
            break
    msg = "the quote is never closed, so what follows cannot be told apart"
    raise ValueError(msg)
