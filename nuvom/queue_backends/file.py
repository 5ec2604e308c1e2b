"""The file queue: a table built from a log in a folder that the processes of a machine share.

Every method is a turn: take the store's lock, read what others have appended, look at the table,
append the changes. Nothing is changed in place, so a process can die at any point. The log is the
source of truth; if an exception cuts a turn short, the table is rebuilt from the log. See
``docs/decisions/0013-file-backend.md`` for the design.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from functools import partial
from itertools import chain
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec
from msgspec.structs import replace

from nuvom.config.project import ensure_lasting_folder_for
from nuvom.config.settings import Settings
from nuvom.core.batch import RecordBatch
from nuvom.core.clock import SYSTEM_CLOCK, Clock, boot_id
from nuvom.core.ids import valid_name
from nuvom.core.record import JobRecord
from nuvom.core.transitions import Change, LostDelivery
from nuvom.core.views import StoreSize, beat_secs
from nuvom.errors import BackendUnavailable, NuvomError
from nuvom.host.crashpoint import crashpoint
from nuvom.host.files import (
    private_directory,
    read_file,
    refuse_network,
    storage_errors,
    write_durably,
)
from nuvom.host.fork import drop_at_fork
from nuvom.host.lock import FileMutex, LockTimeoutError, LockWaitNotice
from nuvom.host.own_workers import OwnWorkers
from nuvom.host.start_marks import read_slots
from nuvom.host.wakeup import Wakeup
from nuvom.host.worker_lock import find_dead, is_alive, is_gone
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.file_log import HEADER_BYTES, GoneError, Log
from nuvom.queue_backends.rows import Added, Booted, Operation
from nuvom.queue_backends.table import Table
from nuvom.queue_backends.table_queue import TableQueue
from nuvom.queue_backends.table_schedules import TableSchedules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from nuvom.core.clock import Waitable
    from nuvom.core.transitions import Recovery
    from nuvom.core.views import WorkerInfo
    from nuvom.queue_backends.rows import Holder
    from nuvom.scheduler.store import ScheduleWaiter

T = TypeVar("T")

_PATIENCE_SECS = 60.0  # longer than any healthy process holds a lock
_LOCKED_OUT = f"another process has locked it for more than {_PATIENCE_SECS:g} s"
_REMEDY = "Look for a stopped worker or command (state T in ps); let it go on, or end it."
_REENTERED = "this thread is using it: a signal handler has interrupted the call"
_LATER = "Have the handler set a flag, and call Nuvom once it has returned."
_encode = msgspec.msgpack.Encoder().encode
_decode: Any = msgspec.msgpack.Decoder(Operation | Change).decode
_NO_JOB = JobRecord("", "")
# Prefix that turns an encoded record into the entry that adds it.
_ADDING = _encode(Added([_NO_JOB])).removesuffix(_NO_JOB.encode())


class FileJobQueue(TableQueue):
    """Jobs in a folder of plain files, including results: a job finishes in one append.

    Args:
        settings: Location of the folder, durability, lease length.
        clock: Replaced by tests.

    Attributes:
        directory: The folder.
        own_workers: Workers of this process.
    """

    name: ClassVar[str] = "file"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    def __init__(self, settings: Settings | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings or Settings()
        self.clock = clock
        self.lease_secs = self.settings.lease_secs
        self.max_deliveries = self.settings.max_deliveries
        self.parked_ttl_secs = self.settings.parked_ttl_secs
        self.max_queue_size = self.settings.max_queue_size
        self.directory = self.settings.files_dir
        self._wait_notice = LockWaitNotice(self.directory, clock)
        self._flushes = self.settings.durability == "full"
        self._stalled_until = 0.0
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Reset all state in a forked child: the parent may be in the middle of a turn."""
        self._opening = Lock()
        self._lock = FileMutex(
            os.path.join(self.directory, "lock"),
            limit_secs=_PATIENCE_SECS,
            notice=self._wait_notice,
        )
        self.own_workers = OwnWorkers(self.directory)
        self._log = Log(os.fspath(self.directory))
        self._table: Table | None = None
        self._has_folders = self._is_open = False
        self._is_sound = True  # whether the state known of the log is valid between turns
        self._wakeup: Wakeup | None = None
        self._turning = 0  # the thread that has the turn
        # What a turn appends, the place of its next entry, and whom it notifies.
        self._staged: list[bytes] = []
        self._place = 0
        self._news: dict[str, Callable[[], object]] = {}

    # ---- turns ----------------------------------------------------------------------------

    def turn(self, action: Callable[[Table], T], *, durable: bool = False) -> T:
        return self._turn(action, needs_table=True, durable=durable)

    def _turn(self, action: Callable[[Any], T], *, needs_table: bool, durable: bool) -> T:
        """Run ``action`` under the lock, after reading what others appended; then notify."""
        if self._turning == get_ident():
            raise BackendUnavailable(self.directory, _REENTERED, _LATER)
        self.make_folders()
        try:
            answer, log, news = self._lock.run(partial(self._act, action, needs_table=needs_table))
        except LockTimeoutError:
            raise BackendUnavailable(self.directory, _LOCKED_OUT, _REMEDY) from None
        except (GoneError, BackendUnavailable) as error:
            self._has_folders = False  # they may have vanished; the next call makes them anew
            if isinstance(error, GoneError):
                raise BackendUnavailable(self.directory, "its files have vanished") from error
            raise
        if durable and self._flushes:
            crashpoint("file.turn.before_flush")
            log.sync()
        for one in news:
            one()
        return answer

    def _act(
        self, action: Callable[[Any], T], *, needs_table: bool
    ) -> tuple[T, Log, Iterable[Callable[[], object]]]:
        """Act while holding the lock."""
        try:
            self._turning = get_ident()
            if not self._is_sound:
                self._table = None
                self._log.leave()
            self._is_sound = False
            try:
                table = self._catch_up(needs_table=needs_table)
            except GoneError:  # the log was rewritten, or the whole folder has vanished
                self._is_open = False
                table = self._catch_up(needs_table=needs_table)
            if self._log.is_doubtful:  # others treat what they can read as stored
                self._log.sync()
            self._staged, self._place, self._news = [], self._log.tail, {}
            try:
                answer = action(table)
            except NuvomError:
                self._is_sound = not self._staged
                raise
            if self._staged:
                self._log.append(self._staged)
                self._log.end = self._log.tail  # the table already has these entries
            self._is_sound = True
            return answer, self._log, self._news.values()
        finally:
            self._turning = 0

    def do(self, table: Table, operation: Operation | Change) -> None:
        if isinstance(operation, Added):  # one entry each, so that damage does not spread to others
            for record in operation.records:
                self._stage(table, Added([record]), Added([record]))
        elif isinstance(operation, Change):  # the log already has the record
            short = replace(operation, before=JobRecord(operation.before.id, ""))
            self._stage(table, operation, short)
        else:
            self._stage(table, operation, operation)

    def revision(self) -> int:
        """Return where the log ends, which no rewrite of it sets back; see the contract."""
        return self.turn(lambda _: self._place)

    def _stage(
        self, table: Table, operation: Operation | Change, written: Operation | Change
    ) -> None:
        table.apply(operation, self._place)
        body = _encode(written)
        self._place += HEADER_BYTES + len(body)
        self._staged.append(body)

    def _take_up(self, table: Table, at: int, body: bytes) -> None:
        """Apply a log entry."""
        try:
            operation = _decode(body)
        except msgspec.MsgspecError as error:
            self._log.set_aside(at, body, str(error))
            return
        if isinstance(operation, Change):
            row = table.rows.get(operation.before.id)
            if row is None:  # what added it is damaged
                return
            operation = replace(operation, before=row.record)
        table.apply(operation, at)

    def _catch_up(self, *, needs_table: bool) -> Table | None:
        """Read the log to its end, updating the table if there is one or one is needed."""
        if not self._is_open:
            self._open_store()
        table = self._table
        if needs_table and table is None:
            self._log.leave()
            self._log.open(first=True)
            table = Table()
        if not self._log.is_open:
            self._log.open(first=False)
        for at, body in self._log.follow():
            if table is not None:
                self._take_up(table, at, body)
        self._table = table
        return table

    def _open_store(self) -> None:
        """Forget everything read from, and known to be flushed in, a store that is gone."""
        self._table = None
        self._log.leave()
        self._log = Log(os.fspath(self.directory))
        path = os.path.join(self.directory, "boot")
        with storage_errors(path):
            noted = read_file(path) if os.path.exists(path) else b""
        if noted != boot_id().encode():  # the first use since the machine booted
            self._log.open(first=True, after_power_cut=True)
            for _ in self._log.follow():
                pass
            self._log.append([_encode(Booted())])
            self._log.sync()
            crashpoint("file.boot.noted")
            write_durably(path, boot_id().encode())
            self._log.leave()
        self._is_open = True

    def make_folders(self) -> None:
        """Create the store's folders, or refuse them if they are not safe to use.

        Raises: BackendUnavailable, StorageFull.
        """
        if self._has_folders:
            return
        with self._opening:
            ensure_lasting_folder_for(
                self.directory / "lock", root=self.settings.root, setting="file_path"
            )
            refuse_network(os.fspath(self.directory), allowed=self.settings.allow_network_fs)
            private_directory(self.directory)
            private_directory(self.directory / "log")
            # Done here, not on first use: that must not fail once a job is stored.
            self._wakeup = self._wakeup or Wakeup(self.directory)
            self._has_folders = True

    def _sync(self) -> None:
        if self._flushes:
            self._log.sync()

    # ---- enqueue --------------------------------------------------------------------------

    def enqueue(self, job: JobRecord) -> str | None:
        """Store a job; see the contract. A plain job is appended without reading the table."""
        if not self._is_plain(job):
            return super().enqueue(job)
        self._add_plain((job,), (_ADDING + job.encode(),))
        return None

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all jobs in one append, or none; see the contract."""
        if isinstance(jobs, RecordBatch) and self._is_plain(jobs.like):
            records = chain.from_iterable(jobs.chunks())
            self._add_plain((jobs.like.replace(id="batch"),), (_ADDING + one for one in records))
            return {}
        listed = list(jobs)  # the iterable may itself use this store, so consume it before the turn
        if not all(map(self._is_plain, listed)):
            return super().enqueue_many(listed)
        self._add_plain(listed, (_ADDING + one.encode() for one in listed))
        return {}

    def _is_plain(self, job: JobRecord) -> bool:
        return job.unique_key is None and self.max_queue_size is None

    def _add_plain(self, named: Sequence[JobRecord], bodies: Iterable[bytes]) -> None:
        """Append new jobs. A process with a table reads them back like anyone else's.

        Args:
            named: The jobs whose names are checked.
        """
        for job in named:
            valid_name("job id", job.id)
            valid_name("queue", job.queue)

        def add(table: Table | None) -> None:
            self._log.append(bodies)
            if table is None:
                self._log.end = self._log.tail
            self.tell_workers()

        self._turn(add, needs_table=False, durable=True)

    # ---- deliveries -----------------------------------------------------------------------

    def claim(self, n: int, owner: str, *args: Any, **options: Any) -> list[JobRecord]:
        """Lease at most ``n`` due jobs to ``owner``; see the contract."""
        self.make_folders()
        self.own_workers.lock_of(owner)  # a holder of jobs must be visibly alive
        return super().claim(n, owner, *args, **options)

    def book(self, owner: str, claimed: list[JobRecord]) -> None:
        if claimed:
            if self._table is None or self._table.is_fresh_boot:
                self._sync()  # otherwise a job that crashes the machine would never be counted
            crashpoint("file.claim.before_book")
            lock = self.own_workers.lock_of(owner)
            self.own_workers.book(lock, [(job.id, job.lease_epoch) for job in claimed])

    def mark_started(self, job: JobRecord) -> None:
        """Record in the slot file that user code starts; writes one byte of mapped memory."""
        self.own_workers.mark_started(job.id, job.lease_epoch)

    def has_started(self, job: JobRecord) -> bool:
        """Return whether this delivery to this process has started."""
        return self.own_workers.has_started(job.id, job.lease_epoch)

    def apply(self, changes: Sequence[Change]) -> list[bool]:
        """Write changes in one append; see the contract."""
        accepted = super().apply(changes)
        self.own_workers.free((one.before.id, one.before.lease_epoch) for one in changes)
        return accepted

    def extend(self, owner: str) -> dict[str, int]:
        """Renew the leases of ``owner`` and record its heartbeat; see the contract."""
        booked = self.own_workers.booked(owner)
        held = super().extend(owner)
        # A job no longer held is lost: this worker will not settle it.
        self.own_workers.free((one, epoch) for one, epoch in booked if held.get(one) != epoch)
        if held:  # a job that runs this long and crashes the machine must be counted
            self._sync()
        return held

    # ---- recovery -------------------------------------------------------------------------

    def recover(self, recovery: Recovery) -> list[JobRecord]:
        """Take back lost jobs, give up on others, and promote due ones; see the contract."""
        dead = {one.owner: one for one in find_dead(self.directory, self.own_workers.living())}
        asked_at = self.clock.monotonic()

        def take(table: Table) -> list[JobRecord]:
            self._note_stall(asked_at)
            self._dead = dead
            records = self.take_back(table, recovery)
            for owner, holder in tuple(table.holders.items()):
                is_shown = holder.known.worker is not None
                if owner in dead or (is_shown and is_gone(self.directory, owner)):
                    self.note(table, owner, worker=None, commands=())
            return records

        try:
            records = self.turn(take)
            if records:
                self._sync()
            crashpoint("file.recover.before_forget")
            for one in dead.values():
                one.forget()
        finally:
            for one in dead.values():
                one.close()
        self.tidy()
        return records

    def _note_stall(self, asked_at: float) -> None:
        """Let all workers beat first if the store was locked too long for any heartbeat."""
        now, secs = self.clock.monotonic(), beat_secs(self.lease_secs)
        if now - asked_at > secs:
            self._stalled_until = now + secs

    def lost_by(self, owner: str, holder: Holder) -> list[LostDelivery]:
        rows = list(holder.held.values())
        if not rows:
            return []
        if owner not in self._dead and not is_gone(self.directory, owner):
            now = self.clock.monotonic()
            if now < self._stalled_until or holder.known.lease_until > now:
                return []
            rows = [row for row in rows if row.lease_until <= now]
        records = [row.record for row in rows]
        if owner in self._dead:
            had_started = self._dead[owner].had_started
        else:  # for a worker that left no trace it tells nothing: all may have started
            slots = os.path.join(self.directory, "workers", f"{owner}.slots")
            had_started = read_slots(slots).started
        return [LostDelivery(one, had_started(one.id, one.lease_epoch)) for one in records]

    def tidy(self) -> None:
        """Rewrite the log once most of it no longer counts."""

        def rewrite(table: Table) -> None:
            if self._log.is_wasteful:
                self._log.rewrite(map(_encode, table.snapshot()))

        self.turn(rewrite)

    # ---- workers --------------------------------------------------------------------------

    def announce(self, worker: WorkerInfo) -> None:
        """Make a worker visible; see the contract."""
        self.make_folders()
        self.own_workers.lock_of(worker.id)
        super().announce(worker)

    def retire(self, owner: str) -> None:
        """Forget a worker that stopped cleanly; see the contract."""
        super().retire(owner)
        self.own_workers.leave(owner)

    def announced(self) -> list[WorkerInfo]:
        """Return the announced workers that are alive; see the contract."""
        return [one for one in super().announced() if is_alive(self.directory, one.id)]

    def store_size(self) -> StoreSize:
        """Return the size of the log and of the disk it is on, in bytes."""
        used = self.turn(lambda _: self._log.size)
        there = next(one for one in (self.directory, *self.directory.parents) if one.exists())
        disk = shutil.disk_usage(there)
        return StoreSize(used, disk.free, disk.total)

    def schedules(self) -> TableSchedules:
        """Return the schedules in the same folder."""
        return TableSchedules(self)

    # ---- wake-ups -------------------------------------------------------------------------

    @property
    def wakeup(self) -> Wakeup:
        """The wake-up shared by all processes that use the store."""
        while self._wakeup is None:
            self._has_folders = False
            self.make_folders()
        return self._wakeup

    def tell_workers(self, *, everyone: bool = False) -> None:
        if everyone:
            self._news["all"] = partial(self.wakeup.notify_all, "work")
        else:
            self._news["one"] = partial(self.wakeup.notify_one, "work")

    def tell_readers(self) -> None:
        self._news["results"] = partial(self.wakeup.notify_all, "result")

    def tell_schedulers(self) -> None:
        self._news["schedules"] = partial(self.wakeup.notify_all, "schedule")

    def tell_control(self) -> None:
        self._news["control"] = self.wakeup.bump
        self.tell_workers(everyone=True)

    def control_version(self) -> int:
        """Return a number that changes with every control write; see the contract."""
        return self.wakeup.version()

    def notify(self) -> None:
        """Wake one sleeping worker, in any process."""
        self.wakeup.notify_one("work")

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        """Sleep until there may be a job; see the contract."""
        return self.wakeup.wait_for_work(timeout, recheck or self.has_ready)

    def interrupt(self) -> None:
        """End every ``wait_for_work`` call on this instance."""
        if self._wakeup is not None:
            self._wakeup.interrupt()

    def waiter(self) -> AbstractContextManager[Waitable]:
        return self.wakeup.waiter()

    def schedule_waiter(self) -> AbstractContextManager[ScheduleWaiter]:
        return self.wakeup.schedule_waiter()

    # ---- opening and closing --------------------------------------------------------------

    def start(self) -> None:
        """Open the folder, so that any problem with it shows at once."""
        self.turn(lambda _: None)

    def stop(self) -> None:
        """Close everything. Other processes recover the jobs that this one still holds."""
        self.own_workers.close()
        with self._opening:
            wakeup, self._wakeup = self._wakeup, None
            self._has_folders = False
        if wakeup is not None:
            wakeup.close()
        if self._is_open:
            with suppress(BackendUnavailable, LockTimeoutError):  # it has vanished, or is locked
                self._lock.run(self._leave_log)
        self._lock.close()
        self._is_open = False
        self._log.leave()

    def _leave_log(self) -> None:
        try:
            if self._log.is_doubtful:  # the next process cannot know that
                self._log.sync()
        finally:
            self._is_open = False
            self._log.leave()
