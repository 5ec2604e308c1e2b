"""Writes a command's output: data to standard output, everything else to standard error.

A command describes its answer once, as data and as a table. This module shows it according to the
options ``--json``, ``--plain``, ``-q`` and ``--color``. It sanitizes everything that comes from a
store (names, arguments, errors of tasks) before a terminal sees it.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.inspection.formats import jsonable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nuvom.core.clock import Clock
    from nuvom.logs.progress import ProgressDisplay

PIPE_WIDTH = 1_000_000  # who reads a pipe can scroll or cut; nothing is lost on the way
_USUAL_WIDTH = 80
_FOLDED_WIDTH = 24  # enough for a column that wraps
# Whole escape sequences first (CSI, OSC up to its end, two-character ones), then the rest.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
# Control characters except tab and newline, direction overrides, line separators, surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SPACES = re.compile(r"\s+")
# ---- text -------------------------------------------------------------------------------


def clean(text: str) -> str:
    """Return ``text`` without escape sequences and control characters; newlines stay."""
    return _CONTROL.sub("", _ANSI.sub("", text)).expandtabs(4)


def one_line(text: str) -> str:
    """Return ``clean(text)`` with each run of white space as one space."""
    return _SPACES.sub(" ", clean(text)).strip()


def quoted(path: object) -> str:
    """Return a path that can be pasted into a shell, quoted if needed."""
    text = clean(str(path))
    if sys.platform == "win32":
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)


# ---- streams ----------------------------------------------------------------------------


class Stream:
    """A text stream with what is known about its reader.

    Each stream decides for itself: output may go to a terminal while messages go to a file.

    Attributes:
        is_terminal: Whether a person is watching.
        has_unicode: Whether it can show box drawing and other symbols.
        has_color: Whether to use colour.
    """

    def __init__(
        self, stream: TextIO, color: str = "auto", environ: Mapping[str, str] = os.environ
    ) -> None:
        self.raw = stream
        try:
            self.is_terminal = stream.isatty()
        except (ValueError, AttributeError):  # closed, or absent (pythonw)
            self.is_terminal = False
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
        self.has_unicode = encoding in {"utf8", "cp65001"}
        self.has_color = color == "always" or (color == "auto" and self._takes_color(environ))

    def _takes_color(self, environ: Mapping[str, str]) -> bool:
        if environ.get("NO_COLOR"):
            return False
        names = ("FORCE_COLOR", "CLICOLOR_FORCE")
        is_forced = any(environ.get(name, "0") not in {"", "0"} for name in names)
        return is_forced or (self.is_terminal and environ.get("TERM") != "dumb")

    @property
    def width(self) -> int:
        """The terminal's width in columns, or as good as no limit if there is none."""
        if not self.is_terminal:
            return PIPE_WIDTH
        try:
            columns = os.get_terminal_size(self.raw.fileno()).columns
        except (OSError, ValueError, AttributeError):  # a terminal that does not know its size
            columns = 0
        return max(20, columns or _USUAL_WIDTH)

    def paint(self, text: str, style: str = "") -> str:
        """Return ``text`` in a style such as ``"bold red"``; unchanged without colour."""
        words = style.split()
        if not words or not self.has_color:
            return text
        color = next((word for word in words if word not in {"bold", "dim"}), None)
        return click.style(text, color, bold="bold" in words or None, dim="dim" in words or None)

    def line(self, text: str = "") -> None:
        """Write one line."""
        click.echo(text, file=self.raw, color=self.has_color)


