"""The parts of the screen: lines of text, tabs, the table of rows, and dialogs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.geometry import Size
from textual.message import Message
from textual.screen import ModalScreen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Button, Static

from nuvom.cli.output import Table, one_line
from nuvom.contrib.top import tables
from nuvom.contrib.top.look import LOOKS, Layout, Look, layout, line_of, row_strip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from textual import events
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from nuvom.contrib.top.sources import Data
    from nuvom.contrib.top.tables import Piece

_GUTTER = 2
_HEAD = 1  # the line with the titles
_GAP = 2


class Line(NamedTuple):
    """A line of text: groups at the left and at the right, as many as there is room for.

    The first ones matter most; those at the right matter more.
    """

    left: Sequence[Sequence[Piece]]
    right: Sequence[Sequence[Piece]] = ()


class TextBar(Static):
    """Lines of text that are cut to the width of the screen."""

    def __init__(self, name: str) -> None:
        super().__init__(id=name, markup=False)
        self._drawing: Callable[[int], Text] = lambda _: Text()

    def show(self, lines: Sequence[Line], look: Look, back: str) -> None:
        """Draw lines, and draw them again whenever the width changes."""

        def drawing(width: int) -> Text:
            return Text("\n").join(_drawn(line, width, look, back) for line in lines)

        self._drawing = drawing
        self.on_resize()

    def on_resize(self) -> None:
        """Use the width that there is now."""
        self.update(self._drawing(max(1, self.content_size.width)))


def _drawn(line: Line, width: int, look: Look, back: str) -> Text:
    lefts, rights = ([line_of(one, look, back) for one in side if one] for side in line)
    right = _fitting(rights, width)
    left = _fitting(lefts, width - right.cell_len - (_GAP if rights else 0))
    return left.append(" " * (width - left.cell_len - right.cell_len)).append_text(right)


def _fitting(groups: Sequence[Text], width: int) -> Text:
    """Return the groups that fit; the first one is cut if it does not."""
    text = Text(no_wrap=True)
    for number, one in enumerate(groups):
        if number and text.cell_len + _GAP + one.cell_len > width:
            break
        text.append(" " * (_GAP if number else 0)).append_text(one)
    text.truncate(max(0, width), overflow="ellipsis")
    return text


class Tabs(Static):
    """The kinds of rows, with how many there are, on one line."""

    class Picked(Message):
        """Somebody clicked on a tab."""

        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind

    def __init__(self) -> None:
        super().__init__()
        self._ends: list[tuple[int, str]] = []

    def show(self, current: str, counts: Mapping[str, int], look: Look) -> None:
        """Draw the tabs; ``counts`` has the number beside each, if it is known."""
        text, self._ends = Text(no_wrap=True, end=""), []
        for number, (name, kind) in enumerate(tables.KINDS.items(), 1):
            is_current = name == current
            back = look.tint if is_current else look.bg
            count = f" {counts[name]:,}" if counts.get(name) else ""
            text.append(f" {number} ", Style(color=look.ink_3, bgcolor=back))
            ink = look.ink if is_current else look.ink_2
            text.append(kind.title, Style(color=ink, bgcolor=back, bold=is_current))
            text.append(f"{count} ", Style(color=look.ink_3, bgcolor=back))
            self._ends.append((text.cell_len, name))
        self.update(text)

    def on_click(self, event: events.Click) -> None:
        """Say which tab was clicked."""
        found = next((name for end, name in self._ends if event.x < end), None)
        if found is not None:
            self.post_message(self.Picked(found))


# ---- the table --------------------------------------------------------------------------


class ShownRows(NamedTuple):
    """What the table shows: rows in their order, the same as cells, and the order's column."""

    kind: str
    rows: Sequence[Data]
    table: Table
    sort: tables.Sort


