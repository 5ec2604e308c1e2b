"""Locks between processes that the operating system releases when their holder dies.

POSIX uses ``flock``: record locks (``fcntl``) would be lost as soon as *any* descriptor of the
file is closed. On Windows one byte far beyond the content is locked, so that the content stays
readable. Used for workers' lock files and by the file queue.

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
from nuvom.host.files import READ_WRITE, open_file, persist, storage_error, storage_errors
from nuvom.host.fork import drop_at_fork
from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO
    from pathlib import Path

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_NOTICE_SECS = 5.0
_PAUSE_SECS = 0.00005
_LONG_PAUSE_SECS = 0.002
_AGAIN_SECS = 60.0
_LOG = get_logger("store")

if sys.platform == "win32":  # pragma: no cover  # needs Windows
    import msvcrt

    _LOCKED_BYTE = 1 << 30

    def _lock(descriptor: int, *, shared: bool) -> bool:  # noqa: ARG001  # no such kind
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool) -> bool:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
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
    """

    _file: FileIO | None = None

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = os.fspath(path)
        self._creates = create
        drop_at_fork(self)

    def fileno(self) -> int:
        """Return the descriptor. Raises: ValueError: the file is not open."""
        if self._file is None:
            raise ValueError(f"{self.path} is not open")
        return self._file.fileno()

    def lock(self, *, shared: bool = False) -> bool:
        """Lock the file that has the name now; False when it is taken or missing.

        In that case, and when this raises, the caller must call ``release``.
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
                if not _lock(descriptor, shared=shared):
                    return False
                if _has_name(descriptor, self.path):
                    return True
                file.close()  # it was removed, and the next user made a new file
        except OSError as error:
            raise storage_error(self.path, error) from error

    def _opened(self) -> FileIO | None:
        if self._creates:
            return open_file(self.path, READ_WRITE | os.O_CREAT)
        with suppress(FileNotFoundError):
            return open_file(self.path, READ_WRITE)
        return None

    def unlock(self) -> None:
        """Release the lock and leave the file open."""
        if self._file is not None:
            _unlock(self._file.fileno())

    def release(self) -> None:
        """Release the lock if it is held, and close the file. Call again if interrupted."""
        file = self._file
        if file is None or file.closed:
            return
        try:
            with suppress(OSError):  # Windows: it was not locked
                _unlock(file.fileno())
        finally:
            file.close()

    def drop_in_child(self) -> None:
        """Close without unlocking: the lock belongs to the parent, by the same open file."""
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        self.drop_in_child()


def _has_name(descriptor: int, path: str) -> bool:
    """Whether an open file has this name."""
    try:
        named = os.lstat(path)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return opened.st_ino == named.st_ino and opened.st_dev == named.st_dev


class FileLock(_LockedFile):
    """A lock on a file, held by this object until it is released. Not re-entrant.

    It has one owner: threads must not share it without a lock of their own. To hold a lock for
    the length of one call, use ``FileMutex``. A forked child does not have the lock.

    Args:
        create: Create the file if it is missing.
    """

    @property
    def held(self) -> bool:
        """Whether this object has the lock, in this process."""
        return self._file is not None and not self._file.closed

    def acquire(self, *, shared: bool = False) -> bool:
        """Take the lock, without waiting for it.

        Args:
            shared: Share it with others that also share it; on Windows it is always exclusive.
        Returns: False when anyone, including this object, already holds it, or when the file is
        missing and must not be created.
        Raises: StorageFull, BackendUnavailable: the file cannot be opened or locked, or is a
        symbolic link.
        """
        if self.held:
            return False
        try:
            is_taken = self.lock(shared=shared)
            if not is_taken:
                self.release()
        except BaseException:
            self.release()
            raise
        return is_taken

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


class FileMutex:
    """A lock that threads and processes hold in turn, for one call each. Not re-entrant.

    The file stays open between the calls, until ``close``.

    Args:
        limit_secs: How long to wait for the lock.
        notice: Told of each wait for another process.
    """

    def __init__(
        self, path: str | Path, *, limit_secs: float, notice: LockWaitNotice | None = None
    ) -> None:
        self._file = _LockedFile(path)
        self._limit_secs = limit_secs
        self._notice = notice
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
            (has_mutex,) = map(mutex.acquire, (True,), (self._limit_secs,))
            if not has_mutex:
                raise LockTimeoutError(self._file.path)
            try:
                if not self._file.lock():
                    self._insist()
                answer = action(*args)
                self._file.unlock()
            except BaseException:
                self._file.release()
                raise
            return answer
        finally:
            if has_mutex:
                mutex.release()

    def _insist(self) -> None:
        """Poll for the lock, since a wait inside a system call could not be aborted."""
        asked_at = now = SYSTEM_CLOCK.monotonic()
        while now - asked_at < self._limit_secs:
            if self._notice is not None:
                self._notice.tell(now - asked_at, self._limit_secs)
            # Locks are normally held only briefly; after a second something else is going on.
            SYSTEM_CLOCK.sleep(_PAUSE_SECS if now - asked_at < 1 else _LONG_PAUSE_SECS)
            if self._file.lock():
                return
            now = SYSTEM_CLOCK.monotonic()
        raise LockTimeoutError(self._file.path)

    def close(self) -> None:
        """Close the file once nobody in this process holds the lock. Idempotent."""
        with self._mutex:
            self._file.release()

    def drop_in_child(self) -> None:
        """Forget the parent's thread that holds the lock; the file closes itself."""
        self._mutex = Lock()


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

    def tell(self, waited_secs: float, limit_secs: float) -> None:
        """Log the line if the wait has become long, unless one was logged recently.

        Args:
            waited_secs: How long the wait has lasted.
            limit_secs: How long it may last in total.
        """
        now = self._clock.monotonic()
        if waited_secs < _NOTICE_SECS or now - self._told_at < _AGAIN_SECS:
            return
        self._told_at = now
        log_event(
            _LOG,
            logging.WARNING,
            "storage.locked",
            f"Another process has locked {self._where} for {_NOTICE_SECS:g} s now; waiting for at "
            f"most {limit_secs:g} s. It may be stopped (state T in ps), or a program that has the "
            "file open.",
            fields={"path": str(self._where)},
        )
