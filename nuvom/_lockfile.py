"""A lock between processes that the operating system lifts when its holder dies.

``flock`` on POSIX: record locks (``fcntl``) would be lost as soon as *any* descriptor of the
file is closed. On Windows one byte far beyond the content is locked, so that the content stays
readable. Used for workers' lock files, for the checkpointer's election and by the file queue.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Self

from nuvom._durable import persist, storage_error, storage_errors
from nuvom._fork import drop_at_fork
from nuvom.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS = (
    os.O_RDWR
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)  # Windows: else it changes line ends
)

_NAP_SECS = 0.00005
_LONG_NAP_SECS = 0.002

if sys.platform == "win32":  # pragma: no cover  # needs Windows
    import msvcrt

    _LOCKED_BYTE = 1 << 30
    _RETRY_SECS = 0.005

    def _lock(descriptor: int, *, blocking: bool) -> bool:
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

    def _lock(descriptor: int, *, blocking: bool) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        # Explicitly: a descriptor copied by a fork just now would keep the lock after a close.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class FileLock:
    """An exclusive lock on a file, against threads as well as processes. Not re-entrant.

    As a context manager it waits for the lock. A forked child does not have it.

    Args:
        create: Make the file where it is missing.
        keep_open: Lock and unlock the same open file again and again, which is faster.
    """

    _idle: int | None = None
    _descriptor: int | None = None

    def __init__(self, path: str | Path, *, create: bool = True, keep_open: bool = False) -> None:
        self.path = os.fspath(path)
        self._flags = _FLAGS | (os.O_CREAT if create else 0)
        self._keep_open = keep_open
        self._pid = os.getpid()
        self._mutex = Lock()
        drop_at_fork(self)

    @property
    def held(self) -> bool:
        """Whether this object has the lock, in this process."""
        return self._descriptor is not None and self._pid == os.getpid()

    def fileno(self) -> int:
        """Return the descriptor of the locked file, to read and write its content.

        Raises: ValueError: the lock is not held.
        """
        if self._descriptor is None:
            raise ValueError(f"{self.path} is not locked")
        return self._descriptor

    def acquire(self, *, blocking: bool = False, limit_secs: float | None = None) -> bool:
        """Take the lock.

        Args:
            blocking: Wait for it, for ever or ``limit_secs`` seconds.
        Returns: False when somebody else has it, or when the file is missing and is not to be
        created.
        Raises: StorageFull, BackendUnavailable: the file cannot be opened or locked; a
        symbolic link is refused.
        """
        if blocking and limit_secs is not None:
            return self.acquire() or self._insist(limit_secs)
        if not self._mutex.acquire(blocking):
            return False
        try:
            self._descriptor = self._open_locked(blocking=blocking)
        except OSError as error:
            raise storage_error(self.path, error) from error
        finally:
            if self._descriptor is None:
                self._mutex.release()
        return self._descriptor is not None

    def _insist(self, limit_secs: float) -> bool:
        """Ask again and again: a wait inside the system could not be given up."""
        asked_at = now = SYSTEM_CLOCK.monotonic()
        while now - asked_at < limit_secs:
            # Locks are held for moments; after a second it is something else.
            SYSTEM_CLOCK.sleep(_NAP_SECS if now - asked_at < 1 else _LONG_NAP_SECS)
            if self.acquire():
                return True
            now = SYSTEM_CLOCK.monotonic()
        return False

    def release(self) -> None:
        """Give the lock up; does nothing when it is not held."""
        if self._pid != os.getpid():  # a child that has not yet dropped it: it is the parent's
            self.drop_in_child()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            _unlock(descriptor)
        finally:
            if self._keep_open:
                self._idle = descriptor
            else:
                os.close(descriptor)
            self._mutex.release()

    def close(self) -> None:
        """Give the lock up and close a file that was kept open. Twice is fine."""
        self.release()
        idle, self._idle = self._idle, None
        if idle is not None:
            os.close(idle)

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
                persist(lambda: os.replace(self.path, target))
                self.path = target
                self._flags &= ~os.O_CREAT
                return self.acquire()
            os.rename(self.path, target)
        self.path = target
        return True

    def remove(self) -> None:
        """Remove the locked file and give the lock up; does nothing when it is not held."""
        if not self.held:
            return
        if sys.platform == "win32":  # pragma: no cover  # an open file cannot be removed there
            self.release()
        try:
            with storage_errors(self.path), suppress(FileNotFoundError):
                persist(lambda: os.unlink(self.path))
        finally:
            self.release()

    def drop_in_child(self) -> None:
        """Close without unlocking: the lock belongs to the parent, by the same open file."""
        self._pid = os.getpid()
        self._mutex = Lock()
        for descriptor in {self._descriptor, self._idle}:  # one and the same while it is held
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._idle = None

    def __del__(self) -> None:
        # Nobody could ever give up a lock whose object is gone.
        if self._descriptor is not None or self._idle is not None:
            self.close()

    def __enter__(self) -> Self:
        self.acquire(blocking=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _open_locked(self, *, blocking: bool) -> int | None:
        while True:
            descriptor = self._opened() if self._idle is None else self._idle
            if descriptor is None or not self._locks(descriptor, blocking=blocking):
                return None
            self._idle = None
            if self._is_current(descriptor):
                return descriptor
            os.close(descriptor)  # somebody removed it; the next one made a new file

    def _opened(self) -> int | None:
        try:
            return os.open(self.path, self._flags, 0o600)
        except FileNotFoundError:
            if self._flags & os.O_CREAT:
                raise
            return None

    def _locks(self, descriptor: int, *, blocking: bool) -> bool:
        locked = False
        try:
            locked = _lock(descriptor, blocking=blocking)
        finally:
            if not locked and descriptor != self._idle:
                os.close(descriptor)
        return locked

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.lstat(self.path))
        except FileNotFoundError:
            return False