class RowList(ScrollView, can_focus=True, inherit_bindings=False):
    """A table with a cursor and marks, which belong to rows by their key and not by their place.

    Attributes:
        cursor: The key of the chosen row, or None.
        marks: The marked rows by key, as they were last seen.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, action, show=False)
        for key, action in {
            "up": "move(-1)",
            "down": "move(1)",
            "pageup": "page(-1)",
            "pagedown": "page(1)",
            "home": "move(-1000000)",
            "end": "move(1000000)",
        }.items()
    ]

    class Moved(Message):
        """The cursor is on another row."""

    class Opened(Message):
        """The row of the cursor was clicked again."""

    def __init__(self) -> None:
        super().__init__()
        self.cursor: str | None = None
        self.marks: dict[str, Data] = {}
        self._shown: ShownRows | None = None
        self._places: dict[str, int] = {}
        self._fit = Layout((), ())
        self._empty = ""

    # ---- rows ---------------------------------------------------------------------------

    def show(self, shown: ShownRows, empty: str = "") -> None:
        """Show rows; the row of the cursor stays on its line of the screen."""
        kind = tables.KINDS[shown.kind]
        is_other = self._shown is None or self._shown.kind != shown.kind
        if is_other:
            self.clear()
        before = self._place
        self._shown, self._empty = shown, empty or kind.empty
        self._places = {one[kind.key]: place for place, one in enumerate(shown.rows)}
        self.marks = {key: self.row(key) or one for key, one in self.marks.items()}
        self._fit_again()
        self._follow(before)

    def _follow(self, before: int | None) -> None:
        """Keep the cursor on its row or, where that is gone, on its line."""
        if before is None or self._shown is None:
            return
        after = self._place
        if after is None:
            rows = self._shown.rows
            self._choose(min(before, len(rows) - 1) if rows else None)
        elif after != before:
            self.scroll_to(y=max(0, self.scroll_offset.y + after - before), animate=False)

    def clear(self) -> None:
        """Show nothing, until rows of another kind are there."""
        self._shown, self._places = None, {}
        self.cursor, self.marks = None, {}
        self.scroll_to(y=0, animate=False)
        self.refresh()

    def on_resize(self) -> None:
        """Fit the columns into the new width."""
        self._fit_again()
        if self._place is not None:
            self._reveal(self._place)

    def _fit_again(self) -> None:
        if self._shown is not None:
            wide = tables.KINDS[self._shown.kind].wide
            room = self.scrollable_content_region.width - _GUTTER
            self._fit = layout(self._shown.table, wide, room)
            height = len(self._shown.rows) + _HEAD
            self.virtual_size = Size(self.scrollable_content_region.width, height)
        self.refresh()

    def row(self, key: str | None) -> Data | None:
        """Return a row by its key, None if it is not shown."""
        place = None if key is None else self._places.get(key)
        return None if place is None or self._shown is None else self._shown.rows[place]

    # ---- the cursor ---------------------------------------------------------------------

    @property
    def _place(self) -> int | None:
        return None if self.cursor is None else self._places.get(self.cursor)

    @property
    def _page_rows(self) -> int:
        return max(1, self.scrollable_content_region.height - _HEAD)

    def action_move(self, by: int) -> None:
        """Move the cursor; the first key chooses the first row that is seen."""
        if self._shown is None or not self._shown.rows:
            return
        place, last = self._place, len(self._shown.rows) - 1
        start = self.scroll_offset.y if place is None else place + by
        self._choose(max(0, min(last, start)))

    def action_page(self, pages: int) -> None:
        """Move the cursor by the rows that are seen at once."""
        self.action_move(pages * self._page_rows)

    def _choose(self, place: int | None) -> None:
        key = None
        if place is not None and self._shown is not None:
            key = self._shown.rows[place][tables.KINDS[self._shown.kind].key]
            self._reveal(place)
        self.cursor = key
        self.refresh()
        self.post_message(self.Moved())

    def _reveal(self, place: int) -> None:
        top, rows = self.scroll_offset.y, self._page_rows
        if place < top:
            self.scroll_to(y=place, animate=False)
        elif place >= top + rows:
            self.scroll_to(y=place - rows + 1, animate=False)

    def leave(self) -> bool:
        """Give up marks or else the cursor; return False if there was neither."""
        had = bool(self.marks or self.cursor)
        if self.marks:
            self.marks = {}
        else:
            self.cursor = None
        self.refresh()
        return had

    def mark(self) -> None:
        """Mark the row of the cursor, or take its mark away, and move on."""
        row = self.row(self.cursor)
        if row is None or self.cursor is None:
            return
        if self.marks.pop(self.cursor, None) is None:
            self.marks[self.cursor] = row
        self.action_move(1)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Choose the row that was clicked; open it if it was the chosen one."""
        place = event.y - _HEAD + self.scroll_offset.y
        if self._shown is None or event.y < _HEAD or place >= len(self._shown.rows):
            return
        if place == self._place:
            self.post_message(self.Opened())
        else:
            self._choose(place)

    # ---- drawing ------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Return one line of the screen."""
        look, width = LOOKS[self.app.theme], self.size.width
        blank = Style(color=look.ink, bgcolor=look.bg)
        if self._shown is None:
            return Strip.blank(width, blank)
        place = y - _HEAD + self.scroll_offset.y
        if y == 0:
            strip = self._titles(self._shown, look)
        elif place < len(self._shown.rows):
            strip = self._row(self._shown, place, look)
        elif place == 0:
            quiet = look.style(tables.QUIET)
            strip = Strip([Segment(" " * _GUTTER, blank), Segment(one_line(self._empty), quiet)])
        else:
            return Strip.blank(width, blank)
        ends = strip._segments[-1].style if strip._segments else blank  # noqa: SLF001
        return strip.adjust_cell_length(width, ends)

    def _titles(self, shown: ShownRows, look: Look) -> Strip:
        arrow = "↓" if shown.sort.is_descending else "↑"
        style = Style(color=look.ink_3, bgcolor=look.bg)
        titles = []
        for title in shown.table.columns:
            is_sorted = title and title == shown.sort.title
            titles.append(f"{title}{arrow}" if is_sorted else title)
        strip = row_strip(titles, shown.table, self._fit, [style] * len(self._fit.places))
        return Strip([Segment(" " * _GUTTER, style), *strip])

    def _row(self, shown: ShownRows, place: int, look: Look) -> Strip:
        key = shown.rows[place][tables.KINDS[shown.kind].key]
        is_chosen, is_marked = key == self.cursor, key in self.marks
        back = look.tint if is_chosen or is_marked else look.bg
        cells = shown.table.rows[place]
        styles = []
        for at in self._fit.places:
            cell = cells[at]
            word = "" if isinstance(cell, str) else cell.style
            style = look.style(word, back)
            styles.append(style + Style(bold=True) if is_chosen else style)
        gutter = (">" if is_chosen else " ") + ("▪" if is_marked else " ")
        lead = Segment(gutter, Style(color=look.accent, bgcolor=back, bold=is_chosen))
        return Strip([lead, *row_strip(cells, shown.table, self._fit, styles)])


# ---- dialogs ----------------------------------------------------------------------------


class Question(ModalScreen[bool]):
    """Asks before something is changed. Its buttons say what they do."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "answer(False)", show=False),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
    ]

    def __init__(self, title: str, text: str, *, yes: str, no: str) -> None:
        super().__init__()
        self._title, self._text, self._yes, self._no = title, text, yes, no

    def compose(self) -> ComposeResult:
        """Yield the parts; the button that changes nothing has the focus."""
        with Vertical(id="dialog"):
            yield Static(Text(one_line(self._title)), id="title")
            yield Static(Text("\n".join(map(one_line, self._text.splitlines()))), id="text")
            with Horizontal(id="buttons"):
                yield Button(Text(one_line(self._no)), id="no", compact=True)
                yield Button(Text(one_line(self._yes)), id="yes", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        _ = self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001  # textual passes what the binding says
        """Answer by a key."""
        _ = self.dismiss(answer)


class Help(ModalScreen[None]):
    """Lists the keys, and all that needs attention."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", show=False)
    ]

    def __init__(self, text: Text) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Yield the text."""
        with Vertical(id="dialog", classes="tall"):
            yield Static(self._text)
