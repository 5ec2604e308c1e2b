"""``nuvom top`` without keys: one snapshot as data or as a table, or a table that is drawn again.

It does without textual; the data does without rich as well.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nuvom.cli.output import clean, one_line
from nuvom.contrib.top import tables
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import NuvomError
from nuvom.inspection.formats import ago, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuvom.cli.output import Output
    from nuvom.contrib.top.sources import Data, Source
    from nuvom.core.clock import Clock

SCHEMA = "nuvom.top/1"
HINT = "For keys, filters and details: pip install 'nuvom[top]'"
_ROWS = 20
_SECS = 1.0
_AROUND = 8  # lines beside the rows: figures, titles, hint


def snapshot(source: Source) -> dict[str, Any]:
    """Return everything that the view shows at one moment; queues are in ``overview``."""
    return {
        "read_at": rfc3339(source.now()),
        "overview": source.overview(),
        **{kind: source.rows(kind) for kind in tables.KINDS if kind != "queues"},
    }


def show_once(out: Output, source: Source) -> None:
    """Write one snapshot and end."""
    if out.as_json:
        out.json(SCHEMA, snapshot(source))
        return
    overview, jobs = source.overview(), source.rows("jobs", limit=_ROWS)
    if not out.plain:
        out.lines([*_head(out, overview), ""])
    kind = tables.KINDS["jobs"]
    out.table(kind.table(jobs, source.now()), empty=kind.empty)


def watch(out: Output, source: Source, clock: Clock = SYSTEM_CLOCK) -> None:
    """Draw the newest jobs again each second, until Ctrl-C."""
    from rich.console import Console  # noqa: PLC0415  # only where something is drawn
    from rich.live import Live  # noqa: PLC0415  # likewise
    from rich.text import Text  # noqa: PLC0415  # likewise

    console = Console(no_color=not out.out.has_color)
    pages = _pages(out, source, clock, lambda: console.height)
    # Ctrl-C is the only way to end it, so it is no failure.
    with (
        Live(console=console, screen=True, auto_refresh=False) as live,
        suppress(KeyboardInterrupt),
    ):
        for lines in pages:
            live.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
            clock.sleep(_SECS)


def _pages(
    out: Output, source: Source, clock: Clock, height: Callable[[], int]
) -> Iterator[list[str]]:
    """Yield what to draw, again and again; if the store is lost, what was read last."""
    seen, read_at = list[str](), 0.0
    while True:
        notice = HINT
        try:
            seen = list(_page(out, source, height()))
            read_at = clock.now()
        except NuvomError as error:
            was_read = f"This was read {ago(read_at, clock.now())}."
            notice = f"{error.what} {was_read if read_at else tables.NOTHING_READ}"
        yield [*seen[: height() - 2], "", out.out.paint(clean(notice), "dim")]


def _page(out: Output, source: Source, height: int) -> Iterator[str]:
    yield from _head(out, source.overview())
    yield ""
    kind = tables.KINDS["jobs"]
    rows = source.rows("jobs", limit=max(1, height - _AROUND))
    if not rows:
        yield kind.empty
        return
    yield from kind.table(rows, source.now()).for_people(out.out.width).fitted_lines(out.out)


def _head(out: Output, overview: Data) -> Iterator[str]:
    """Yield where this is, the figures, and what needs attention."""
    stream = out.out
    place = one_line(tables.place(overview))
    yield f"{stream.paint('nuvom', 'bold')}  {stream.paint(place, 'dim')}"
    parts = [
        f"{stream.paint(label, 'dim')} {stream.paint(value, style)}"
        for label, value, style in tables.figures(overview)
    ]
    yield "  ".join(parts)
    yield "".join(
        stream.paint(one_line(piece.text), piece.style) for piece in tables.attention(overview)
    )
