"""The file queue: enqueue, claim, settle, release and extend over one shared log.

Every method is a turn at the store: look at the table, append what changes. Nothing is changed in
place, so that a process can die at any point. Reading, control and recovery are the parts in
``nuvom._file``; the design is explained in ``docs/decisions/0013-file-backend.md``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from nuvom._file import moves
from nuvom._file.contents import record_data
from nuvom._file.control import ControlPart
from nuvom._file.frames import CHANGES, JOB
from nuvom._file.intake import Intake
from nuvom._file.reading import ReadingPart
from nuvom._file.recovery import RecoveryPart
from nuvom._file.rows import Beat, encode, set_field
from nuvom._file.store import FileStore
from nuvom.config.settings import Settings
from nuvom.core.batch import RecordBatch
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.record import FINAL, JobRecord, JobStatus
from nuvom.errors import CorruptRecord, NuvomError
from nuvom.host.crashpoint import crashpoint
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.leased import LeasedJobQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nuvom._file.places import QueueState
    from nuvom._file.rows import Change, Row
    from nuvom._file.table import Table
    from nuvom.core.outcome import Settlement
    from nuvom.host.wakeup import Listener

_RUNNING = JobStatus.RUNNING


class FileJobQueue(ReadingPart, ControlPart, RecoveryPart, LeasedJobQueue):
    """Jobs in a folder of plain files, results included: a job finishes in one append.

    Args:
        settings: Where the folder is, how durable, how long leases last.
        clock: Replaced by tests.

    Attributes:
        store: The folder; the file results share it.
    """

    name: ClassVar[str] = "file"
    capabilities: ClassVar[frozenset[Capability]] = LeasedJobQueue.capabilities | {
        Capability.ATOMIC_FINISH,
        Capability.TOTALS,
    }

    def __init__(self, settings: Settings | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings or Settings()
        self.clock = clock
        self.store = FileStore(self.settings, clock)
        self._sleeping: set[Listener] = set()
        self._listeners: list[Listener] = []

    # ---- enqueue ------------------------------------------------------------------------

    def enqueue(self, job: JobRecord) -> str | None:
        """Store a job; see the contract. Threads that enqueue together share a flush."""
        refused = self._take_in([job], with_table=self._needs_table(job))
        self.store.bell.notify_one("work")
        return refused.get(job.id)

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all jobs in one append, or none, as they come; see the contract."""
        # A caller's generator may use this store, and so must not run in a turn at it.
        many = jobs if isinstance(jobs, RecordBatch) else list(jobs)
        first = next(iter(many), None)
        if first is None:
            return {}
        refused = self._take_in(many, with_table=self._needs_table(first))
        self.store.bell.notify_one("work")
        return refused

    def _needs_table(self, job: JobRecord) -> bool:
        return job.unique_key is not None or self.settings.max_queue_size is not None

    def _take_in(self, jobs: Iterable[JobRecord], *, with_table: bool) -> dict[str, str]:
        intake = Intake(self.settings.max_queue_size, self.clock.now())
        self.store.add(lambda table_of: intake.encoded(jobs, table_of), with_table=with_table)
        return intake.refused

    # ---- claim --------------------------------------------------------------------------

    def claim(
        self,
        n: int,
        owner: str,
        queues: Sequence[str] | None = None,
        *,
        exclude: Sequence[str] = (),
        without: Iterable[str] = (),
        suspects: int = 1,
    ) -> list[JobRecord]:
        """Lease at most ``n`` due jobs to ``owner``; see the contract."""
        self.store.presence(owner)  # who holds jobs has to be seen to live
        unwanted = frozenset(without)
        lease_until = self.clock.monotonic() + self.settings.lease_secs
        jobs: list[JobRecord] = []

        def lease(table: Table) -> bool:
            table.promote(self.clock.now())
            turns = _turns(table, queues, exclude)
            rows: list[Row] = []
            for served in turns:
                rows += table.pick(min(n, suspects) - len(rows), served, unwanted, suspects=True)
            for served in turns:
                rows += table.pick(n - len(rows), served, unwanted, suspects=False)
            if rows:
                self._lease(table, rows, jobs, owner=owner, lease_until=lease_until)
            return table.is_fresh_boot

        try:
            must_flush = self.store.turn(lease)
            if jobs:
                self._book(owner, jobs, must_flush=must_flush)
        except BaseException:
            if jobs:  # nobody gets them now; those that were not even written stay as they are
                with suppress(NuvomError):
                    self.release(jobs)
            raise
        return jobs

    def _lease(
        self,
        table: Table,
        rows: list[Row],
        jobs: list[JobRecord],
        *,
        owner: str,
        lease_until: float,
    ) -> None:
        """Lease ``rows``; ``jobs`` is given all that may be leased, whatever exception strikes."""
        changes: list[Change] = []
        try:
            for row in rows:
                data = self._readable(row)
                if data is not None:
                    change = moves.claimed(row, owner, lease_until)
                    changes.append(change)
                    jobs.append(_handed_out(data, change))
            if changes:
                self.store.append([(CHANGES, encode(changes))])
        except BaseException:
            for row in rows:
                table.shelve(row)
            raise

    def _readable(self, row: Row) -> bytes | None:
        """Return the stored record; a damaged one is set aside, and None."""
        try:
            return record_data(self.store.log, row)
        except CorruptRecord as error:
            self.store.remove_damaged(row, error)
            return None

    def _book(self, owner: str, jobs: list[JobRecord], *, must_flush: bool) -> None:
        """Get slots for claimed jobs."""
        if must_flush:  # else a job that takes the machine down would never be counted
            self.store.flush()
        crashpoint("file.claim.before_book")
        self.store.workers.book(owner, [(job.id, job.lease_epoch) for job in jobs])

    def mark_started(self, job: JobRecord) -> None:
        """Note in the slot file that user code starts; one byte in mapped memory."""
        self.store.workers.mark_started(job.id, job.lease_epoch)

    # ---- settle, release, extend --------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Close attempts, all in one append; see the contract."""
        now = self.clock.now()

        def close(table: Table) -> tuple[list[bool], bool]:
            closing = _Closing(table, now)
            accepted = [closing.close(one) for one in settlements]
            if closing.entries:
                self.store.append(closing.entries)
            return accepted, closing.has_work

        accepted, has_work = self.store.turn(close)
        crashpoint("file.settle.before_flush")
        self.store.flush()  # also where nothing is new: the first call may have failed to
        crashpoint("file.settle.after_flush")
        self.store.workers.unbook((one.record.id, one.record.lease_epoch) for one in settlements)
        self.store.bell.notify_all("result")
        if has_work:
            self.store.bell.notify_one("work")
        return accepted

    def release(self, jobs: Sequence[JobRecord]) -> list[bool]:
        """Give claimed jobs back, uncharged; see the contract."""
        now, has_started = self.clock.now(), self.store.workers.has_started

        def give_back(table: Table) -> dict[tuple[str, int], Row]:
            held = {_key(job): row for job in jobs if (row := table.held(job)) is not None}
            changes = [
                moves.released(row, now, started=has_started(row.id, row.state.epoch))
                for row in held.values()
            ]
            if changes:
                self.store.append([(CHANGES, encode(changes))])
            return held

        held = self.store.turn(give_back)
        self.store.flush()
        self.store.workers.unbook(map(_key, jobs))
        self.store.bell.notify_one("work")
        return [held.pop(_key(job), None) is not None for job in jobs]

    def extend(self, owner: str) -> dict[str, int]:
        """Renew the leases of ``owner`` and beat for it; see the contract."""
        now = self.clock.monotonic()

        def beat(table: Table) -> dict[str, int]:
            holder = table.holders.get(owner)
            if holder is None:
                return {}
            self.store.note(Beat(owner, now, now + self.settings.lease_secs))
            return {job_id: row.state.epoch for job_id, row in holder.held.items()}

        held = self.store.turn(beat)
        if held:  # a job that runs so long, and takes the machine down, must be counted
            self.store.flush()
        return held

    # ---- waking -------------------------------------------------------------------------

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        """Sleep until a job may be there; see the contract."""
        listener = self._idle_listener()
        try:
            listener.arm()
            self._sleeping.add(listener)  # from now on a poke is not forgotten by arming
            is_awake = (recheck or self._has_ready)() or listener.wait(timeout)
            listener.disarm()
            self._sleeping.discard(listener)
            self._listeners.append(listener)
        except BaseException:
            self._sleeping.discard(listener)
            listener.close()
            raise
        return is_awake

    def _idle_listener(self) -> Listener:
        while self._listeners:
            listener = self._listeners.pop()
            try:
                if listener.fileno() >= 0:  # else it is the parent's, and this is a forked child
                    return listener
            except BaseException:
                listener.close()
                raise
        return self.store.bell.listen("work")

    def interrupt(self) -> None:
        """End every ``wait_for_work`` of this instance."""
        for listener in tuple(self._sleeping):
            listener.poke()

    def notify(self) -> None:
        """Wake one worker that sleeps, in any process."""
        self.store.bell.notify_one("work")

    def start(self) -> None:
        """Open the folder, so that whatever is wrong with it shows at once."""
        self.store.turn(lambda _: None)

    def stop(self) -> None:
        """Close everything; jobs that this process still holds are recovered by others."""
        while self._listeners:
            self._listeners.pop().close()
        self.store.close()


