"""The whole view of ``nuvom top``, drawn with textual.

A thread reads the source once a second, and never twice at a time. This module shows what it read,
and passes on what the user wants changed.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import click
from textual.app import App, SuspendNotSupported, SystemCommand
from textual.binding import Binding
from textual.containers import Container, Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from nuvom.cli.output import clean, one_line
from nuvom.contrib.top import tables
from nuvom.contrib.top.keys import KEYS, VERBS, foot, help_text
from nuvom.contrib.top.look import LOOKS, Look, facts_drawing, theme
from nuvom.contrib.top.sources import ChangeRequest, Frame, Reader, Wanted, read_frame
from nuvom.contrib.top.tables import AMBER, QUIET, RED, STRONG, Piece
from nuvom.contrib.top.widgets import Help, Line, Question, RowList, ShownRows, Tabs, TextBar
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import InvalidSearch, NuvomError, Refused, plural
from nuvom.inspection.formats import duration
from nuvom.inspection.search import parse_search
from nuvom.inspection.views import short_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from textual.app import ComposeResult
    from textual.binding import BindingType
    from textual.screen import Screen

    from nuvom.contrib.top.sources import Data, Source
    from nuvom.core.clock import Clock

_EVERY_SECS = 1.0
_REST = 3  # times as long as a read took, nothing is read: the store has other things to do
_LATE_SECS = 4.0  # after which the age of what is shown is told
_WIDE, _ROOMY = 110, 34  # columns and lines from which there is room for more
_MOST_NAMED = 4  # jobs that a question names
_DETAILED = {"jobs": "id", "errors": "example_id"}  # the field with the job whose details are read
_CHOOSE = "Choose a row first, with the arrow keys."
_EXAMPLE = "status:FAILED,DEAD  task:mail.*  queue:  error:  dur>5s  or free text"


class TopApp(App[int]):
    """The view of one source.

    Args:
        every: Seconds between two reads; None reads only when ``ask`` is called.
    """

    TITLE = "nuvom top"
    CSS_PATH = "top.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(one.key, one.action, show=False, priority=one.key == "tab") for one in KEYS),
        Binding("ctrl+c", "quit", show=False),
        *(
            Binding(str(number), f"kind('{kind}')", show=False)
            for number, kind in enumerate(tables.KINDS, 1)
        ),
    ]

    def __init__(
        self,
        source: Source,
        *,
        read_only: bool = False,
        every: float | None = _EVERY_SECS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__()
        self.source, self.read_only = source, read_only
        self.kind, self.query_text, self.is_held = "jobs", "", False
        self.frame: Frame | None = None
        self.failure: BaseException | None = None
        self._every, self._clock, self._reader = every, clock, Reader()
        self._is_reading = self._again = self._is_old = False
        self._lost, self._read_at, self._next_at = "", clock.monotonic(), 0.0
        self._sorts = dict.fromkeys(tables.KINDS, 0)
        for name in LOOKS:
            self.register_theme(theme(name))
        self.theme = "dark"

    def compose(self) -> ComposeResult:
        """Yield the parts of the screen."""
        yield TextBar("head")
        yield Tabs()
        with Horizontal(id="search"):
            yield Static("/", markup=False)
            yield Input(id="filter", compact=True, placeholder=_EXAMPLE)
        yield Static(id="problem", markup=False)
        with Container(id="body"):
            yield RowList()
            with VerticalScroll(id="pane"):
                yield Static(id="details", markup=False)
        yield TextBar("foot")

    def on_mount(self) -> None:
        """Begin to read."""
        self._end_on_signals()
        self.rows.focus()
        if self._every is not None:
            self.set_interval(self._every, self.tick)
        self.ask()

    def _end_on_signals(self) -> None:
        """End as by a key when told to by a signal, so that the terminal is as it was."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, 0)
            # Windows lets no loop handle them, and a test's loop may be in another thread.
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, partial(self.exit, return_code=128 + number))

    def on_resize(self) -> None:
        """Use the room that there is."""
        main = self.screen_stack[0]
        main.set_class(self.size.width >= _WIDE, "-wide")
        main.set_class(self.size.height >= _ROOMY, "-roomy")
        self.call_after_refresh(self.show)

    def _fatal_error(self) -> None:
        # Textual would print the values of all variables, and secrets are among them.
        self.failure = sys.exc_info()[1]
        self._close_messages_no_wait()

    @property
    def look(self) -> Look:
        """The colours of the current theme."""
        return LOOKS[self.theme]

    @property
    def rows(self) -> RowList:
        """The table."""
        return self.screen_stack[0].query_one(RowList)

    @property
    def pane(self) -> str:
        """Where details are shown: ``beside`` the table, ``full`` in its place, or empty."""
        body = self.screen_stack[0].query_one("#body")
        return next((one for one in ("beside", "full") if body.has_class(f"-{one}")), "")

    @pane.setter
    def pane(self, place: str) -> None:
        main = self.screen_stack[0]
        body = main.query_one("#body")
        for one in ("beside", "full"):
            body.set_class(one == place, f"-{one}")
        (main.query_one("#pane") if place == "full" else self.rows).focus()
        self.ask(details=True)
        self.call_after_refresh(self.show)

    # ---- reading ------------------------------------------------------------------------

    def tick(self) -> None:
        """Read again, unless it is on hold, or the last read took so long that a rest is due."""
        if not self.is_held:
            self._show_head()  # the age of what is shown grows while a read takes long
            if self._clock.monotonic() >= self._next_at:
                self.ask()

    def ask(self, *, details: bool = False) -> None:
        """Read, after the read that is under way, if there is one.

        Args:
            details: Read only these, since all else was read just now.
        """
        self._again = True
        self._is_old |= not details
        if not self._is_reading:
            self._is_reading = True
            self.run_worker(self._read())

    async def _read(self) -> None:
        try:
            while self._again:
                self._again = False
                await self._read_once()
        finally:
            self._is_reading = False
        if self.screen_stack:
            self.show()

    async def _read_once(self) -> None:
        wanted, last = self._wanted(), self.frame
        if self._is_old or last is None or last.wanted[:2] != wanted[:2]:
            last, self._is_old = None, False
        began = self._clock.monotonic()
        try:
            frame = await self._reader.run(partial(read_frame, self.source, wanted, last))
        except NuvomError as error:
            self._lost = error.what
            return
        if not self.screen_stack:  # the view has ended meanwhile
            return
        self._lost = ""
        if last is None:
            self._read_at = self._clock.monotonic()
            self._next_at = self._read_at + _REST * (self._read_at - began)
        if wanted[:2] == self._wanted()[:2]:
            self.frame = frame
        self._again |= wanted != self._wanted()

    def _wanted(self) -> Wanted:
        row = self.rows.row(self.rows.cursor) if self.pane else None
        detail = None if row is None else row.get(_DETAILED.get(self.kind, ""))
        return Wanted(self.kind, self.query_text, detail)

    # ---- showing ------------------------------------------------------------------------

    def show(self) -> None:
        """Draw everything again, from what was read last."""
        frame, kind = self.frame, tables.KINDS[self.kind]
        if frame is not None and frame.wanted.kind == self.kind:
            sort = kind.sorts[self._sorts[self.kind]]
            rows = sorted(frame.rows, key=sort.key, reverse=sort.is_descending)
            empty = f"No job matches {self.query_text}" if self.query_text else ""
            table = kind.table(rows, frame.at)
            self.rows.show(ShownRows(self.kind, rows, table, sort), empty)
        else:
            self.rows.clear()
        self._show_head()
        counted = {} if frame is None else tables.counts(frame.overview)
        self.screen_stack[0].query_one(Tabs).show(self.kind, counted, self.look)
        self._show_details()
        left, right = foot(self.kind, read_only=self.read_only)
        if self.pane == "full":
            left = [[Piece("Esc ", STRONG), Piece("back", QUIET)], *left]
        self._bar("foot").show([Line(left, right)], self.look, self.look.sunk)

    def _bar(self, name: str) -> TextBar:
        return self.screen_stack[0].query_one(f"#{name}", TextBar)

    def _show_head(self) -> None:
        frame, place = self.frame, self.source.address
        if frame is not None:
            place = f"{tables.place(frame.overview)}  {place}"
        name = (Piece("nuvom  ", STRONG), Piece(one_line(place), QUIET))
        where = Line([name], self._right())
        figures = [
            (Piece(f"{label} ", QUIET), Piece(value, style or STRONG))
            for label, value, style in (() if frame is None else tables.figures(frame.overview))
        ]
        lines = (where, Line(figures), Line([self._notice()]))
        self._bar("head").show(lines, self.look, self.look.bg)

    def _right(self) -> list[Sequence[Piece]]:
        return [
            [Piece("‖ on hold", AMBER)] if self.is_held else [],
            [Piece("read-only", QUIET)] if self.read_only else [],
            () if self.frame is None else tables.throughput(self.frame.overview),
        ]

    def _notice(self) -> tuple[Piece, ...]:
        """Return that the store is lost, or what needs attention."""
        age = self._clock.monotonic() - self._read_at
        was_read = f"This was read {duration(float(round(age)))} ago."
        if self._lost:
            seen = was_read if self.frame is not None else tables.NOTHING_READ
            return (Piece(f"✗ {one_line(self._lost)} ", RED), Piece(seen, AMBER))
        if age > _LATE_SECS and not self.is_held:
            return (Piece(f"No answer yet. {was_read}", AMBER),)
        if self.is_held:
            return (Piece(f"{was_read} f goes on.", AMBER),)
        return () if self.frame is None else tables.attention(self.frame.overview)

    def _show_details(self) -> None:
        if not self.pane:
            return
        row = self.rows.row(self.rows.cursor)
        facts: Iterable[tables.DetailLine] = (tables.DetailLine("", _CHOOSE, QUIET),)
        if row is not None and self.frame is not None:
            facts = self._facts(row, self.frame)
        drawing = facts_drawing(facts, self.look)
        self.screen_stack[0].query_one("#details", Static).update(drawing)

    def _facts(self, row: Data, frame: Frame) -> Iterator[tables.DetailLine]:
        if self.kind != "jobs":
            yield from tables.details(self.kind, row, frame.at)
        field = _DETAILED.get(self.kind)
        if field is None:
            return
        if frame.detail is None or frame.detail["id"] != row[field]:
            yield tables.DetailLine("", f"Reading {short_id(row[field])}.", QUIET)
            return
        if self.kind == "errors":
            yield tables.DetailLine("Newest job")
        yield from tables.details("jobs", frame.detail, frame.at)

    def tell(self, text: str, *, is_bad: bool = False) -> None:
        """Show a message for some seconds."""
        self.notify(clean(text), severity="warning" if is_bad else "information", markup=False)

    # ---- moving about -------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether a key works now."""
        if action == "pane" and isinstance(self.screen, ModalScreen):
            return False
        found = next((one for one in KEYS if one.action == action), None)
        if found is None:
            return super().check_action(action, parameters)
        return found.works(self.kind, read_only=self.read_only)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Yield what the palette offers: the keys that work now."""
        del screen
        for one in KEYS:
            is_other = one.action in ("command_palette", "leave", "help")
            if not is_other and one.works(self.kind, read_only=self.read_only):
                yield SystemCommand(one.text, "", partial(self.run_action, one.action))

    def action_kind(self, kind: str) -> None:
        """Show another tab."""
        if kind != self.kind:
            self.kind = kind
            self._show_filter()
            self.rows.clear()
            self.ask()
        self.pane = "" if self.pane == "full" else self.pane

    def on_tabs_picked(self, event: Tabs.Picked) -> None:
        """Show the tab that was clicked."""
        self.action_kind(event.kind)

    def on_row_list_moved(self) -> None:
        """Read the details of the row that is chosen now."""
        if self.pane:
            self._show_details()
            self.ask(details=True)

    def on_row_list_opened(self) -> None:
        """Show the row that was clicked again."""
        self.action_open()

    def action_open(self) -> None:
        """Show the details of the chosen row in place of the table."""
        if self.rows.cursor is None:
            self.rows.action_move(1)
        elif self.pane != "full":
            self.pane = "full"

    def action_pane(self) -> None:
        """Show details beside the table, or hide them."""
        self.pane = "" if self.pane == "beside" else "beside"

    def action_leave(self) -> None:
        """Leave what was entered last: details, marks, the cursor, the filter."""
        if self.screen_stack[0].query_one("#filter", Input).has_focus:
            self._close_search()
        elif self.pane:
            self.pane = ""
        elif not self.rows.leave() and self.query_text:
            self._search("")

    def action_mark(self) -> None:
        """Mark the chosen row."""
        self.rows.mark()

    def action_sort(self) -> None:
        """Sort by the next column that can be sorted by."""
        self._sorts[self.kind] = (self._sorts[self.kind] + 1) % len(tables.KINDS[self.kind].sorts)
        self.show()

    def action_hold(self) -> None:
        """Stop reading, or read again."""
        self.is_held = not self.is_held
        self._show_head()
        if not self.is_held:
            self.ask()

    def action_theme(self) -> None:
        """Switch between dark and light."""
        self.theme = "light" if self.theme == "dark" else "dark"
        self.show()

    async def action_help(self) -> None:
        """Show what needs attention, and the keys."""
        overview = None if self.frame is None else self.frame.overview
        await self.push_screen(Help(help_text(self.look, overview, read_only=self.read_only)))

    def action_copy(self) -> None:
        """Copy the key of the chosen row."""
        if self._has_row():
            self.copy_to_clipboard(clean(str(self.rows.cursor)))
            self.tell(f"Copied {self.rows.cursor}")

    def action_web(self) -> None:
        """Open the chosen row in the dashboard."""
        if not self.source.address:
            self.tell("This reads the store. Pages need a dashboard, and --url.", is_bad=True)
        elif self.kind == "jobs" and self.rows.cursor is not None:
            self.open_url(f"{self.source.address}/jobs/{self.rows.cursor}")
        else:
            self.open_url(f"{self.source.address}/{self.kind}")

    def _has_row(self) -> bool:
        has_row = self.rows.cursor is not None
        if not has_row:
            self.tell(_CHOOSE, is_bad=True)
        return has_row

    # ---- the filter ---------------------------------------------------------------------

    def action_search(self) -> None:
        """Let the user type a filter."""
        self.screen_stack[0].query_one("#search").add_class("-open")
        self.screen_stack[0].query_one("#filter", Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Filter by what was typed."""
        self._search(event.value.strip())

    def _search(self, text: str) -> None:
        """Show the jobs that match; if the text is wrong say why, and stay with those shown."""
        problem = self.screen_stack[0].query_one("#problem", Static)
        try:
            self.query_text = parse_search(text).text
        except InvalidSearch as error:
            problem.update(f"{one_line(error.what)} {one_line(error.fix)}")
            problem.add_class("-open")
            return
        problem.remove_class("-open")
        self._close_search()
        self.ask()

    def _close_search(self) -> None:
        main = self.screen_stack[0]
        main.query_one("#problem").remove_class("-open")
        main.query_one("#filter", Input).value = self.query_text
        self._show_filter()
        self.rows.focus()

    def _show_filter(self) -> None:
        """Show the filter beside what it chooses, which are jobs."""
        is_used = self.kind == "jobs" and bool(self.query_text)
        self.screen_stack[0].query_one("#search").set_class(is_used, "-open")

    def action_jobs(self) -> None:
        """List the jobs of the chosen queue or error."""
        row = self.rows.row(self.rows.cursor)
        if row is None:
            self.tell(_CHOOSE, is_bad=True)
            return
        text = tables.search_for(self.kind, row)
        self.action_kind("jobs")
        self._search(text)

    # ---- changes ------------------------------------------------------------------------

    def action_retry(self) -> None:
        """Retry the marked jobs, or the chosen one."""
        self.run_worker(self._change_jobs("retry"))

    def action_cancel(self) -> None:
        """Cancel the marked jobs, or the chosen one."""
        self.run_worker(self._change_jobs("cancel"))

    def action_discard(self) -> None:
        """Discard the marked jobs, or the chosen one."""
        self.run_worker(self._change_jobs("discard"))

    async def _change_jobs(self, name: str) -> None:
        verb, row = VERBS[name], self.rows.row(self.rows.cursor)
        chosen = [*self.rows.marks.values()] or ([] if row is None else [row])
        jobs = [one for one in chosen if one["status"] in verb.statuses]
        if not jobs:
            self.tell(verb.refusal if chosen else _CHOOSE, is_bad=True)
            return
        what = f"{verb.word} {plural(len(jobs), 'job')}"
        if len(jobs) > 1 or name != "retry":
            named = [f"{short_id(one['id'])}  {one['func_name']}" for one in jobs[:_MOST_NAMED]]
            rest = len(jobs) - len(named)
            named += [f"and {rest:,} more"] if rest else []
            left = len(chosen) - len(jobs)
            named += [f"{plural(left, 'other')} stay as they are."] if left else []
            text = "\n".join((*named, "", verb.follows))
            keep = "Keep it" if len(jobs) == 1 else "Keep them"
            if not await self.push_screen_wait(Question(what, text, yes=what, no=keep)):
                return
        await self._make(
            [ChangeRequest("jobs", one["id"], name, one["status"]) for one in jobs], verb.done
        )

    async def _make(self, changes: Sequence[ChangeRequest], done: str) -> None:
        """Make changes one after the other, and tell how many were made."""
        made, refused = 0, ""
        for change in changes:
            try:
                await self._reader.run(partial(self.source.change, change))
                made += 1
            except NuvomError as error:
                refused = f"{error.what} {error.fix}".rstrip()
        if made and changes[0].kind == "jobs":
            self.tell(f"{plural(made, 'job')} {done}.")
        elif made:
            self.tell(f"{changes[0].name}: {done}.")
        if refused:
            more = len(changes) - made
            self.tell(refused if more == 1 else f"{more:,} refused. {refused}", is_bad=True)
        self.rows.marks = {}
        self.ask()

    def action_pause(self) -> None:
        """Pause the chosen queue, or resume it."""
        self.run_worker(self._pause())

    async def _pause(self) -> None:
        row = self.rows.row(self.rows.cursor)
        if row is None:
            self.tell(_CHOOSE, is_bad=True)
            return
        name = row["queue"]
        if row["paused_by"]:
            await self._make([ChangeRequest("queues", name, "resume")], "resumed")
            return
        text = "Running jobs go on. No other job of it starts until it is resumed."
        what = f"Pause queue {name}"
        if await self.push_screen_wait(Question(what, text, yes=what, no="Leave it running")):
            await self._make([ChangeRequest("queues", name, "pause")], "paused")

    def action_run(self) -> None:
        """Enqueue a job of the chosen schedule."""
        self.run_worker(self._run())

    async def _run(self) -> None:
        row = self.rows.row(self.rows.cursor)
        if row is None:
            self.tell(_CHOOSE, is_bad=True)
            return
        name = row["name"]
        text = f"One job of {row['task']} is enqueued. The fire times stay as they are."
        what = f"Run {name} now"
        if await self.push_screen_wait(Question(what, text, yes=what, no="Leave it")):
            await self._make([ChangeRequest("schedules", name, "run")], "a job was enqueued")

    def action_edit(self) -> None:
        """Edit the arguments of the chosen job, and make a new one with them."""
        self.run_worker(self._edit())

    async def _edit(self) -> None:
        row = self.rows.row(self.rows.cursor)
        if row is None or row["status"] not in VERBS["repeat"].statuses:
            self.tell(_CHOOSE if row is None else VERBS["repeat"].refusal, is_bad=True)
            return
        try:
            job = await self._reader.run(partial(self.source.job, row["id"]))
            call = self._edited(job)
            if call is None:
                self.tell("Nothing was changed, so no job was made.")
                return
            change = ChangeRequest("jobs", job["id"], "repeat", job["status"], call)
            made = await self._reader.run(partial(self.source.change, change))
        except NuvomError as error:
            self.tell(f"{error.what} {error.fix}".rstrip(), is_bad=True)
            return
        self.tell(f"Enqueued {short_id(made)} with the new arguments.")
        self.ask()

    def _edited(self, job: Data) -> Data | None:
        """Return the arguments that the user saved, None if they are as before.

        Raises: Refused: there is no editor, or what was saved cannot be read.
        """
        shown = job.get("editable")
        if shown is None:
            reason = job["damage"] or "Its arguments cannot be edited here"
            raise Refused(reason.rstrip("."), "Look at it with nuvom inspect.")
        try:
            with self.suspend():
                saved = click.edit(shown, extension=".json", require_save=True)
            call, before = json.loads(saved or shown), json.loads(shown)
        except (SuspendNotSupported, click.ClickException) as error:
            raise Refused(f"No editor could be opened: {error}", "Set $EDITOR.") from error
        except (ValueError, RecursionError) as error:
            raise Refused(f"What you saved is not valid JSON: {error}", "") from error
        return None if call == before else call


def run(source: Source, *, read_only: bool) -> int:
    """Show a source until the user quits; return the exit code. Raises: what made the view end."""
    app = TopApp(source, read_only=read_only)
    app.run()
    if app.failure is not None:
        raise app.failure
    return app.return_code or 0
