"""Connections and transactions of one SQLite file that many processes share.

One connection writes, under one lock per process; readers have their own connections. This module
waits for other processes' locks itself, because SQLite's busy handler sleeps far too long between
attempts. It knows nothing about jobs.

Sources of the rules (locks, checkpoints, pragmas): the SQLite documentation on WAL mode and on
file locking, and the measurements in ``docs/decisions/0001-one-sqlite-file.md``.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from nuvom.config.project import create_private_file, ensure_lasting_folder_for
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import BackendUnavailable, NuvomError
from nuvom.host.crashpoint import crashpoint
from nuvom.host.files import refuse_network, storage_errors, sync_directory
from nuvom.host.fork import drop_at_fork, rest_at_fork
from nuvom.host.lock import LockWaitNotice
from nuvom.queue_backends.sqlite.checkpoint import TRIGGER_BYTES, Checkpointer
from nuvom.queue_backends.sqlite.errors import (
    BUSY_SECS,
    QUICK_CHECK,
    damaged,
    flush_log,
    forget_note,
    has_note,
    is_busy,
    is_damage,
    is_failed_flush,
    note_damage,
    translate,
)
from nuvom.queue_backends.sqlite.schema import is_prepared, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock

T = TypeVar("T")

_NAP_SECS = (0.0001, 0.0005)  # random in between, so that two waiters do not stay in step
_FORK_LOOK_SECS = 0.0005
_OLDEST_SQLITE = (3, 38, 0)  # the first in which JSON is always built in

_PRAGMAS = (
    "wal_autocheckpoint = 0",
    f"journal_size_limit = {TRIGGER_BYTES}",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",
)

# A forked child must neither use nor close its parent's connections: closing would drop the
# parent's locks on the file. Keeping them here prevents garbage collection.
_inherited: list[sqlite3.Connection] = []


class Database:
    """One SQLite file. Opened on first use; usable from any thread; a forked child reopens it.

    Attributes:
        path: The file.
        directory: Holds the locks, wake-ups and workers' files of this store.
    """

    def __init__(self, path: Path, settings: Settings, clock: Clock, *, setting: str) -> None:
        self.path = path
        self.directory = path.with_name(f"{path.name}.d")
        self._settings = settings
        self._setting = setting
        self._clock = clock
        self._locked_out = LockWaitNotice(path, clock)
        self._is_full = settings.durability == "full"
        self._flushes: bool | None = False  # the writer's current PRAGMA synchronous
        self._owes_flush = False  # this process committed something without a flush
        self._has_failed = False  # a flush failed: commits may not reach the device
        self._damage = ""  # what is wrong with the file; if set, nothing is written to it
        self._watchers = 0  # how many there have been
        self._begin()
        drop_at_fork(self)
        rest_at_fork(self)

    def _begin(self) -> None:
        """Reset to no connections and fresh, unheld locks."""
        self._mutex = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []  # idle ones
        self._watcher: sqlite3.Connection | None = None  # see ``changes``
        self._lending = threading.RLock()  # held during a fork
        self._users: set[object] = set()  # one token for each reader in use
        self.checkpointer = Checkpointer(self.path, self.connect, self._clock, self._note_failure)

    # ---- writing ------------------------------------------------------------------------

    def write(self, action: Callable[[sqlite3.Connection], T], *, flush: bool = True) -> T:
        """Run ``action`` with the writing connection; retry while the file is locked.

        ``action`` must be a single autocommit statement, or safe to repeat as a whole.

        Args:
            flush: Survive a power cut (with ``durability = full``). Without it, the change
                survives the death of any process, and the next flushed change makes it survive
                a power cut too.
        Raises: BackendUnavailable, also when the file is damaged; StorageFull.
        """
        with self._mutex:
            connection = self._ready_writer(flush=flush)
            try:
                result = action(connection)
            except sqlite3.Error as error:
                result = self._patiently(partial(action, connection), error)
        self.checkpointer.after_commit()
        return result

    def execute(self, sql: str, parameters: Sequence[Any], *, flush: bool = True) -> int:
        """Run a single statement as ``write`` does; return how many rows it has changed."""
        with self._mutex:
            connection = self._ready_writer(flush=flush)
            try:
                cursor = connection.execute(sql, parameters)
            except sqlite3.Error as error:
                cursor = self._patiently(partial(connection.execute, sql, parameters), error)
        self.checkpointer.after_commit()
        return cursor.rowcount

    def _ready_writer(self, *, flush: bool) -> sqlite3.Connection:
        connection = self._writer or self._writer_connection()
        if self._has_failed:
            if self._damage:
                self._look_again(connection)
            self._flush_log(connection)
        if self._is_full:
            # Owed until closing: a write without changes does not flush.
            self._owes_flush = self._owes_flush or not flush
            if flush != self._flushes:
                self._set_flush(connection, flush=flush)
        return connection

    def _set_flush(self, connection: sqlite3.Connection, *, flush: bool) -> None:
        self._flushes = None  # unknown, should an exception strike in between
        connection.execute(f"PRAGMA synchronous = {'FULL' if flush else 'NORMAL'}")
        self._flushes = flush

    def transaction(self, action: Callable[[sqlite3.Connection], T], *, flush: bool = True) -> T:
        """Run ``action`` between BEGIN IMMEDIATE and COMMIT; roll back if it raises."""

        def whole(connection: sqlite3.Connection) -> T:
            with connection:  # commits, or rolls back if anything is raised
                connection.execute("BEGIN IMMEDIATE")
                result = action(connection)
                crashpoint("sqlite.transaction.before_commit")
            return result

        return self.write(whole, flush=flush)

    # ---- reading ------------------------------------------------------------------------

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of one query; its snapshot is closed when this returns.

        Does not create a missing file: it has no rows.
        """
        if self._writer is None and not self.path.exists():
            return []
        lent: list[sqlite3.Connection] = []
        user = object()
        try:
            with self._lending:
                self._users.add(user)
            try:
                lent.append(self._readers.pop())
            except IndexError:
                lent.append(self._open_reader())
            return lent[0].execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            return self._patiently(lambda: lent[0].execute(sql, parameters).fetchall(), error)
        finally:
            try:
                self._readers.extend(lent)
            finally:
                self._users.discard(user)

    def read_one(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row of one query, or None."""
        rows = self.read(sql, parameters)
        return rows[0] if rows else None

    def changes(self) -> tuple[int, int]:
        """Return numbers that change with each commit of any process.

        SQLite tells each connection only of the commits of others, so one is kept for this alone.
        """
        if self._writer is None and not self.path.exists():
            return 0, 0
        with self._mutex:
            watcher = self._watcher
            if watcher is None:
                watcher = self._watcher = self._open_reader()
                self._watchers += 1
            query = partial(watcher.execute, "PRAGMA data_version")
            ((version,),) = self._patiently(lambda: query().fetchall())
            return self._watchers, version

    def connect(self) -> sqlite3.Connection:
        """Return a new connection with the store's pragmas; the caller closes it.

        Raises: sqlite3.Error, also while another process creates the file.
        """
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._is_full else 'NORMAL'}")
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def check_leads_here(self, connection: sqlite3.Connection) -> None:
        """Check that somebody else's connection is one to this file. Raises: TypeError."""
        files = {row[1]: row[2] for row in connection.execute("PRAGMA database_list")}
        if not files["main"] or not os.path.samefile(files["main"], self.path):
            raise TypeError(
                f"connection leads to {files['main'] or 'a database in memory'}, but the jobs are "
                f"in {self.path}; set sqlite_path to the application's file"
            )

    # ---- opening and closing ------------------------------------------------------------

    def open(self) -> None:
        """Open the file, creating it if needed. Called automatically on first use."""
        with self._mutex:
            self._writer_connection()

    def check(self) -> None:
        """Check the whole file, if it exists; see ``QUICK_CHECK``.

        Raises: BackendUnavailable: it is damaged; from then on nothing is written to it.
        """
        for (found,) in self.read(QUICK_CHECK):
            if found != "ok":
                self._refuse(found)
                raise damaged(self.path, found)

    def close(self) -> None:
        """Close all connections; the next use reopens them."""
        with self._mutex:
            self.checkpointer.close()
            self._close_connections()

    def _writer_connection(self) -> sqlite3.Connection:
        if self._writer is None:
            self._flushes = True  # as ``connect`` leaves it
            self._writer = self._open_writer()
        return self._writer

    def _open_writer(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise BackendUnavailable(
                self.path,
                f"this Python has SQLite {sqlite3.sqlite_version}; 3.38 or newer is needed",
                "Use a newer Python, or the file backend (setting queue_backend).",
            )
        ensure_lasting_folder_for(self.path, root=self._settings.root, setting=self._setting)
        refuse_network(str(self.path.parent), allowed=self._settings.allow_network_fs)
        create_private_file(self.path, setting=self._setting)
        return self._patiently(self._connect_to_tables)

    def _connect_to_tables(self) -> sqlite3.Connection:
        connection = self.connect()
        try:
            if has_note(self.directory):
                self._look_again(connection)
            is_ready = is_prepared(connection, self.path)
            mode = self._settings.sqlite_journal_mode
            connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
            if not is_ready:
                prepare(connection, self.path)
            # The log is new; SQLite flushes its directory entry, and ignores a failure.
            with storage_errors(self.path), suppress(PermissionError):
                sync_directory(self.path.parent)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_reader(self) -> sqlite3.Connection:
        self.open()
        connection = self._patiently(self.connect)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _close_connections(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and not self._damage and (self._owes_flush or self._has_failed):
            # SQLite flushes when the last connection closes, and ignores a failure.
            with suppress(NuvomError):
                self._flush_log(writer)
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()
        while self._readers:
            self._readers.pop().close()
        if writer is not None:
            writer.close()

    # ---- forks --------------------------------------------------------------------------

    def hold_for_fork(self) -> None:
        """Close all connections and let no thread open one until ``go_on_after_fork``.

        SQLite tracks its locks per process, and a fork copies that record without the locks: a
        child would mistake its parent's locks for its own, or wait for a mutex that another
        thread of the parent held.
        """
        self._lending.acquire()
        while self._users:  # readers are returned without the lock
            SYSTEM_CLOCK.sleep(_FORK_LOOK_SECS)
        self._mutex.acquire()
        self.checkpointer.hold()
        self._close_connections()

    def go_on_after_fork(self) -> None:
        """Let the parent's threads continue; they reopen what they need."""
        self.checkpointer.go_on()
        for lock in (self._mutex, self._lending):
            with suppress(RuntimeError):  # not held: an exception came first
                lock.release()

    def drop_in_child(self) -> None:
        """Forget the parent's connections and locks without touching them."""
        _inherited.extend(self._readers)
        _inherited.extend(self.checkpointer.connections)
        _inherited.extend(one for one in (self._writer, self._watcher) if one is not None)
        self._begin()

    # ---- waiting and errors -------------------------------------------------------------

    def _patiently(self, action: Callable[[], T], error: sqlite3.Error | None = None) -> T:
        """Retry ``action`` until no lock is in its way; return its result.

        Args:
            error: Error of a first attempt by the caller, which is cheaper when it succeeds.
        Raises: BackendUnavailable, StorageFull: any other error.
        """
        began = self._clock.monotonic()
        while True:
            if error is not None:
                self._wait_after(error, began)
            try:
                return action()
            except sqlite3.Error as latest:
                error = latest

    def _wait_after(self, error: sqlite3.Error, began: float) -> None:
        """Sleep a moment before another attempt, or raise our own error if there is no point."""
        waited_secs = self._clock.monotonic() - began
        if not is_busy(error) or waited_secs > BUSY_SECS:
            self._note_failure(error)
            raise translate(error, self.path, self._setting) from error
        self._locked_out.tell(waited_secs, BUSY_SECS)
        self._clock.sleep(random.uniform(*_NAP_SECS))  # noqa: S311  # only spreads waiters

    def _note_failure(self, error: sqlite3.Error) -> None:
        self._has_failed = self._has_failed or is_failed_flush(error)
        if is_damage(error):
            self._refuse(str(error))

    def _refuse(self, damage: str) -> None:
        """Stop writing, in every process, until the whole file has been checked again."""
        self._damage = damage
        self._has_failed = True
        note_damage(self.directory, damage)

    def _look_again(self, connection: sqlite3.Connection) -> None:
        """Continue only if the file is sound: a process has found damage in it.

        It may have been replaced by a backup, or SQLite may have taken a failed read for damage.
        """
        ((found,),) = self._patiently(lambda: connection.execute(QUICK_CHECK).fetchall())
        if found != "ok":
            raise damaged(self.path, found)
        forget_note(self.directory)
        self._damage = ""

    def _flush_log(self, connection: sqlite3.Connection) -> None:
        """Make sure all commits are on the device, even if earlier flushes failed."""
        if not self._has_failed:
            try:
                flush_log(self.path, again=False)
            except OSError:
                self._has_failed = True
        if self._has_failed:
            with storage_errors(self.path), connection:
                self._patiently(partial(connection.execute, "BEGIN IMMEDIATE"))
                flush_log(self.path, again=True)
        self._has_failed = self._owes_flush = False