class _Closing:
    """The entries that close attempts in one turn."""

    def __init__(self, table: Table, now: float) -> None:
        self.entries: list[tuple[int, bytes]] = []
        self.has_work = False
        self._table = table
        self._now = now
        self._closed: set[str] = set()
        self._children = Intake(None, now)

    def close(self, one: Settlement) -> bool:
        record = one.record
        row = self._table.held(record)
        if row is None:
            return self._was_closed_before(record)
        if record.id not in self._closed:
            self._closed.add(record.id)
            if one.status in FINAL:
                self._children.ended.add(record.id)
            # An entry for each: damage to one does not reach its neighbours.
            self.entries.append((CHANGES, encode([moves.settled(row, one, self._now)])))
            children = self._children.encoded(one.children, lambda: self._table)
            self.entries += [(JOB, child) for child in children]
            self.has_work = self.has_work or bool(one.children) or one.status not in FINAL
        return True

    def _was_closed_before(self, record: JobRecord) -> bool:
        """Tell whether an earlier call closed this attempt: its answer may have been lost."""
        row = self._table.rows.get(record.id)
        if row is None:
            return False
        return row.state.settled_epoch == row.state.epoch == record.lease_epoch


def _key(job: JobRecord) -> tuple[str, int]:
    return job.id, job.lease_epoch


def _turns(
    table: Table, queues: Sequence[str] | None, exclude: Sequence[str]
) -> list[list[QueueState]]:
    """Return what to claim from, turn by turn; queues in one turn are served as if one."""
    known = table.queues
    if queues is None:
        return [[q for n, q in known.items() if n not in exclude and q.paused_by is None]]
    named = [known[name] for name in queues if name in known and name not in exclude]
    return [[queue] for queue in named if queue.paused_by is None]


def _handed_out(data: bytes, change: Change) -> JobRecord:
    """Return the record of a claimed job. Nobody has seen it yet, so it may still be set."""
    record = JobRecord.decode(data)
    set_field(record, "status", _RUNNING)
    set_field(record, "lease_epoch", change.epoch)
    set_field(record, "attempt", change.attempt)
    set_field(record, "deliveries", change.deliveries)
    set_field(record, "run_at", change.run_at)
    if change.suspect:
        set_field(record, "suspect", True)
    return record
