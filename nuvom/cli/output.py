"""What a command says: data on standard output, everything else on standard error.

A command describes its answer once, as data and as a table; the options ``--json``,
``--plain``, ``-q`` and ``--color`` decide here how it is shown.
"""

from __future__ import annotations

import json
import sys
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from nuvom.cli.jsonable import jsonable
from nuvom.cli.streams import Stream
from nuvom.cli.tables import Table, fitted_lines, plain_lines
from nuvom.cli.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Output:
    """Shows the answer and the messages of one command.

    Attributes:
        as_json, plain, quiet, verbosity, color: What the options of the same meaning said.
    """

    def __init__(self) -> None:
        self.as_json = False
        self.plain = False
        self.quiet = False
        self.verbosity = 0
        self._color = "auto"
        self._streams: tuple[Stream, Stream] | None = None

    @property
    def color(self) -> str:
        """``auto``, ``always`` or ``never``."""
        return self._color

    @color.setter
    def color(self, value: str) -> None:
        self._color = value
        self._streams = None

    @property
    def out(self) -> Stream:
        """Standard output."""
        return self._both()[0]

    @property
    def err(self) -> Stream:
        """Standard error."""
        return self._both()[1]

    def _both(self) -> tuple[Stream, Stream]:
        if self._streams is None:
            self._streams = (Stream(sys.stdout, self._color), Stream(sys.stderr, self._color))
        return self._streams

    # ---- data ---------------------------------------------------------------------------

    def json(self, schema: str, data: Mapping[str, Any]) -> None:
        """Write one JSON object; ASCII alone, so that no encoding can spoil it."""
        indent = 2 if self.out.is_terminal else None
        whole = {"schema": schema, **jsonable(data)}
        self.out.line(json.dumps(whole, indent=indent, ensure_ascii=True, allow_nan=False))

    def json_line(self, schema: str, data: Mapping[str, Any]) -> None:
        """Write one line of a stream of JSON objects, at once."""
        self.out.line(json.dumps({"schema": schema, **jsonable(data)}, allow_nan=False))
        self.out.raw.flush()

    def table(self, table: Table, *, empty: str = "") -> None:
        """Write a table; where it has no rows, say ``empty`` on standard error."""
        if self.plain:
            self.lines(plain_lines(table))
        elif table.rows:
            self.lines(fitted_lines(table, self.out))
        elif empty:
            self.say(empty)

    def lines(self, lines: Iterable[str]) -> None:
        """Write lines that are known to be harmless."""
        for line in lines:
            self.out.line(line)

    def text(self, text: str) -> None:
        """Write text of unknown origin, made harmless."""
        self.out.line(clean(text))

    def beside(self, indent: int, text: str, style: str = "") -> str:
        """Return text of unknown origin, to follow ``indent`` columns on standard output.

        It is made harmless, and broken between words on a terminal.
        """
        return self.out.paint(_beside(self.out, indent, clean(text)), style)

    # ---- messages -----------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Write a message, unless ``-q``."""
        if not self.quiet:
            self.err.line(clean(text))

    def warn(self, text: str) -> None:
        """Write a warning, unless ``-q``."""
        if not self.quiet:
            self._labelled("Warning:", "yellow", text)

    def hint(self, text: str) -> None:
        """Write what one may do next, where a person is looking."""
        if not self.quiet and not self.as_json and self.err.is_terminal:
            self.err.line(self.err.paint(clean(text), "dim"))

    def error(self, lines: Iterable[tuple[str, str]]) -> None:
        """Write an error: pairs of a label and a text, the first being what happened."""
        style = "bold red"
        for label, text in lines:
            self._labelled(f"{label}:".ljust(6), style, text)
            style = "bold"

    def _labelled(self, label: str, style: str, text: str) -> None:
        """Write a label and a text beside it, broken between words on a terminal."""
        body = _beside(self.err, len(label) + 1, clean(text))
        self.err.line(f"{self.err.paint(label, style)} {body}")


def _beside(stream: Stream, indent: int, text: str) -> str:
    """Return text to follow a heading of ``indent`` columns, broken to fit a terminal."""
    width = max(20, stream.width - indent) if stream.is_terminal else 0
    lines = [part for line in text.split("\n") for part in _broken(line, width)]
    return f"\n{' ' * indent}".join(lines)


def _broken(line: str, width: int) -> list[str]:
    if not width:
        return [line]
    # Paths and ids stay whole, so that they can be copied.
    return wrap(line, width, break_long_words=False, break_on_hyphens=False) or [line]
