"""What the entries of the log amount to: all jobs, and where each one waits.

Every process that claims or reads has a table, made from the log alone. ``apply`` is the only way
in which it changes, also for what this process has appended itself: it reads that back. Who calls
anything here holds the store's lock.
"""

from __future__ import annotations

from math import inf
from sys import intern
from typing import TYPE_CHECKING

import msgspec

from nuvom._file.counting import count
from nuvom._file.frames import CHANGES, JOB, NOTE, REMOVED, TOTALS, WHOLE, Frame, segment_of
from nuvom._file.line import Line, first
from nuvom._file.places import Holder, QueueState
from nuvom._file.rows import (
    KEEP_BYTES,
    Announced,
    Beat,
    Change,
    Commanded,
    Paused,
    Progressed,
    Retired,
    Row,
    decode_changes,
    decode_ids,
    decode_note,
    decode_totals,
    decode_whole,
)
from nuvom.core.record import FINAL, JobRecord, JobStatus
from nuvom.core.tally import Tally
from nuvom.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator


_PENDING, _RUNNING, _PARKED = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PARKED
_ATTEMPTS_KEPT = 100  # of one job: a task may snooze for years


class Table:
    """All jobs as of the last entry that was applied.

    Attributes:
        rows: All jobs by id; mostly oldest first, see ``in_order``.
        live_bytes: Size of the records, to judge how much of the log is superfluous.
        arrivals: How often a job came to wait.
        is_fresh_boot: No job has settled since the machine was started anew.
        damaged: Places of entries that say nothing this Nuvom understands.
        tally: What happened, counted since somebody wanted it; else None.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.queues: dict[str, QueueState] = {}
        self.holders: dict[str, Holder] = {}
        self.parked: dict[str, Row] = {}
        self.live_bytes = 0
        self.arrivals = 0
        self.is_fresh_boot = False
        self.damaged: list[tuple[int, str]] = []
        self.tally: Tally | None = None
        self._scheduled = Line()
        self._keys: dict[tuple[str, str], Row] = {}
        self._token = 0
        self._last_seq = 0
        self._is_ordered = True
        self._appliers: dict[int, Callable[[int, bytes], None]] = {
            JOB: self._apply_job,
            CHANGES: self._apply_changes,
            WHOLE: self._apply_whole,
            REMOVED: self._apply_removed,
            NOTE: self._apply_note,
            TOTALS: self._apply_totals,
        }

    # ---- entries --------------------------------------------------------------------------

    def apply(self, frame: Frame) -> None:
        """Take up one entry of the log. Kinds that a later Nuvom added are passed over."""
        kind, _, at, body = frame
        applier = self._appliers.get(kind)
        if applier is None:
            return
        try:
            applier(at, body)
        except (msgspec.MsgspecError, PayloadError) as error:
            self.damaged.append((at, str(error)))

    def _apply_job(self, at: int, body: bytes) -> None:
        record = JobRecord.decode(body)
        if record.id not in self.rows:  # else it was enqueued before, and that counts
            state = Change(
                record.id,
                epoch=record.lease_epoch,
                attempt=record.attempt,
                deliveries=record.deliveries,
                suspect=record.suspect,
                run_at=record.run_at,
            )
            row = _row(record, at, at, body)
            self._add(row, state)
            if self.tally is not None:
                self.tally.enqueued(row.queue, row.task)

    def _add(self, row: Row, state: Change) -> None:
        if row.id not in self.rows:
            self._is_ordered = self._is_ordered and row.seq > self._last_seq
        self._last_seq = max(self._last_seq, row.seq)
        self._token += 1
        row.token = self._token  # else its entries were those of the row it stands for
        self.rows[row.id] = row  # keeps its place where it stands for another
        self.live_bytes += row.size
        self._set_state(row, state, row.at)
        self._take_key(row)
        self._place(row)

    def _take_key(self, row: Row) -> None:
        """Give a job its unique key, unless one that is alive or newer has it."""
        if row.unique_key is None:
            return
        key = (row.task, row.unique_key)
        known = self._keys.get(key)
        is_final = row.state.status in FINAL
        if known is None or (known.state.status in FINAL and (not is_final or row.seq > known.seq)):
            self._keys[key] = row

    def _apply_changes(self, at: int, body: bytes) -> None:
        for change in decode_changes(body):
            row = self.rows.get(change.id)
            if row is not None:
                self._unplace(row)
                if self.tally is not None and change.status is not _RUNNING:
                    count(self.tally, row, change)
                if change.settled_epoch == change.epoch:
                    self.is_fresh_boot = False
                if change.closed is not None:
                    row.history = (*row.history[1 - _ATTEMPTS_KEPT :], at)
                self._set_state(row, change, at)
                self._take_key(row)
                self._place(row)

    def _set_state(self, row: Row, state: Change, at: int) -> None:
        """Give a row its state; what is large stays on disk, at ``at``."""
        error, result = state.error, state.result
        if error is not None or state.cleared:
            row.error = error and msgspec.structs.replace(error, traceback=None)
            row.error_at = at if error else 0
        if result is not None or state.cleared:
            row.result_at = 0 if result is None else at
        if error is not None or result is not None or state.cleared:
            extra = len(result or b"") + len((error and error.traceback) or "")
            self.live_bytes += extra - row.extra
            row.extra = extra
        row.progress = None
        state.id = row.id  # one text instead of two
        state.owner = state.owner and intern(state.owner)
        state.error = state.result = state.closed = None
        row.state = state

    def _apply_whole(self, at: int, body: bytes) -> None:
        whole = decode_whole(body)
        row = _row(JobRecord.decode(whole.record), whole.seq, at, whole.record)
        row.history = (at,) if whole.attempts else ()
        known = self.rows.get(row.id)
        if known is not None:
            self._forget(known)
        self._add(row, whole.state)
        row.progress = whole.progress

    def _apply_removed(self, _: int, body: bytes) -> None:
        for job_id in decode_ids(body):
            row = self.rows.get(job_id)
            if row is not None:
                self._forget(row)
                del self.rows[job_id]

    def _forget(self, row: Row) -> None:
        self._unplace(row)
        self.live_bytes -= row.size + row.extra
        key = (row.task, row.unique_key or "")
        if self._keys.get(key) is row:
            del self._keys[key]

    def _apply_totals(self, _: int, body: bytes) -> None:
        # As of this place: what stands before it may be gone already, and was not counted here.
        self.tally = Tally(decode_totals(body))

    # ---- notes ----------------------------------------------------------------------------

    def _apply_note(self, _: int, body: bytes) -> None:
        note = decode_note(body)
        match note:
            case Beat():
                holder = self.holder(note.owner)
                holder.beat_at, holder.lease_until = note.at, note.lease_until
            case Announced():
                holder = self.holder(note.worker.id)
                holder.info, holder.beat_at = note.worker, note.at
            case Retired():
                self._retire(note.owner)
            case Commanded():
                self._command(note.owner, note.word)
            case Paused():
                self.queue(note.queue).paused_by = note.by
            case Progressed():
                row = self.rows.get(note.id)
                if row is not None and row.state.epoch == note.epoch:
                    row.progress = note.progress
            case _:  # Booted
                self.is_fresh_boot = True

    def _retire(self, owner: str) -> None:
        holder = self.holders.get(owner)
        if holder is not None:
            holder.info, holder.commands = None, []
            if holder.is_idle:
                del self.holders[owner]

    def _command(self, owner: str, word: str) -> None:
        holder = self.holder(owner)
        holder.commands = [*holder.commands, word] if word else []

    # ---- where a job waits ----------------------------------------------------------------

    def _place(self, row: Row) -> None:
        """Put a job where its status belongs."""
        state = row.state
        status = state.status
        queue = self.queue(row.queue)
        queue.counts[status] += 1
        if status is _PENDING:
            self.shelve(row)
        elif status is _RUNNING:
            self.holder(state.owner or "").held[row.id] = row
        elif status is _PARKED:
            self.parked[row.id] = row
        else:
            row.data = None

    def _unplace(self, row: Row) -> None:
        state = row.state
        self._token += 1
        row.token = self._token
        self.queues[row.queue].counts[state.status] -= 1
        if state.status is _RUNNING:
            owner = state.owner or ""
            holder = self.holders[owner]
            del holder.held[row.id]
            if holder.is_idle:
                del self.holders[owner]
        elif state.status is _PARKED:
            del self.parked[row.id]

    def shelve(self, row: Row) -> None:
        """Put a PENDING job where claims find it, now or once it is due."""
        self.arrivals += 1
        if row.state.run_at:
            self._scheduled.put(row.state.run_at, row)
        else:
            self._make_ready(row)

    def _make_ready(self, row: Row) -> None:
        queue = self.queues[row.queue]
        lines = queue.suspects if row.state.suspect else queue.ready
        line = lines.get(row.task)
        if line is None:
            line = lines[row.task] = Line()
        line.put(row.priority, row)

    # ---- questions ------------------------------------------------------------------------

    def queue(self, name: str) -> QueueState:
        """Return the queue of this name."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = QueueState(name)
        return queue

    def holder(self, owner: str) -> Holder:
        """Return the worker of this id."""
        holder = self.holders.get(owner)
        if holder is None:
            holder = self.holders[owner] = Holder()
        return holder

    def held(self, record: JobRecord) -> Row | None:
        """Return the row of a claimed job while that claim still holds."""
        row = self.rows.get(record.id)
        if row is None or row.state.epoch != record.lease_epoch:
            return None
        return row if row.state.status is _RUNNING else None

    def key_holder(self, task: str, key: str, now: float) -> Row | None:
        """Return the job that has a unique key at the moment ``now``."""
        row = self._keys.get((task, key))
        return None if row is None or _is_free(row, now) else row

    def may_take_key(self, row: Row, now: float) -> bool:
        """Return whether nobody else has the unique key of an ended job, if it had one."""
        known = self._keys.get((row.task, row.unique_key)) if row.unique_key is not None else None
        return known is None or known is row or _is_free(known, now)

    def promote(self, now: float) -> None:
        """Make scheduled jobs ready that are due at ``now``."""
        head = self._scheduled.head()
        while head is not None and head[0] <= now:
            self._make_ready(self._scheduled.pop())
            self.arrivals += 1
            head = self._scheduled.head()

    def next_due(self) -> float | None:
        """Return when the next scheduled job is due; seconds since the epoch."""
        head = self._scheduled.head()
        return None if head is None else head[0]

    def scheduled(self) -> Iterator[Row]:
        """Yield the jobs that wait for their time."""
        return iter(self._scheduled)

    def pick(
        self, most: int, queues: Iterable[QueueState], without: Container[str], *, suspects: bool
    ) -> list[Row]:
        """Take the first ready jobs of ``queues`` together; ``shelve`` puts one back."""
        lines = [
            line
            for queue in queues
            for task, line in (queue.suspects if suspects else queue.ready).items()
            if task not in without
        ]
        return first(lines, most) if most > 0 else []

    def has_ready(self) -> bool:
        """Whether any job could start now, paused queues left out."""
        return any(
            line.head() is not None
            for queue in self.queues.values()
            if queue.paused_by is None
            for line in (*queue.ready.values(), *queue.suspects.values())
        )

    def in_order(self) -> list[Row]:
        """Return all jobs, oldest first."""
        if not self._is_ordered:  # jobs that were written anew come late when all is read
            self.rows = dict(sorted(self.rows.items(), key=lambda item: item[1].seq))
            self._is_ordered = True
        return list(self.rows.values())

    def in_segment(self, number: int) -> list[Row]:
        """Return the jobs whose records stand in a segment of the log."""
        return [row for row in self.rows.values() if segment_of(row.at) == number]


def _is_free(row: Row, now: float) -> bool:
    """Return whether another job may take this one's unique key."""
    return row.state.status in FINAL and row.key_until <= now


def _row(record: JobRecord, seq: int, at: int, data: bytes) -> Row:
    return Row(
        id=record.id,
        seq=seq,
        at=at,
        data=data if len(data) <= KEEP_BYTES else None,
        size=len(data),
        task=intern(record.func_name),
        queue=intern(record.queue),
        priority=record.priority,
        created_at=record.created_at,
        unique_key=record.unique_key,
        key_until=-inf if record.unique_for is None else record.created_at + record.unique_for,
        keep_secs=record.result_ttl_secs,
        state=_UNKNOWN,
    )


_UNKNOWN = Change("")