def never_raise_over_characters() -> None:
    """Make standard output and error escape the characters that they cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


# ---- tables -----------------------------------------------------------------------------


class Cell(NamedTuple):
    """A table cell with more than its text.

    Attributes:
        full: What ``--plain`` shows instead, such as a whole id.
    """

    text: str
    style: str = ""
    full: str | None = None


class Table(NamedTuple):
    """Column titles, and rows with one cell per column.

    Attributes:
        right: Titles of columns that are right-aligned, like numbers, and never cut.
        folded: Titles of columns that wrap to the next line where others are cut.
        optional: Titles of columns that people are spared if all their cells are empty.
        spared: Titles of columns to leave out, one after the other, where there is no room for all.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    right: Sequence[str] = ()
    folded: Sequence[str] = ()
    optional: Sequence[str] = ()
    spared: Sequence[str] = ()

    def plain_lines(self) -> Iterator[str]:
        """Yield the titles and the rows, tab-separated and uncut."""
        yield "\t".join(title.lower().replace(" ", "_") for title in self.columns)
        for row in map(self._cells, self.rows):
            yield "\t".join(one_line(cell.text if cell.full is None else cell.full) for cell in row)

    def fitted_lines(self, stream: Stream) -> list[str]:
        """Return the titles, a rule and the rows, no wider than the stream."""
        import rich.box  # noqa: PLC0415  # only where something is drawn
        from rich.console import Console  # noqa: PLC0415  # likewise
        from rich.table import Table as Drawing  # noqa: PLC0415  # likewise
        from rich.text import Text  # noqa: PLC0415  # likewise

        box = rich.box.SIMPLE_HEAD if stream.has_unicode else None
        padding = (0, 1 if box else 2, 0, 0)  # a box adds one column
        drawing = Drawing(
            box=box, padding=padding, show_edge=False, pad_edge=False, border_style="dim"
        )
        for title in self.columns:
            is_right = title in self.right
            drawing.add_column(title, justify="right" if is_right else "left", no_wrap=is_right)
        # A column that may be cut must not be marked ``no_wrap``: then it would never shrink.
        cut: Any = "ellipsis" if stream.has_unicode else "crop"
        cuts = {title: {"overflow": cut, "no_wrap": True} for title in self.columns}
        cuts.update({title: {"overflow": "fold"} for title in self.folded})
        for row in map(self._cells, self.rows):
            texts = zip(cuts.values(), row, strict=True)
            drawing.add_row(
                *(Text(one_line(cell.text), cell.style, **options) for options, cell in texts)
            )
        paper = io.StringIO()
        console = Console(
            file=paper,
            width=stream.width,
            height=25,  # with both set, rich does not query the environment
            force_terminal=stream.has_color,
            color_system="standard" if stream.has_color else None,
            no_color=not stream.has_color,
            legacy_windows=False,
        )
        console.print(drawing)
        return [line.rstrip() for line in paper.getvalue().splitlines()]

    def for_people(self, width: int) -> Table:
        """Return the table without optional columns that are empty, or that are too wide."""
        columns = zip(*map(self._cells, self.rows), strict=True)
        wide = {
            title: max(len(one_line(cell.text)) for cell in column)
            for title, column in zip(self.columns, columns, strict=True)
        }
        shown = [title for title in self.columns if title not in self.optional or wide[title]]
        for title in self.spared:
            needed = sum(self._needs(one, wide[one]) for one in shown)
            if needed > width and title in shown:
                shown.remove(title)
        places = [self.columns.index(title) for title in shown]
        rows = [[row[place] for place in places] for row in self.rows]
        return self._replace(columns=shown, rows=rows)

    def _needs(self, title: str, wide: int) -> int:
        least = min(wide, _FOLDED_WIDTH) if title in self.folded else wide
        return max(len(title), least) + 2

    @staticmethod
    def _cells(row: Sequence[Cell | str]) -> list[Cell]:
        return [Cell(cell) if isinstance(cell, str) else cell for cell in row]


# ---- the answer and the messages of one command -----------------------------------------


