"""The keys of the view, what they change, and how they are told to the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.style import Style
from rich.text import Text

from nuvom.cli.output import one_line
from nuvom.contrib.top import tables
from nuvom.contrib.top.tables import QUIET, STRONG, Piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuvom.contrib.top.look import Look
    from nuvom.contrib.top.sources import Data

_KEY_WIDTH = 12


class Key(NamedTuple):
    """A key of the view.

    Attributes:
        label: As the footer names it, if there is room; empty for keys that only help lists.
        text: As help explains it.
        kinds: The tabs on which it works, or empty for all.
        changes: Whether it changes something.
    """

    key: str
    action: str
    label: str
    text: str
    kinds: tuple[str, ...] = ()
    changes: bool = False

    def works(self, kind: str, *, read_only: bool) -> bool:
        """Return whether the key does something on a tab."""
        return (not self.kinds or kind in self.kinds) and not (self.changes and read_only)


KEYS = (
    Key(
        "slash",
        "search",
        "filter",
        "Filter, such as status:FAILED queue:mail",
        ("jobs",),
    ),
    Key("enter", "open", "open", "Show everything about the chosen row"),
    Key("space", "mark", "mark", "Mark the chosen job, or unmark it", ("jobs",)),
    Key("r", "retry", "retry", "Retry the marked jobs, or the chosen one", ("jobs",), changes=True),
    Key("x", "cancel", "cancel", "Cancel jobs that have not ended", ("jobs",), changes=True),
    Key("d", "discard", "discard", "Discard jobs that have ended", ("jobs",), changes=True),
    Key("p", "pause", "pause, resume", "Pause or resume the queue", ("queues",), changes=True),
    Key("n", "run", "run now", "Enqueue a job of the schedule now", ("schedules",), changes=True),
    Key("e", "edit", "edit", "Edit arguments in $EDITOR, and retry", ("jobs",), changes=True),
    Key("j", "jobs", "its jobs", "List the jobs of the row", ("queues", "errors")),
    Key("tab", "pane", "pane", "Show details beside the table, or hide them"),
    Key("s", "sort", "sort", "Sort by the next column that can be sorted by"),
    Key("f", "hold", "hold", "Hold what is shown, or go on"),
    Key("y", "copy", "", "Copy the id or name of the chosen row"),
    Key("w", "web", "", "Open the row in the dashboard (with --url)"),
    Key("t", "theme", "", "Switch between dark and light"),
    Key("colon", "command_palette", "", "Choose a command by typing"),
    Key("escape", "leave", "", "Close, or give up marks, cursor and filter"),
    Key("question_mark", "help", "keys", "Show this"),
    Key("q", "quit", "quit", "Quit"),
)
_SHOWN = {
    "slash": "/",
    "colon": ":",
    "question_mark": "?",
    "enter": "Enter",
    "space": "Space",
    "tab": "Tab",
    "escape": "Esc",
}
_LAST = ("question_mark", "q")  # at the right of the footer, whatever the tab


def foot(kind: str, *, read_only: bool) -> tuple[list[list[Piece]], list[list[Piece]]]:
    """Return the keys to show at the left of the last line, and those at its right."""
    sides: tuple[list[list[Piece]], list[list[Piece]]] = ([], [])
    for one in KEYS:
        if one.label and one.works(kind, read_only=read_only):
            key = _SHOWN.get(one.key, one.key)
            pieces = [Piece(f"{key} ", STRONG), Piece(one.label, QUIET)]
            sides[one.key in _LAST].append(pieces)
    return sides


def help_text(look: Look, overview: Data | None, *, read_only: bool) -> Text:
    """Return all that needs attention, and all keys."""
    text, strong = Text(), Style(color=look.ink, bold=True)
    quiet = look.style(QUIET, look.surface)
    for level, what, fix in _findings(overview):
        text.append("Needs attention\n" if not text else "", strong)
        text.append(f"{what}.\n", look.style(level, look.surface))
        text.append(f"  {fix}\n" if fix else "", quiet)
    text.append("\nKeys\n" if text else "Keys\n", strong)
    for one in KEYS:
        if one.changes and read_only:
            continue
        text.append(f"{_SHOWN.get(one.key, one.key):{_KEY_WIDTH}}", strong)
        text.append(one.text, Style(color=look.ink_2))
        kinds = ", ".join(tables.KINDS[kind].title for kind in one.kinds)
        text.append(f"  {kinds}\n" if kinds else "\n", quiet)
    text.append(f"{'1 to 5':{_KEY_WIDTH}}", strong)
    text.append("Jobs, Queues, Workers, Schedules, Errors", Style(color=look.ink_2))
    return text


def _findings(overview: Data | None) -> Iterator[tuple[str, str, str]]:
    for one in () if overview is None else overview["attention"]:
        style = tables.RED if one["level"] == "fail" else tables.AMBER
        yield style, one_line(one["text"]), one_line(one["fix"])


# ---- changes of jobs --------------------------------------------------------------------


class Verb(NamedTuple):
    """Something that can be done to jobs.

    Attributes:
        statuses: Of the jobs to which it can be done.
        refusal: What is said if there is none.
        follows: What happens then.
    """

    word: str
    done: str
    statuses: Sequence[str]
    refusal: str
    follows: str


_ENDED = ("SUCCESS", "FAILED", "DEAD", "CANCELLED")
VERBS = {
    one.word.lower(): one
    for one in (
        Verb(
            "Retry",
            "retried",
            ("FAILED", "DEAD", "CANCELLED"),
            "Only FAILED, DEAD and CANCELLED jobs can be run again.",
            "Each starts again with attempt 1.",
        ),
        Verb(
            "Cancel",
            "cancelled",
            ("PENDING", "RUNNING", "PARKED"),
            "Only jobs that have not ended can be cancelled.",
            "Waiting jobs end at once, running ones when their task checks for it.",
        ),
        Verb(
            "Discard",
            "discarded",
            _ENDED,
            "Only jobs that have ended can be discarded.",
            "Each is removed for good, with its result.",
        ),
        Verb(
            "Repeat",
            "repeated",
            _ENDED,
            "Only jobs that have ended can be repeated with other arguments.",
            "",
        ),
    )
}
