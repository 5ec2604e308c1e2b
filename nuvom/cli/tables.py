"""Tables: one description, shown fitted to a width for people or tab-separated for programs.

Cells are made harmless here, so that no caller has to think of it.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from nuvom.cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nuvom.cli.streams import Stream

GAP = 2
_NARROWEST = 6


class Column(NamedTuple):
    """A column.

    Attributes:
        title: Its heading.
        right: Whether its cells are set to the right, as numbers are.
        stretch: Whether it gives way first where the table is too wide.
        keeps_end: Whether it is cut at its beginning, since a path says most at its end.
    """

    title: str
    right: bool = False
    stretch: bool = False
    keeps_end: bool = False


class Cell(NamedTuple):
    """A cell with more than its text.

    Attributes:
        full: What ``--plain`` shows in its place, such as a whole id.
    """

    text: str
    style: str = ""
    full: str | None = None


class Table(NamedTuple):
    """Columns and rows; a row has one cell for each column."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str]]


def plain_lines(table: Table) -> Iterator[str]:
    """Yield a heading and the rows, tab-separated, nothing cut."""
    yield "\t".join(column.title.lower().replace(" ", "_") for column in table.columns)
    for row in table.rows:
        yield "\t".join(_full(cell) for cell in row)


def fitted_lines(table: Table, stream: Stream) -> Iterator[str]:
    """Yield a heading, a rule and the rows, no wider than the stream."""
    cells = [[_cell(cell) for cell in row] for row in table.rows]
    widths = _widths(table.columns, cells, stream.width)
    titles = [Cell(column.title, "bold") for column in table.columns]
    yield _line(titles, table.columns, widths, stream)
    yield stream.paint((" " * GAP).join(stream.symbol("─", "-") * width for width in widths), "dim")
    for row in cells:
        yield _line(row, table.columns, widths, stream)


def display_width(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def cut(text: str, width: int, ellipsis: str) -> str:
    """Return ``text`` in at most ``width`` columns, with ``ellipsis`` where it was cut."""
    if display_width(text) <= width:
        return text
    room = width - len(ellipsis)
    kept, used = [], 0
    for char in text:
        used += _char_width(char)
        if used > room:
            break
        kept.append(char)
    return ("".join(kept) + ellipsis)[: max(width, 0)]


def cut_head(text: str, width: int, ellipsis: str) -> str:
    """Return the end of ``text`` in at most ``width`` columns, as ``cut`` does its beginning."""
    return cut(text[::-1], width, ellipsis)[::-1]


def _cell(cell: Cell | str) -> Cell:
    given = Cell(cell) if isinstance(cell, str) else cell
    return given._replace(text=one_line(given.text))


def _full(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return one_line(cell)
    return one_line(cell.text if cell.full is None else cell.full)


def _char_width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _widths(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], width: int) -> list[int]:
    widths = [display_width(column.title) for column in columns]
    for row in rows:
        widths = [max(old, display_width(cell.text)) for old, cell in zip(widths, row, strict=True)]
    # Only what is cut is lost, so the widest column that may give way does, step by step.
    for stretch_only in (True, False):
        while sum(widths) + GAP * (len(widths) - 1) > width:
            candidates = [
                index
                for index, column in enumerate(columns)
                if widths[index] > _NARROWEST and (column.stretch or not stretch_only)
            ]
            if not candidates:
                break
            widths[max(candidates, key=widths.__getitem__)] -= 1
    return widths


def _line(
    cells: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int], stream: Stream
) -> str:
    parts = []
    last = len(cells) - 1
    for index, (cell, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        shorten = cut_head if column.keeps_end else cut
        text = shorten(cell.text, width, stream.symbol("…", "."))
        padding = " " * (width - display_width(text))
        painted = stream.paint(text, cell.style)
        if column.right:
            parts.append(padding + painted)
        else:
            parts.append(painted if index == last else painted + padding)
    return (" " * GAP).join(parts).rstrip()
