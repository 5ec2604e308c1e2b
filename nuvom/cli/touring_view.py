"""How the tour looks: a live table on a terminal, a line for each job that ends elsewhere."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from nuvom.cli.shapes import STATUS_STYLES, error_text, status_text
from nuvom.cli.text import one_line
from nuvom.demo import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuvom.cli.output import Output
    from nuvom.core.record import JobSnapshot

_BAR = 14
_TASKS = (
    tasks.square,
    tasks.crunch,
    tasks.fetch,
    tasks.flaky,
    tasks.later,
    tasks.broken,
)


class View(Protocol):
    """Something that shows the jobs as they are now."""

    def show(self, snapshots: Sequence[JobSnapshot], now: float) -> None:
        """Show them."""


@contextmanager
def view_for(out: Output) -> Iterator[View]:
    """Give the view that fits the output."""
    if out.as_json or out.quiet:
        yield _Silent()
    elif out.out.is_terminal and not out.plain:
        with _live(out) as view:
            yield view
    else:
        yield _Lines(out)


class _Silent:
    def show(self, snapshots: Sequence[JobSnapshot], now: float) -> None:
        """Show nothing."""


class _Lines:
    """Writes one line for each job that has ended since the last look."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._told: set[str] = set()

    def show(self, snapshots: Sequence[JobSnapshot], now: float) -> None:
        """Tell of what has ended."""
        del now
        for one in snapshots:
            if one.status.is_final and one.record.id not in self._told:
                self._told.add(one.record.id)
                line = f"{one.record.func_name:<12} {one.status} after attempt {one.record.attempt}"
                why = f": {error_text(one.error)}" if one.error is not None else ""
                self._out.lines([one_line(line + why)])


@contextmanager
def _live(out: Output) -> Iterator[View]:
    from rich.console import Console  # noqa: PLC0415  # only where something is drawn
    from rich.live import Live  # noqa: PLC0415  # likewise

    console = Console(
        file=out.out.raw,
        color_system="auto" if out.out.has_color else None,
        no_color=not out.out.has_color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with Live(console=console, auto_refresh=False, transient=False) as live:
        yield _Drawn(live, has_unicode=out.out.has_unicode)


class _Drawn:
    """A table with a row for each task, drawn anew in place."""

    def __init__(self, live: Any, *, has_unicode: bool) -> None:  # noqa: ANN401  # rich is not imported here
        self._live = live
        self._has_unicode = has_unicode

    def show(self, snapshots: Sequence[JobSnapshot], now: float) -> None:
        """Draw the table."""
        self._live.update(self._table(snapshots, now), refresh=True)

    def _table(self, snapshots: Sequence[JobSnapshot], now: float) -> Any:  # noqa: ANN401  # a rich table
        from rich import box  # noqa: PLC0415  # only where something is drawn
        from rich.table import Table  # noqa: PLC0415  # likewise
        from rich.text import Text  # noqa: PLC0415  # likewise

        done = sum(one.status.is_final for one in snapshots)
        table = Table(
            box=box.SIMPLE_HEAD if self._has_unicode else box.ASCII2,
            show_edge=False,
            pad_edge=False,
            title=Text(f"{done} of {len(snapshots)} jobs have ended", style="bold"),
            title_justify="left",
            border_style="dim",
        )
        table.add_column("Task", no_wrap=True)
        table.add_column("Shows", no_wrap=True, style="dim")
        table.add_column("Progress", no_wrap=True)
        table.add_column("Status", no_wrap=True, width=20)
        for task in _TASKS:
            own = [one for one in snapshots if one.record.func_name == task.name]
            text, style = _status(own, now)
            shows = (task.func.__doc__ or "").rstrip(".")
            table.add_row(task.name, shows, self._bar(own), Text(text, style=style))
        return table

    def _bar(self, own: Sequence[JobSnapshot]) -> Any:  # noqa: ANN401  # a rich text
        from rich.text import Text  # noqa: PLC0415  # only where something is drawn

        share = sum(map(_share, own)) / len(own)
        filled = round(share * _BAR)
        full, empty = ("━", "─") if self._has_unicode else ("#", ".")
        style = "red" if any(str(one.status) == "FAILED" for one in own) else "green"
        return Text(full * filled, style=style).append(empty * (_BAR - filled), style="dim")


def _share(snapshot: JobSnapshot) -> float:
    """Return how much of a job is done, from 0 to 1."""
    if snapshot.status.is_final:
        return 1.0
    if snapshot.progress is None or not snapshot.progress[1]:
        return 0.0
    return min(1.0, snapshot.progress[0] / snapshot.progress[1])


def _status(own: Sequence[JobSnapshot], now: float) -> tuple[str, str]:
    """Return a text and a style for all jobs of one task."""
    counts = Counter(str(one.status) for one in own)
    if len(own) > 1:
        done = counts["SUCCESS"]
        style = STATUS_STYLES["SUCCESS" if done == len(own) else "RUNNING"]
        return f"{done} of {len(own)} SUCCESS", style
    (one,) = own
    status, attempt = str(one.status), one.record.attempt
    text = status
    if status == "PENDING":
        text = f"PENDING, retry {attempt}" if attempt else status_text(one, now)
    elif status == "SUCCESS" and attempt > 1:
        text = f"SUCCESS, attempt {attempt}"
    elif one.error is not None:
        text = f"{status}: {one.error.type}"
    return one_line(text), STATUS_STYLES[status]
