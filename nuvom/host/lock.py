"""Locks between processes that the operating system lifts when their holder dies.

``flock`` on POSIX: record locks (``fcntl``) would be lost as soon as *any* descriptor of the
file is closed. On Windows one byte far beyond the content is locked, so that the content stays
readable. Used for workers' lock files, for the checkpointer's election and by the file queue.

An exception may strike after every call of C code and at the start of every function: Ctrl-C, a
time limit. It leaves neither a lock taken nor a file open that nobody knows of; the rules are in
``docs/decisions/0019-interruptions.md``.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.host.files import open_file, persist, storage_error, storage_errors
from nuvom.host.fork import drop_at_fork
from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO
    from pathlib import Path

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_FLAGS = (
    os.O_RDWR
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)  # Windows: else it changes line ends
)

NOTICE_SECS = 5.0
"""After so long a wait it is worth a line in the log."""

_PAUSE_SECS = 0.00005
_LONG_PAUSE_SECS = 0.002
_AGAIN_SECS = 60.0
_LOG = get_logger("store")

if sys.platform == "win32":  # pragma: no cover  # needs Windows
    import msvcrt

    _LOCKED_BYTE = 1 << 30
    _RETRY_SECS = 0.005

    def _lock(descriptor: int, *, blocking: bool, shared: bool) -> bool:  # noqa: ARG001  # no such kind
        while True:
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                return True
            except PermissionError:
                if not blocking:
                    return False
            SYSTEM_CLOCK.sleep(_RETRY_SECS)  # LK_LOCK itself gives up after ten seconds

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int, *, blocking: bool, shared: bool) -> bool:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind if blocking else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        # Explicitly: a descriptor copied by a fork just now would keep the lock after a close.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class LockTimeoutError(Exception):
    """Somebody else had the lock for as long as the caller was ready to wait."""


class _LockedFile:
    """The file of a lock, opened when it is to be locked. Whoever calls keeps others out.

    Attributes:
        path: Its name.
        flags: For opening it.
    """

    _file: FileIO | None = None

    def __init__(self, path: str | Path, flags: int) -> None:
        self.path = os.fspath(path)
        self.flags = flags

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed since."""
        return self._file is not None and not self._file.closed

    def fileno(self) -> int:
        """Return the descriptor. Raises: ValueError: it is not open."""
        if self._file is None:
            raise ValueError(f"{self.path} is not open")
        return self._file.fileno()

    def lock(self, *, blocking: bool = False, shared: bool = False) -> bool:
        """Lock the file that has the name now; False when it is taken or missing.

        In that case, as when this raises, ``close`` is due.
        Raises: StorageFull, BackendUnavailable.
        """
        try:
            while True:
                file = self._file
                if file is None or file.closed:
                    # Noted before it is locked: a fork in between has to know what to close.
                    file = self._file = self._opened()
                if file is None:
                    return False
                descriptor = file.fileno()
                if not _lock(descriptor, blocking=blocking, shared=shared):
                    return False
                if _has_name(descriptor, self.path):
                    return True
                file.close()  # somebody removed it; the next one made a new file
        except OSError as error:
            raise storage_error(self.path, error) from error

    def _opened(self) -> FileIO | None:
        try:
            return open_file(self.path, self.flags)
        except FileNotFoundError:
            if self.flags & os.O_CREAT:
                raise
            return None

    def unlock(self) -> None:
        """Lift the lock and leave the file open."""
        if self._file is not None:
            _unlock(self._file.fileno())

    def close(self) -> None:
        """Lift the lock if there is one, and close the file. Twice is fine."""
        file = self._file
        if file is None or file.closed:
            return
        try:
            with suppress(OSError):  # Windows: it was not locked
                _unlock(file.fileno())
        finally:
            file.close()

    def drop(self) -> None:
        """Close the file and let the lock be: it may be the parent's of this process."""
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        self.drop()


def _has_name(descriptor: int, path: str) -> bool:
    """Whether an open file has this name."""
    try:
        named = os.lstat(path)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return opened.st_ino == named.st_ino and opened.st_dev == named.st_dev


