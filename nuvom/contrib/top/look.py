"""The colours of the whole view, and how a table's cells are drawn in them.

The tokens are those of the dashboard. A state is told by its mark and word first, by colour last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.segment import Segment
from rich.style import Style
from rich.table import Table as Grid
from rich.text import Text
from textual.strip import Strip
from textual.theme import Theme

from nuvom.cli.output import Cell, clean, one_line
from nuvom.contrib.top import tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nuvom.cli.output import Table

_GAP = 2  # columns between two columns of a table
_LEAST_WIDE = 14  # for the column that takes what room is left
_MOST_WIDE = 44  # for any other
_LABEL = 10
_ELLIPSIS = "…"


class Look(NamedTuple):
    """The colours of one theme."""

    bg: str
    surface: str
    sunk: str
    line: str
    ink: str
    ink_2: str
    ink_3: str
    accent: str
    tint: str
    red: str
    amber: str
    green: str

    def style(self, word: str, bg: str = "") -> Style:
        """Return the style that a cell's word stands for."""
        colors = {
            tables.ACCENT: self.accent,
            tables.RED: self.red,
            tables.AMBER: self.amber,
            tables.GREEN: self.green,
            tables.QUIET: self.ink_3,
        }
        is_strong = word == tables.STRONG
        return Style(color=colors.get(word, self.ink), bgcolor=bg or self.bg, bold=is_strong)


LOOKS = {
    "dark": Look(
        *("#0e0f11", "#151619", "#1d1f23", "#282a2f"),
        *("#ebebe8", "#abafb7", "#8c9099"),
        *("#95a6ff", "#1e2340", "#ff8480", "#e3b154", "#66c48d"),
    ),
    "light": Look(
        *("#fafaf8", "#ffffff", "#f2f2ef", "#e5e5e1"),
        *("#191b1f", "#52565e", "#686c74"),
        *("#3049cf", "#eceffc", "#b9252b", "#8a5600", "#1c7547"),
    ),
}


def theme(name: str) -> Theme:
    """Return a look as a theme of textual."""
    look = LOOKS[name]
    return Theme(
        name=name,
        dark=name == "dark",
        primary=look.accent,
        secondary=look.ink_2,
        accent=look.accent,
        foreground=look.ink,
        background=look.bg,
        surface=look.surface,
        panel=look.sunk,
        error=look.red,
        warning=look.amber,
        success=look.green,
        variables={
            **{field.replace("_", "-"): value for field, value in look._asdict().items()},
            "block-cursor-background": look.tint,
            "block-cursor-foreground": look.ink,
            "input-cursor-background": look.ink,
            "input-selection-background": look.tint,
            "scrollbar": look.line,
            "scrollbar-background": look.bg,
            "scrollbar-hover": look.ink_3,
            "scrollbar-active": look.ink_3,
            "scrollbar-background-hover": look.bg,
            "scrollbar-background-active": look.bg,
        },
    )


# ---- tables -----------------------------------------------------------------------------


class Layout(NamedTuple):
    """Which columns of a table are shown, and how wide each is."""

    places: Sequence[int]
    widths: Sequence[int]


def layout(table: Table, wide: str, width: int) -> Layout:
    """Fit a table into ``width``: leave columns out, then give the ``wide`` one the rest."""
    natural = [
        min(_MOST_WIDE, max([_title_len(title), *(_len(row[place]) for row in table.rows)]))
        for place, title in enumerate(table.columns)
    ]
    wide_at = list(table.columns).index(wide)
    natural[wide_at] = min(natural[wide_at], _LEAST_WIDE)
    shown = [
        place
        for place, title in enumerate(table.columns)
        if title not in table.optional or any(_len(row[place]) for row in table.rows)
    ]
    for title in table.spared:
        place = list(table.columns).index(title)
        if place in shown and _total(natural, shown) > width:
            shown.remove(place)
    rest = max(0, width - _total(natural, shown))
    widths = [natural[place] + (rest if place == wide_at else 0) for place in shown]
    return Layout(shown, widths)


def _title_len(title: str) -> int:
    return cell_len(title) + (title != "")  # with room for the arrow of the sorted one


def _total(natural: Sequence[int], shown: Sequence[int]) -> int:
    return sum(natural[place] + (_GAP if natural[place] > 1 else 1) for place in shown)


def _len(cell: Cell | str) -> int:
    return cell_len(one_line(cell if isinstance(cell, str) else cell.text))


def cut(text: str, width: int) -> str:
    """Return ``text`` in exactly ``width`` columns, cut with an ellipsis if it is longer."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, max(0, width - 1)) + _ELLIPSIS[: max(0, width)]


def row_strip(
    cells: Sequence[Cell | str], table: Table, fit: Layout, styles: Iterable[Style]
) -> Strip:
    """Return a row of a table in one style for each cell."""
    segments = []
    for (place, width), style in zip(zip(*fit, strict=True), styles, strict=True):
        cell = cells[place]
        text = one_line(cell if isinstance(cell, str) else cell.text)
        if table.columns[place] in table.right and cell_len(text) < width:
            text = " " * (width - cell_len(text)) + text
        segments.append(Segment(cut(text, width), style))
        gap = _GAP if width > 1 else 1
        segments.append(Segment(" " * gap, Style(bgcolor=style.bgcolor)))
    return Strip(segments)


# ---- texts ------------------------------------------------------------------------------


def line_of(pieces: Iterable[tables.Piece], look: Look, back: str) -> Text:
    """Return pieces as one line that is cut where there is no more room."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for piece in pieces:
        text.append(clean(piece.text).replace("\n", " "), look.style(piece.style, back))
    return text


def facts_drawing(facts: Iterable[tables.DetailLine], look: Look) -> Group:
    """Return the lines of a detail view; a long text goes on below itself."""
    parts: list[Text | Grid] = []
    for label, value, style in facts:
        text = Text(clean(value).rstrip(), look.style(style), overflow="fold")
        if not value:
            parts.append(Text(f"\n{one_line(label)}", Style(color=look.ink, bold=True)))
        elif not label:
            parts.append(text)
        else:
            grid = parts[-1] if parts else None
            if not isinstance(grid, Grid):
                grid = Grid.grid(padding=(0, 2, 0, 0))
                grid.add_column(min_width=_LABEL, no_wrap=True)
                grid.add_column(ratio=1)
                parts.append(grid)
            grid.add_row(Text(one_line(label), Style(color=look.ink_3)), text)
    return Group(*parts)
