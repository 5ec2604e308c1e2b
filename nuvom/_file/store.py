"""One process's use of a file store: its lock, its log, its table, its bells and its workers.

Every change is made in a *turn*: take the lock, read what others have appended, look at the
table, append. A process that only enqueues has no table: it appends without knowing the rest.

The log is the truth. What a turn knows of it besides, the table above all, is made anew from it
after a turn that an exception has cut short.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from threading import Lock, local
from typing import TYPE_CHECKING, TypeVar

from nuvom._file.frames import JOB, NOTE, REMOVED
from nuvom._file.log import GoneError, Log
from nuvom._file.quarantine import Quarantine
from nuvom._file.rows import Booted, Note, encode
from nuvom._file.table import Table
from nuvom._file.workers import Workers
from nuvom.config.project import ensure_lasting_folder_for
from nuvom.core.clock import boot_id
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
from nuvom.host.lock import NOTICE_SECS, FileMutex, LockTimeoutError, LockWaitNotice
from nuvom.host.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuvom._file.rows import Row
    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.errors import CorruptRecord
    from nuvom.host.worker_lock import WorkerLock

K = TypeVar("K")
T = TypeVar("T")

_PATIENCE_SECS = 60.0  # longer than any lock that is held in good order
_LOCKED_OUT = f"another process has locked it for more than {_PATIENCE_SECS:g} s"
_REMEDY = "Look for a stopped worker or command (state T in ps); let it go on, or end it."
_TRIES = 3  # against a log that somebody drops and makes anew at the same time


class FileStore:
    """The store in ``settings.files_dir``, opened at its first use.

    Attributes:
        workers: Those of this process.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.directory = settings.files_dir
        self.clock = clock
        self._locked_out = LockWaitNotice(self.directory, clock)
        self._flushes = settings.durability == "full"
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Start afresh in a forked child: the parent may be in the middle of a turn."""
        base = os.fspath(self.directory)
        self._opening = Lock()
        self.workers = Workers(self.directory)
        self._turns = local()
        self._lock = FileMutex(
            os.path.join(base, "lock"),
            keep_open=True,
            limit_secs=_PATIENCE_SECS,
            waiting=partial(_tell_of_wait, self._locked_out),
        )
        self.quarantine = Quarantine(base)
        self._log = self._new_log()
        self._has_folders = False
        self._is_open = False
        self._is_sound = True  # what is known of the log, between turns
        self._table: Table | None = None
        self._bell: Wakeup | None = None

    # ---- turns ----------------------------------------------------------------------------

    def turn(self, action: Callable[[Table], T]) -> T:
        """Hold the lock and call ``action`` with a table that is up to date; return its answer.

        What is appended inside shows in the table of the next turn.
        Raises: BackendUnavailable, StorageFull, and what ``action`` raises.
        """
        return self._turn(self._catch_up_table, action)

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

        def put(_: object) -> None:
            start = self._log.end
            entries = ((JOB, job) for job in jobs(lambda: self._table_until(start)))
            self._log.append(entries, known=self._table is None)

        self._turn(self._catch_up_table if with_table else self._catch_up, put)
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

    def _turn(self, catch_up: Callable[[], K], action: Callable[[K], T]) -> T:
        """Hold the lock, read what others have appended, and act on it."""
        begun: list[bool] = []
        for _ in range(_TRIES):
            if not self._has_folders:
                self.make_folders()
            try:
                return self._lock.run(self._act, catch_up, action, begun)
            except LockTimeoutError:
                raise BackendUnavailable(self.directory, _LOCKED_OUT, _REMEDY) from None
            except GoneError:
                pass
            except BackendUnavailable as error:
                if begun or not isinstance(error.__cause__, FileNotFoundError):
                    raise
            self._is_open = self._has_folders = False  # the whole folder has vanished
        raise BackendUnavailable(self.directory, "its files vanish again and again")

    def _act(self, catch_up: Callable[[], K], action: Callable[[K], T], begun: list[bool]) -> T:
        """Act while the lock is held; ``begun`` notes that the action has."""
        if not self._is_sound:
            self._table = None
            self._log.leave()
        self._is_sound = False
        caught_up = catch_up()
        if self._log.flusher.is_doubtful:  # whoever sees what was appended takes it for stored
            self._log.sync()
        self._turns.log = self._log
        begun.append(True)
        try:
            answer = action(caught_up)
        except NuvomError:  # before anything was changed, or undone
            self._is_sound = True
            raise
        except GoneError as error:  # too late to begin anew
            raise BackendUnavailable(self.directory, "its files have vanished") from error
        self._is_sound = True
        return answer

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
            self._bell = self._bell or Wakeup(self.directory)
            self._has_folders = True

    def _catch_up(self) -> None:
        """Follow the log to its end, without a table if there is none.

        Only whoever has the lock knows whether there is one: another thread may just have made
        it, and what it does not take up now it never will.
        """
        if self._table is not None:
            self._catch_up_table()
            return
        if not self._is_open:
            self._open_store()
        if not self._log.is_open:
            self._log.open(first=False)
        for _ in self._log.follow():
            pass

    def _catch_up_table(self) -> Table:
        """Follow the log to its end with the table, from its beginning where there is none."""
        if not self._is_open:
            self._open_store()
        table = self._table
        if table is None:
            self._log.leave()
            self._log.open(first=True)
            table = self._table = Table()
        for frame in self._log.follow():
            table.apply(frame)
        damaged, table.damaged = table.damaged, []
        with storage_errors(self.directory):
            for at, problem in damaged:
                self._log.set_aside(at, problem)
        return table

    def _open_store(self) -> None:
        """Forget all that was read, and what was known to be flushed, of a store now gone."""
        self._table = None
        self._log.close()
        self._log = self._new_log()
        self._greet_boot()
        self._is_open = True

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
        self._log.leave()

    def _new_log(self) -> Log:
        return Log(os.path.join(self.directory, "log"), self.quarantine)

    # ---- what belongs to this process ---------------------------------------------------

    @property
    def bell(self) -> Wakeup:
        """The bells of this store; they wake sleepers in all processes that use it."""
        bell = self._bell
        while bell is None:
            self.make_folders()
            bell = self._bell
        return bell

    def presence(self, owner: str) -> WorkerLock | None:
        """Return the presence of a worker, made at its first claim; None if it is elsewhere."""
        if not self._has_folders:
            self.make_folders()
        return self.workers.presence(owner)

    def close(self) -> None:
        """Give everything back. Workers of this process that still hold jobs count as dead."""
        self.workers.close()
        with self._opening:
            bell, self._bell = self._bell, None
            self._has_folders = False
        if bell is not None:
            bell.close()
        if self._is_open:
            with suppress(
                BackendUnavailable, LockTimeoutError
            ):  # the folder has vanished, or is locked
                self._lock.run(self._close_log)
        self._lock.close()
        self._is_open = False
        self._log.close()

    def _close_log(self) -> None:
        try:
            if self._log.flusher.is_doubtful:  # the next one does not know
                self._log.sync()
        finally:
            self._is_open = False
            self._log.close()


def _tell_of_wait(locked_out: LockWaitNotice, secs: float) -> None:
    if secs >= NOTICE_SECS:
        locked_out.tell(_PATIENCE_SECS)


def _content(path: str) -> str | None:
    with storage_errors(path):
        try:
            return read_file(path).decode("ascii", "replace")
        except FileNotFoundError:
            return None
