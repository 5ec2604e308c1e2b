"""How processes on one machine see that a worker lives, and what it had started when it died.

A live worker holds the lock of ``workers/<owner>.lock`` and keeps a slot file beside it. A process
that gets the lock knows that the worker is dead, and reads from the slot file which claimed jobs
had started. This module knows nothing of stores; their reapers and workers use it.

A lock shows that it is taken, not by whom. So a mere check takes it shared, which does not keep
others from sharing it. A reaper takes it exclusively only when the file says that the worker is
dead. If the lock is taken exclusively and the file says "live", the worker holds it.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Self

from nuvom.core.clock import SYSTEM_CLOCK, boot_id
from nuvom.core.ids import valid_name
from nuvom.errors import BackendUnavailable
from nuvom.host.crashpoint import crashpoint
from nuvom.host.files import (
    private_directory,
    read_file,
    storage_error,
    storage_errors,
    write_all,
)
from nuvom.host.lock import FileLock
from nuvom.host.start_marks import SlotFile, Slots, read_slots

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

_LIVE, _DEAD = "live", "dead"  # of equal length: changed in place even on a full disk
_ROUNDED = re.compile(r"boot-(\d+)")
_FOREIGN_TRIES = 50
_FOREIGN_WAIT_SECS = 0.01
_ASKED_TRIES = 1000  # while others check; they share the lock only for a moment
_ASKED_WAIT_SECS = 0.001


class WorkerLock(SlotFile):
    """A live worker: its lock file, and its slot file as described in ``SlotFile``.

    Made by ``acquire``. A forked child does not have it and cannot end it.

    Attributes:
        owner: The worker's id.
        has_ended: ``release`` or ``abandon`` was called, though it may have been interrupted.
    """

    def __init__(self, base: str, lock: FileLock, slots: int) -> None:
        super().__init__(f"{base}.slots", slots)
        self.owner = os.path.basename(base)
        self._lock = lock
        self._leaving = Lock()
        self.has_ended = False

    @classmethod
    def acquire(cls, directory: Path, owner: str, *, slots: int = 1024) -> Self:
        """Announce that ``owner`` lives, until ``release`` or the death of this process.

        Args:
            directory: The store's; its folder ``workers`` is created if missing.
            owner: Unique for each start.
            slots: Initial capacity, in claimed jobs.
        Raises: BackendUnavailable, StorageFull: nothing is left behind.
        """
        workers = directory / "workers"
        private_directory(workers)
        base = str(workers / valid_name("a worker's id", owner))
        lock = FileLock(f"{base}.lock")
        try:
            _take(lock)
            made = cls(base, lock, slots)
            crashpoint("worker_lock.half_made")
            with storage_errors(lock.path):
                write_all(lock.fileno(), _content().encode())
        except BaseException:
            _unmake(lock)
            raise
        return made

    @property
    def held(self) -> bool:
        """Whether it has not ended and belongs to this process."""
        return self._lock.held and not self.has_ended

    def release(self) -> None:
        """End it, so that nothing of this owner is recovered.

        All jobs must be settled or released first. Idempotent; call it again if it was interrupted.
        """
        with self._leaving:
            if self._lock.held:
                self.has_ended = True
                self.close()
                _forget(self._lock)

    def abandon(self) -> None:
        """End it like a death: its jobs are recovered according to the slot file."""
        with self._leaving:
            self.has_ended = True
            self._lock.release()


class DeadWorker:
    """A worker that died, held by this process so that only one reaper recovers its jobs.

    Attributes:
        owner: The worker's id.
    """

    def __init__(self, lock: FileLock) -> None:
        self.owner = _owner(lock.path)
        self._lock = lock
        self._slots = Slots(b"")
        header = _read_header(lock.path)
        if header is not None and _is_this_boot(header.boot):
            self._slots = read_slots(f"{_base(lock.path)}.slots")

    def had_started(self, job_id: str, lease_epoch: int) -> bool:
        """Return whether this delivery started.

        True unless proven otherwise, which includes after a reboot and a damaged slot file.
        """
        return self._slots.started(job_id, lease_epoch)

    def forget(self) -> None:
        """Forget the worker once all its jobs are recovered. Idempotent."""
        if self._lock.held:
            _forget(self._lock)

    def close(self) -> None:
        """Leave the worker to the next reaper, unless it was forgotten."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_dead(directory: Path, living: Container[str] = ()) -> list[DeadWorker]:
    """Return the dead workers that no other reaper holds. The caller forgets or closes each.

    Args:
        living: Owners that the caller knows to be alive; their locks are not checked.
    Raises: BackendUnavailable: a worker of another machine uses this folder, or the folder
    cannot be read.
    """
    dead: list[DeadWorker] = []
    lock: FileLock | None = None
    try:
        for path in _lock_files(os.path.join(directory, "workers")):
            if _owner(path) in living:
                continue
            lock = FileLock(path, create=False)
            one = _dead_worker(lock)
            if one is not None:
                dead.append(one)
    except BaseException:
        for one in dead:
            one.close()
        if lock is not None:
            lock.release()
        raise
    return dead


def _dead_worker(lock: FileLock) -> DeadWorker | None:
    """Return the worker that held a lock, if it died and no other reaper has it."""
    if _seize(lock):
        return DeadWorker(lock)
    _refuse_foreign(lock.path)
    return None


