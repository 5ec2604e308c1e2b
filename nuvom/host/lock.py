"""Locks between processes that the operating system releases when their holder dies.

POSIX uses ``flock``: record locks (``fcntl``) would be lost as soon as *any* descriptor of the
file is closed. On Windows one byte far beyond the content is locked, so that the content stays
readable. Used for workers' lock files, for the checkpointer's election and by the file queue.

An exception such as Ctrl-C or a time limit may be raised after every C call and at the start of
every function. It must not leak a held lock or an open file; the rules are in
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
    | getattr(os, "O_BINARY", 0)  # Windows: otherwise it converts line endings
)

NOTICE_SECS = 5.0
"""How long a wait lasts before it is logged."""

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
        # Unlock explicitly: a descriptor just copied by a fork would keep the lock after a close.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class LockTimeoutError(Exception):
    """Another holder kept the lock for as long as the caller was willing to wait."""


class _LockedFile:
    """The file of a lock, opened when it is to be locked. Callers must serialize access.

    Attributes:
        path: Its name.
        flags: The flags for opening it.
    """

    _file: FileIO | None = None

    def __init__(self, path: str | Path, flags: int) -> None:
        self.path = os.fspath(path)
        self.flags = flags

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return self._file is not None and not self._file.closed

    def fileno(self) -> int:
        """Return the descriptor. Raises: ValueError: it is not open."""
        if self._file is None:
            raise ValueError(f"{self.path} is not open")
        return self._file.fileno()

    def lock(self, *, blocking: bool = False, shared: bool = False) -> bool:
        """Lock the file that has the name now; False when it is taken or missing.

        In that case, and when this raises, the caller must call ``close``.
        Raises: StorageFull, BackendUnavailable.
        """
        try:
            while True:
                file = self._file
                if file is None or file.closed:
                    # Set before it is locked: a fork in between has to know what to close.
                    file = self._file = self._opened()
                if file is None:
                    return False
                descriptor = file.fileno()
                if not _lock(descriptor, blocking=blocking, shared=shared):
                    return False
                if _has_name(descriptor, self.path):
                    return True
                file.close()  # it was removed, and the next user made a new file
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
        """Release the lock and leave the file open."""
        if self._file is not None:
            _unlock(self._file.fileno())

    def close(self) -> None:
        """Release the lock if it is held, and close the file. Idempotent."""
        file = self._file
        if file is None or file.closed:
            return
        try:
            with suppress(OSError):  # Windows: it was not locked
                _unlock(file.fileno())
        finally:
            file.close()

    def drop(self) -> None:
        """Close the file without unlocking: the lock may belong to this process's parent."""
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
    """A lock on a file, held by this object until it is released. Not re-entrant.

    It has one owner: while a thread waits for it, other threads cannot use the object. To hold a
    lock for the length of one call, use ``FileMutex``. A forked child does not have the lock.

    Args:
        create: Create the file if it is missing.
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
        """Return the descriptor of the locked file, for reading and writing its content.

        Raises: ValueError: the lock is not held.
        """
        if not self.held:
            raise ValueError(f"{self.path} is not locked")
        return self._file.fileno()

    def acquire(self, *, blocking: bool = False, shared: bool = False) -> bool:
        """Take the lock.

        Args:
            blocking: Wait for it, without a limit.
            shared: Share it with others that also share it; on Windows it is always exclusive.
        Returns: False when anyone, including this object, already holds it, or when the file is
        missing and must not be created.
        Raises: StorageFull, BackendUnavailable: the file cannot be opened or locked, or is a
        symbolic link.
        """
        is_taken = False
        try:
            with self._mutex:
                if not (self._is_locked and self._file.is_open):
                    is_taken = self._is_locked = self._take(blocking=blocking, shared=shared)
        except BaseException:
            if is_taken:  # the exception came while the mutex was released
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
        """Release the lock if it is held. Call it again if it was interrupted."""
        if self._pid != os.getpid():  # a child that has not dropped it yet: it is the parent's
            self.drop_in_child()
        with self._mutex:
            self._file.close()

    def move_to(self, path: str | Path) -> bool:
        """Rename the locked file, lock included.

        Returns: False when someone else took it in between; then the lock is not held. This can
        only happen on Windows, where the file has to be closed for the rename.
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
                if _has_name(self._file.fileno(), target):  # the exception came after the rename
                    self._file.path = target
            raise
        self._file.path = target

    def remove(self) -> None:
        """Remove the locked file and release the lock; does nothing when it is not held."""
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
    """A lock that threads and processes hold in turn, for one call each. Not re-entrant.

    Args:
        keep_open: Reuse the same open file for every call, which is faster.
        limit_secs: How long to wait for the lock; by default forever.
        waiting: Called repeatedly with the seconds that another process has held it.
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
        self._mutex_secs = -1 if limit_secs is None else limit_secs  # as ``Lock.acquire`` wants it
        self._waiting = waiting
        self._mutex = Lock()
        drop_at_fork(self)

    def run(self, action: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call ``action(*args)`` while holding the lock, and return its answer.

        Whatever exception is raised, the lock is released when this ends. A context manager could
        not guarantee that: its ``__exit__`` can be interrupted before it does anything.

        Raises:
            LockTimeoutError: someone else held the lock for longer than the limit.
            StorageFull, BackendUnavailable: the file cannot be opened or locked, or is a
                symbolic link.
            What ``action`` raises.
        """
        mutex, has_mutex = self._mutex, False
        try:
            # By unpacking: after a plain call, an exception may come before its result is stored.
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
        """Poll for the lock, since a wait inside a system call could not be aborted."""
        asked_at = now = SYSTEM_CLOCK.monotonic()
        while now - asked_at < limit_secs:
            self._waiting(now - asked_at)
            # Locks are normally held only briefly; after a second something else is going on.
            SYSTEM_CLOCK.sleep(_PAUSE_SECS if now - asked_at < 1 else _LONG_PAUSE_SECS)
            if self._file.lock():
                return
            now = SYSTEM_CLOCK.monotonic()
        raise LockTimeoutError(self._file.path)

    def close(self) -> None:
        """Close the file once nobody in this process holds the lock. Idempotent."""
        with self._mutex:
            self._file.close()

    def drop_in_child(self) -> None:
        """Close without unlocking: the lock belongs to the parent, by the same open file."""
        self._mutex = Lock()
        self._file.drop()


class LockWaitNotice:
    """Logs that this process waits for a store that another process has locked.

    Locks are held briefly. A lock held for seconds belongs to a stopped process or to a program
    that should not use the store. The user should learn of it before the time limit ends the wait.
    At most one line a minute for each store and process.
    """

    def __init__(self, where: Path, clock: Clock) -> None:
        self._where = where
        self._clock = clock
        self._told_at = -_AGAIN_SECS

    def tell(self, limit_secs: float) -> None:
        """Log the line, unless one was logged recently.

        Args:
            limit_secs: How long the wait may last in total.
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