class FileLock:
    """A lock on a file, held by this object until it gives it up. Not re-entrant.

    It has one owner: a thread that waits for it keeps others from asking. Who needs a lock for
    the length of one call uses ``FileMutex``. A forked child does not have it.

    Args:
        create: Make the file where it is missing.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self._file = _LockedFile(path, _FLAGS | (os.O_CREAT if create else 0))
        self._is_locked = False
        self._pid = os.getpid()
        self._mutex = Lock()
        drop_at_fork(self)

    @property
    def path(self) -> str:
        """The name of the file."""
        return self._file.path

    @property
    def held(self) -> bool:
        """Whether this object has the lock, in this process."""
        return self._is_locked and self._file.is_open and self._pid == os.getpid()

    def fileno(self) -> int:
        """Return the descriptor of the locked file, to read and write its content.

        Raises: ValueError: the lock is not held.
        """
        if not self.held:
            raise ValueError(f"{self.path} is not locked")
        return self._file.fileno()

    def acquire(self, *, blocking: bool = False, shared: bool = False) -> bool:
        """Take the lock.

        Args:
            blocking: Wait for it, for ever.
            shared: Together with all others that share it; on Windows, alone.
        Returns: False when somebody else has it, or this object, or when the file is missing and
        is not to be created.
        Raises: StorageFull, BackendUnavailable: the file cannot be opened or locked; a
        symbolic link is refused.
        """
        is_taken = False
        try:
            with self._mutex:
                if not (self._is_locked and self._file.is_open):
                    is_taken = self._is_locked = self._take(blocking=blocking, shared=shared)
        except BaseException:
            if is_taken:  # the exception came as the mutex was given back
                self.release()
            raise
        return is_taken

    def _take(self, *, blocking: bool, shared: bool) -> bool:
        self._is_locked = False
        try:
            if self._file.lock(blocking=blocking, shared=shared):
                return True
            self._file.close()
        except BaseException:
            self._file.close()
            raise
        return False

    def release(self) -> None:
        """Give the lock up; does nothing when it is not held. Repeat it if it was interrupted."""
        if self._pid != os.getpid():  # a child that has not yet dropped it: it is the parent's
            self.drop_in_child()
        with self._mutex:
            self._file.close()

    def move_to(self, path: str | Path) -> bool:
        """Rename the locked file, lock included.

        Returns: False when somebody else took it on the way, which only Windows, where the
        file has to be closed meanwhile, allows. Then the lock is not held.
        """
        self.fileno()
        target = os.fspath(path)
        with storage_errors(target):
            if sys.platform == "win32":  # pragma: no cover
                self.release()
                persist(partial(os.replace, self.path, target))
                self._file.path = target
                self._file.flags &= ~os.O_CREAT
                return self.acquire()
            self._rename(target)
        return True

    def _rename(self, target: str) -> None:
        try:
            os.rename(self.path, target)
        except BaseException:
            with suppress(OSError):
                if _has_name(self._file.fileno(), target):  # the exception came afterwards
                    self._file.path = target
            raise
        self._file.path = target

    def remove(self) -> None:
        """Remove the locked file and give the lock up; does nothing when it is not held."""
        try:
            if not self.held:
                return
            if sys.platform == "win32":  # pragma: no cover  # it cannot be removed while open
                self.release()
            with storage_errors(self.path), suppress(FileNotFoundError):
                persist(partial(os.unlink, self.path))
            self.release()
        except BaseException:
            self.release()
            raise

    def drop_in_child(self) -> None:
        """Close without unlocking: the lock belongs to the parent, by the same open file."""
        self._pid = os.getpid()
        self._mutex = Lock()
        self._file.drop()


class FileMutex:
    """A lock that threads and processes hold one after the other, for one call. Not re-entrant.

    Args:
        keep_open: Lock and unlock the same open file again and again, which is faster.
        limit_secs: How long to wait for the lock; by default for ever.
        waiting: Called again and again with the seconds that another process has held it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        keep_open: bool = False,
        limit_secs: float | None = None,
        waiting: Callable[[float], object] = lambda _: None,
    ) -> None:
        self._file = _LockedFile(path, _FLAGS | os.O_CREAT)
        self._keep_open = keep_open
        self._limit_secs = limit_secs
        self._mutex_secs = -1 if limit_secs is None else limit_secs  # as ``Lock.acquire`` takes it
        self._waiting = waiting
        self._mutex = Lock()
        drop_at_fork(self)

    def run(self, action: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call ``action(*args)`` while holding the lock, and return its answer.

        Whatever exception strikes, the lock is given back when this ends. A context manager could
        not promise that: its ``__exit__`` can be interrupted before it does anything.

        Raises:
            LockTimeoutError: somebody else held the lock for longer than the limit.
            StorageFull, BackendUnavailable: the file cannot be opened or locked; a symbolic link
                is refused.
            What ``action`` raises.
        """
        mutex, has_mutex = self._mutex, False
        try:
            # By unpacking: after a call an exception may strike before its answer is noted.
            (has_mutex,) = map(mutex.acquire, (True,), (self._mutex_secs,))
            if not has_mutex:
                raise LockTimeoutError(self._file.path)
            try:
                if not self._file.lock(blocking=self._limit_secs is None):
                    self._insist(self._limit_secs or 0.0)
                answer = action(*args)
                if self._keep_open:
                    self._file.unlock()
                else:
                    self._file.close()
            except BaseException:
                self._file.close()
                raise
            return answer
        finally:
            if has_mutex:
                mutex.release()

    def _insist(self, limit_secs: float) -> None:
        """Ask again and again: a wait inside the system could not be given up."""
        asked_at = now = SYSTEM_CLOCK.monotonic()
        while now - asked_at < limit_secs:
            self._waiting(now - asked_at)
            # Locks are held for moments; after a second it is something else.
            SYSTEM_CLOCK.sleep(_PAUSE_SECS if now - asked_at < 1 else _LONG_PAUSE_SECS)
            if self._file.lock():
                return
            now = SYSTEM_CLOCK.monotonic()
        raise LockTimeoutError(self._file.path)

    def close(self) -> None:
        """Close the file once nobody in this process holds the lock. Twice is fine."""
        with self._mutex:
            self._file.close()

    def drop_in_child(self) -> None:
        """Close without unlocking: the lock belongs to the parent, by the same open file."""
        self._mutex = Lock()
        self._file.drop()


class LockWaitNotice:
    """Says in the log that a store is waited for because another process has locked it.

    Locks are held for moments. One that is held for seconds belongs to a stopped process, or to
    a program that has no business there, and whoever waits should be told before the time limit
    ends the wait. At most one line a minute for each store and process.
    """

    def __init__(self, where: Path, clock: Clock) -> None:
        self._where = where
        self._clock = clock
        self._told_at = -_AGAIN_SECS

    def tell(self, limit_secs: float) -> None:
        """Write the line, unless there was one just now.

        Args:
            limit_secs: How long the wait may last in all.
        """
        now = self._clock.monotonic()
        if now - self._told_at < _AGAIN_SECS:
            return
        self._told_at = now
        log_event(
            _LOG,
            logging.WARNING,
            "storage.locked",
            f"Another process has locked {self._where} for {NOTICE_SECS:g} s now; waiting for at "
            f"most {limit_secs:g} s. It may be stopped (state T in ps), or a program that has the "
            "file open.",
            fields={"path": str(self._where)},
        )