class Output:
    """Shows the answer and the messages of one command.

    Attributes:
        as_json, plain, no_header, quiet, verbosity, color: The values of the corresponding options.
    """

    def __init__(self) -> None:
        self.as_json = self.plain = self.no_header = self.quiet = False
        self.verbosity = 0
        self.color = "auto"
        self._progress: ProgressDisplay | None = None

    @property
    def out(self) -> Stream:
        """Standard output."""
        self._hide_progress()
        return Stream(sys.stdout, self.color)

    @property
    def err(self) -> Stream:
        """Standard error."""
        self._hide_progress()
        return Stream(sys.stderr, self.color)

    def progress(
        self, label: str, unit: str = "", total: float | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> ProgressDisplay:
        """Return what shows how far long work is, on standard error.

        It shows nothing with ``-q`` and ``--json``.
        """
        is_silent = self.quiet or self.as_json
        color = None if self.color == "auto" else self.err.has_color
        stream = None if is_silent else sys.stderr
        # Not at the top: help shows none, and the module needs ``logging``.
        make: type[ProgressDisplay] = import_module("nuvom.logs.progress").ProgressDisplay
        self._progress = make(label, unit, total, stream=stream, color=color, clock=clock)
        return self._progress

    def _hide_progress(self) -> None:
        """Take the bar away before something else is written to the terminal."""
        if self._progress is not None:
            self._progress.hide()

    def json(self, schema: str, data: Mapping[str, Any], *, one_line: bool = False) -> None:
        """Write one JSON object, in ASCII only, so that no encoding can corrupt it."""
        indent = 2 if self.out.is_terminal and not one_line else None
        whole = {"schema": schema, **jsonable(data)}
        self.out.line(json.dumps(whole, indent=indent, ensure_ascii=True, allow_nan=False))

    def answer(
        self, schema: str, data: Mapping[str, Any], shown: Table | str, *, empty: str = ""
    ) -> None:
        """Write ``data`` if ``--json`` was given, else the table or text for people."""
        if self.as_json:
            self.json(schema, data)
        elif isinstance(shown, Table):
            self.table(shown, empty=empty)
        else:
            self.text(shown)

    def table(self, table: Table, *, empty: str = "") -> None:
        """Write a table; if it has no rows, write ``empty`` to standard error."""
        if self.plain:
            self.lines(islice(table.plain_lines(), int(self.no_header), None))
        elif table.rows:
            self.lines(table.for_people(self.out.width).fitted_lines(self.out))
        elif empty:
            self.say(empty)

    def lines(self, lines: Iterable[str]) -> None:
        """Write lines that are known to be safe."""
        out = self.out
        for line in lines:
            out.line(line)

    def text(self, text: str, style: str = "") -> None:
        """Write text of unknown origin, sanitized, in a style such as ``"bold red"``."""
        self.out.line(self.out.paint(clean(text), style))

    def fields(self, fields: Mapping[str, str]) -> None:
        """Write one line for each label and text of unknown origin, unless the text is empty."""
        wide = max(map(len, fields))
        for label, text in fields.items():
            if text:
                self.out.line(f"  {self.out.paint(label.ljust(wide), 'dim')} {one_line(text)}")

    def say(self, text: str) -> None:
        """Write a message, unless ``-q``."""
        if not self.quiet:
            self.err.line(clean(text))

    def warn(self, text: str) -> None:
        """Write a warning, unless ``-q``."""
        if not self.quiet:
            self._labelled("Warning:", "yellow", text)

    def hint(self, text: str) -> None:
        """Write what the user can do next, if a person is watching."""
        if not self.quiet and not self.as_json and self.err.is_terminal:
            self.err.line(self.err.paint(clean(text), "dim"))

    def error(self, what: str, fix: str = "", **more: str) -> None:
        """Write an error: what happened, how to fix it, and further labelled details."""
        self._labelled("Error:", "bold red", what)
        for label, text in {"fix": fix, **more}.items():
            if text:
                self._labelled(f"{label.capitalize()}:".ljust(6), "bold", text)

    def _labelled(self, label: str, style: str, text: str) -> None:
        err = self.err
        err.line(f"{err.paint(label, style)} {clean(text)}")
