"""One process's use of a file store: its lock, its log, its table, its bells and its workers.

Every change is made in a *turn*: take the lock, read what others have appended, look at the
table, append. A process that only enqueues has no table: it appends without knowing the rest.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from threading import Lock, local
from typing import TYPE_CHECKING, TypeVar

from nuvom._doorbell import Doorbell
from nuvom._durable import private_directory, storage_errors, write_durably
from nuvom._file.frames import JOB, NOTE, REMOVED
from nuvom._file.log import GoneError, Log
from nuvom._file.quarantine import Quarantine
from nuvom._file.rows import Booted, Note, encode
from nuvom._file.table import Table
from nuvom._filesystem import refuse_network
from nuvom._fork import drop_at_fork
from nuvom._locked_out import NOTICE_SECS, LockedOut
from nuvom._lockfile import FileLock
from nuvom._presence import Presence, is_alive
from nuvom.clock import boot_id
from nuvom.crashpoint import crashpoint
from nuvom.errors import BackendUnavailable, NuvomError
from nuvom.project import ensure_lasting_folder_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nuvom._file.rows import Row
    from nuvom.clock import Clock
    from nuvom.config import Settings
    from nuvom.errors import CorruptRecord

T = TypeVar("T")

_PATIENCE_SECS = 60.0  # longer than any lock that is held in good order
_TRIES = 3  # against a log that somebody drops and makes anew at the same time


class FileStore:
    """The store in ``settings.files_dir``, opened at its first use.

    Attributes:
        marks: For each job claimed here, its epoch, its owner's presence, and its slot.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.directory = settings.files_dir
        self.clock = clock
        self._locked_out = LockedOut(self.directory, clock)
        self._flushes = settings.durability == "full"
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Start afresh in a forked child: the parent may be in the middle of a turn."""
        base = os.fspath(self.directory)
        self._mutex = Lock()
        self._opening = Lock()
        self._turns = local()
        self._lock = FileLock(os.path.join(base, "lock"), keep_open=True)
        self.quarantine = Quarantine(base)
        self._log = self._new_log()
        self._has_folders = False
        self._is_open = False
        self._table: Table | None = None
        self._bell: Doorbell | None = None
        self._presences: dict[str, Presence] = {}
        self.marks: dict[str, tuple[int, Presence, int]] = {}

    # ---- turns ----------------------------------------------------------------------------

    @contextmanager
    def turn(self) -> Iterator[Table]:
        """Hold the lock, with a table that is up to date.

        What is appended inside shows in the table of the next turn.
        Raises: BackendUnavailable, StorageFull.
        """
        table = self._begin(self._catch_up_table)
        try:
            yield table
        except NuvomError:
            raise
        except BaseException:
            self._table = None  # what was interrupted may have taken something off it
            self._log.close()
            raise
        finally:
            self._lock.release()

    @property
    def log(self) -> Log:
        """The log, to be read inside a turn."""
        return self._log

    def append(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Append entries, inside a turn: all or none. They outlive this process."""
        self._log.append(entries)

    def note(self, *notes: Note) -> None:
        """Append notes, inside a turn."""
        self._log.append([(NOTE, encode(note)) for note in notes])

    def remove_damaged(self, row: Row, error: CorruptRecord) -> None:
        """Set a job's damaged record aside and go on without the job, inside a turn."""
        with storage_errors(self.directory):
            self._log.set_aside(row.at, f"the record of job {row.id}: {error.reason}")
        self._log.append([(REMOVED, encode([row.id]))])

    def flush(self) -> None:
        """After a turn: return when what was appended is as durable as the settings say.

        Raises: BackendUnavailable: it may not be; a later call tries again.
        """
        if self._flushes:
            self._turns.log.sync()  # the log of the turn, also when it was closed since

    def add(
        self, jobs: Callable[[Callable[[], Table]], Iterable[bytes]], *, with_table: bool = False
    ) -> None:
        """Append jobs, encoded, as they come: all or, when making them fails, none.

        Args:
            jobs: Called with the lock held, with a function that gives the table.
            with_table: It will be wanted. Otherwise it is made only if it is.
        Raises: BackendUnavailable, StorageFull, and what ``jobs`` raises.
        """
        self._begin(lambda: self._catch_up(with_table=with_table))
        try:
            start = self._log.end
            entries = ((JOB, job) for job in jobs(lambda: self._table_until(start)))
            self._log.append(entries, known=self._table is None)
        finally:
            self._lock.release()
        self.flush()

    def _table_until(self, place: int) -> Table:
        if self._table is not None:
            return self._table
        log, table = self._new_log(), Table()
        log.open(first=True)
        try:
            for frame in log.follow(until=place):
                table.apply(frame)
        finally:
            log.close()
        return table

    def _begin(self, catch_up: Callable[[], T]) -> T:
        """Take the lock and read what others have appended."""
        for _ in range(_TRIES):
            self.make_folders()
            if not self._take_lock():
                self._close_files()
                continue
            try:
                caught_up = catch_up()
                if self._log.is_doubtful:  # whoever sees what was appended takes it for stored
                    self._log.sync()
                self._turns.log = self._log
                return caught_up
            except GoneError:
                self._close_files()
            except BaseException:
                self._table = None  # it may have taken up half of something
                self._log.close()
                self._lock.release()
                raise
        raise BackendUnavailable(self.directory, "its files vanish again and again")

    def _take_lock(self) -> bool:
        """Take the lock; False when the whole folder has vanished."""
        try:
            has_lock = self._lock.acquire(blocking=True, limit_secs=NOTICE_SECS)
            if not has_lock:
                self._locked_out.tell(_PATIENCE_SECS)
                rest_secs = _PATIENCE_SECS - NOTICE_SECS
                has_lock = self._lock.acquire(blocking=True, limit_secs=rest_secs)
        except BackendUnavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise
        if not has_lock:
            raise BackendUnavailable(
                self.directory,
                f"another process has locked it for more than {_PATIENCE_SECS:g} s",
                "Look for a stopped worker or command (state T in ps); let it go on, or end it.",
            )
        return True

    def make_folders(self) -> None:
        """Make the store's folders, or refuse them where they are not safe to use.

        Raises: BackendUnavailable, StorageFull.
        """
        if self._has_folders:
            return
        with self._opening:
            base = os.fspath(self.directory)
            ensure_lasting_folder_for(
                self.directory / "lock", root=self.settings.root, setting="file_path"
            )
            refuse_network(base, allowed=self.settings.allow_network_fs)
            private_directory(base)
            private_directory(os.path.join(base, "log"))
            # Here and not at the first ring, which must not fail when a job is already stored.
            self._bell = self._bell or Doorbell(self.directory)
            self._has_folders = True

    def _catch_up(self, *, with_table: bool) -> None:
        """Follow the log to its end, without a table if there is none and none is wanted.

        Only whoever has the lock knows whether there is one: another thread may just have made
        it, and what it does not take up now it never will.
        """
        if with_table or self._table is not None:
            self._catch_up_table()
            return
        self._open_log(first=False)
        for _ in self._log.follow():
            pass

    def _catch_up_table(self) -> Table:
        """Follow the log to its end with the table, from its beginning where there is none."""
        table = self._table
        if table is None:
            self._log.close()
            table = self._table = Table()
        self._open_log(first=True)
        for frame in self._log.follow():
            table.apply(frame)
        damaged, table.damaged = table.damaged, []
        with storage_errors(self.directory):
            for at, problem in damaged:
                self._log.set_aside(at, problem)
        return table

    def _open_log(self, *, first: bool) -> None:
        if not self._is_open:
            self._greet_boot()
            self._is_open = True
        if not self._log.is_open:
            self._log.open(first=first)

    def _greet_boot(self) -> None:
        """At the first use since the machine was started: repair what a power cut left."""
        path = os.path.join(self.directory, "boot")
        if _content(path) == boot_id():
            return
        self._log.open(first=False)
        self._log.cut_unflushed()
        for _ in self._log.follow():
            pass
        self._log.append([(NOTE, encode(Booted(boot_id())))], known=True)
        self._log.sync()
        crashpoint("file.boot.noted")
        write_durably(path, boot_id().encode())
        self._log.close()

    def _new_log(self) -> Log:
        return Log(os.path.join(self.directory, "log"), self.quarantine)

    def _close_files(self) -> None:
        """Forget all that was read, and what was known to be flushed; gives the lock up."""
        self._is_open = self._has_folders = False
        self._table = None
        self._log.close()
        self._log = self._new_log()
        self._lock.close()

    # ---- what belongs to this process ---------------------------------------------------

    @property
    def bell(self) -> Doorbell:
        """The bells of this store; they wake sleepers in all processes that use it."""
        bell = self._bell
        while bell is None:
            self.make_folders()
            bell = self._bell
        return bell

    def presence(self, owner: str) -> Presence | None:
        """Return the presence of a worker, made at its first claim; None if it is elsewhere."""
        found = self._presences.get(owner)
        if found is None:
            with self._mutex:
                found = self._presences.get(owner) or self._enter(owner)
        return found

    def _enter(self, owner: str) -> Presence | None:
        self.make_folders()
        if is_alive(self.directory, owner):
            return None
        presence = self._presences[owner] = Presence.enter(self.directory, owner)
        return presence

    def leave(self, owner: str) -> None:
        """End a worker's presence in good order; harmless when it has none here."""
        with self._mutex:
            presence = self._presences.pop(owner, None)
        if presence is not None:
            presence.leave()

    def book(self, owner: str, claimed: list[tuple[str, int]]) -> None:
        """Give claimed jobs, as ids and epochs, slots in which their start can be marked."""
        presence = self.presence(owner)
        if presence is not None:
            indexes = presence.book(claimed)
            for (job_id, epoch), index in zip(claimed, indexes, strict=True):
                self.marks[job_id] = (epoch, presence, index)

    def unbook(self, ended: Iterable[tuple[str, int]]) -> None:
        """Let the slots of jobs be used again; only after their end is committed."""
        for job_id, epoch in ended:
            mark = self.marks.get(job_id)
            if mark is not None and mark[0] == epoch:
                del self.marks[job_id]
                mark[1].free((mark[2],))

    def close(self) -> None:
        """Give everything back. Workers of this process that still hold jobs count as dead."""
        with self._mutex:
            presences, self._presences = self._presences, {}
            marks, self.marks = self.marks, {}
            bell, self._bell = self._bell, None
            self._has_folders = False
        holding = {presence.owner for _, presence, _ in marks.values()}
        for presence in presences.values():
            if presence.owner in holding:
                presence.abandon()
            else:
                presence.leave()
        if bell is not None:
            bell.close()
        if self._is_open:
            with suppress(BackendUnavailable):  # the folder has vanished, and all turns with it
                self._lock.acquire(blocking=True)  # a turn of another thread comes to its end
                if self._log.is_open and self._log.is_doubtful:  # the next one does not know
                    self._log.sync()
            self._close_files()


def _content(path: str) -> str | None:
    with storage_errors(path):
        try:
            with open(path, encoding="ascii", errors="replace") as stream:
                return stream.read()
        except FileNotFoundError:
            return None