def _seize(lock: FileLock) -> bool:
    """Take the lock of a dead worker; False if it lives or another reaper has it."""
    for _ in range(_ASKED_TRIES):
        if not lock.acquire(shared=True):
            return False
        # It died: only a live worker prevents sharing, or a reaper that first wrote "dead" to the
        # file. Later checks read that and leave the lock alone.
        with suppress(OSError):
            os.lseek(lock.fileno(), 0, os.SEEK_SET)
            os.write(lock.fileno(), _DEAD.encode())
        lock.release()
        if lock.acquire():
            return True
        SYSTEM_CLOCK.sleep(_ASKED_WAIT_SECS)
    return False


def is_alive(directory: Path, owner: str) -> bool:
    """Return whether the worker ``owner`` lives: its lock file exists and is locked."""
    valid_name("a worker's id", owner)
    return _lives(os.fspath(directory / "workers" / f"{owner}.lock")) is True


def count_workers(directory: Path) -> tuple[int, int]:
    """Return how many workers live, and how many are dead but not forgotten yet.

    Raises: BackendUnavailable: the folder cannot be read.
    """
    found = [_lives(path) for path in _lock_files(os.fspath(directory / "workers"))]
    return found.count(True), found.count(False)


def _lives(path: str) -> bool | None:
    """Return whether the worker of a lock file lives, None if there is no such file.

    Windows cannot share locks: a dead worker may seem to live while another check goes on.
    """
    lock = FileLock(path, create=False)
    try:
        header = _read_header(path)
        if header is not None and header.state != _DEAD and not lock.acquire(shared=True):
            # Read again: in the meantime a reaper may have found it dead and taken the lock.
            header = _read_header(path)
            return None if header is None else header.state != _DEAD
        lock.release()
    except BaseException:
        lock.release()
        raise
    return None if header is None else False


def is_gone(directory: Path, owner: str) -> bool:
    """Return whether no trace of the worker is left, so nobody can tell what it had started.

    False for a live one, and for a dead one that ``find_dead`` has found or will find.
    """
    valid_name("a worker's id", owner)
    return not os.path.lexists(directory / "workers" / f"{owner}.lock")


class _Header(NamedTuple):
    state: str
    boot: str
    pid: str
    host: str


def _content() -> str:
    return f"{_LIVE}\n{boot_id()}\n{os.getpid()}\n{socket.gethostname()}\n"


def _read_header(path: str) -> _Header | None:
    """Return the lock file's content; empty strings if it is damaged, None if missing."""
    try:
        with storage_errors(path):
            content = read_file(path)
    except BackendUnavailable as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    lines = content.decode("utf-8", "replace").splitlines()
    return _Header(*(lines + [""] * 4)[:4])


def _lock_files(workers: str) -> list[str]:
    try:
        names = os.listdir(workers)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(workers, error) from error
    return [os.path.join(workers, name) for name in names if name.endswith(".lock")]


def _refuse_foreign(path: str) -> None:
    """Raise when the holder of this lock runs on another machine."""
    for _ in range(_FOREIGN_TRIES):
        header = _read_header(path)
        if header is None or header.state != _LIVE or _is_this_boot(header.boot):
            return
        user = f"host {header.host}, process {header.pid}"
        # After a reboot, a reaper may have just taken the lock and not written to it yet.
        SYSTEM_CLOCK.sleep(_FOREIGN_WAIT_SECS)
    raise BackendUnavailable(
        os.path.dirname(path),
        f"a worker of another machine uses it ({user})",
        "Give each machine a folder of its own: this backend serves one machine.",
    )


def _is_this_boot(boot: str) -> bool:
    own = boot_id()
    if boot == own:
        return True
    # Without a boot id from the system it is the boot time in tens of seconds, which two
    # processes may have rounded differently.
    known, other = _ROUNDED.fullmatch(own), _ROUNDED.fullmatch(boot)
    return bool(known and other and abs(int(known[1]) - int(other[1])) <= 1)


def _take(lock: FileLock) -> None:
    """Take the lock of a worker that starts."""
    while not lock.acquire():
        header = _read_header(lock.path)
        if header is not None and header.state == _LIVE:
            with storage_errors(lock.path), suppress(FileNotFoundError):
                os.unlink(lock.path)  # another handle has the same id: this lock replaces its lock
        else:
            # A reaper saw the file before it was locked. It takes it for a dead worker's, finds
            # nothing to recover, and removes it.
            SYSTEM_CLOCK.sleep(_ASKED_WAIT_SECS)


def _unmake(lock: FileLock) -> None:
    """Clean up after a worker's failed start."""
    if lock.held:
        with suppress(OSError):
            os.unlink(f"{_base(lock.path)}.slots")
        lock.remove()


def _forget(lock: FileLock) -> None:
    # The slot file first: if we die here, the rest is found through the lock file.
    slots = f"{_base(lock.path)}.slots"
    with storage_errors(slots), suppress(FileNotFoundError):
        os.unlink(slots)
    crashpoint("worker_lock.half_forgotten")
    lock.remove()


def _base(path: str) -> str:
    return os.path.splitext(path)[0]


def _owner(path: str) -> str:
    return os.path.basename(path).rpartition(".")[0]
