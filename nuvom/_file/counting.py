"""How entries of the log are counted, once somebody wants totals.

The log itself is what is counted: each process that reads it comes to the same totals. An entry
of them stands for all before it, so that the oldest segment can go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.tally import Ran

if TYPE_CHECKING:
    from nuvom._file.rows import Change, Row
    from nuvom.core.tally import Tally


def count(tally: Tally, row: Row, change: Change) -> None:
    """Count what ``change`` makes of a job that is still as it was before."""
    ran = None
    word = "" if change.closed is None else change.closed[1]
    if word and change.cleared:  # settled, and not only taken away from its worker
        began, ended = change.started_at, change.finished_at
        if began is not None and ended is not None:
            ran = Ran(ended - began, began - max(row.created_at, row.state.run_at))
    tally.moved(
        row.queue, row.task, change.status, word=word, ran=ran, has_error=change.error is not None
    )
