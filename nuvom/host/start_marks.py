"""The slot file: records which claimed jobs a worker has started. Readable after its death.

A memory-mapped file of 64-byte records, one for each claimed job. Starting a job writes one byte
of memory, which survives ``kill -9``. Nothing is flushed, so after a reboot the file proves
nothing. ``worker_lock`` decides who owns the file and who may read it.
"""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING
from zlib import crc32

from nuvom.host.crashpoint import crashpoint
from nuvom.host.files import READ_WRITE, on_file, read_file, storage_errors, write_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FREE, CLAIMED, STARTED = 0, 1, 2
SLOT_BYTES = 64
STATE_AT = SLOT_BYTES - 1  # the state of a slot is ``map[index * SLOT_BYTES + STATE_AT]``

# Job, lease_epoch, CRC32, state. pack_into clears the record first and writes the state last, so
# that a partly written record counts as free.
_SLOT = struct.Struct("<48sQI3xB")
_ID_BYTES = 48
_FLAGS = READ_WRITE | os.O_CREAT
_CRC_BITS = 0xFFFFFFFF  # the job's CRC is seeded with the epoch, folded into 32 bits


class SlotFile:
    """The writing side. Usable from any thread; an interrupted call leaves all slots as they were.

    Attributes:
        map: The mapped file. ``slots.map[index * SLOT_BYTES + STATE_AT] = STARTED`` marks that user
            code starts. Read ``map`` for each mark, since it is replaced when the file grows.
    """

    def __init__(self, path: str, slots: int) -> None:
        self._path = path
        self._count = 0
        self._free: list[int] = []
        self._mutex = Lock()
        with storage_errors(path), suppress(FileNotFoundError):
            os.unlink(path)  # left by a worker that died before it became visible
        self.map: mmap.mmap
        self._grow(max(1, slots))

    def book(self, jobs: Sequence[tuple[str, int]]) -> list[int]:
        """Record claimed jobs, given as (job id, ``lease_epoch``), as not started.

        Returns: The index of each, in use until it is passed to ``free``.
        Raises: StorageFull, BackendUnavailable: the file had to grow and could not.
        """
        indexes: list[int] = []
        try:
            self._take(len(jobs), indexes)
            self._write(indexes, jobs)
        except BaseException:
            self.free(indexes)
            raise
        return indexes

    def _write(self, indexes: list[int], jobs: Sequence[tuple[str, int]]) -> None:
        mapped, pack, crc = self.map, _SLOT.pack_into, crc32
        crashpoint("slots.before_book")
        for index, (job_id, epoch) in zip(indexes, jobs, strict=True):
            key = job_id.encode()
            if len(key) > _ID_BYTES:
                key = _short(key)
            # The fold does not change numbers that fit.
            check = crc(key, epoch if epoch <= _CRC_BITS else (epoch ^ epoch >> 32) & _CRC_BITS)
            pack(mapped, index * SLOT_BYTES, key, epoch, check, CLAIMED)

    def free(self, indexes: Iterable[int]) -> None:
        """Free slots for reuse. Call it only after the end of their jobs is committed.

        Nothing is cleared: a settled job and epoch never match a running one.
        """
        with self._mutex:
            self._free.extend(indexes)

    def close(self) -> None:
        """Remove the file."""
        self.map.close()
        with storage_errors(self._path), suppress(FileNotFoundError):
            os.unlink(self._path)

    def _take(self, count: int, taken: list[int]) -> None:
        """Move free indexes to ``taken``, which the caller gives back if this fails."""
        with self._mutex:
            free = self._free
            if count > len(free):
                self._grow(max(count, self._count))
            cut = len(free) - count
            # No call between the two, so no exception can come in between.
            taken += free[: cut - 1 if cut else None : -1]
            del free[cut:]

    def _grow(self, more: int) -> None:
        total = self._count + more
        fresh = range(total - 1, self._count - 1, -1)
        with storage_errors(self._path):
            grown = on_file(
                self._path, READ_WRITE | os.O_CREAT, lambda file: self._mapped(file, total)
            )
        # The old map stays valid for current users: both map the same file.
        self.map, self._count = grown, total
        self._free.extend(fresh)

    def _mapped(self, file: int, total: int) -> mmap.mmap:
        start = self._count * SLOT_BYTES
        try:
            os.lseek(file, start, os.SEEK_SET)
            # Written, not extended by truncate: a hole that cannot be filled on a full disk
            # would kill the process with SIGBUS at the first mark.
            write_all(file, bytes(total * SLOT_BYTES - start))
            crashpoint("slots.grown")
            return mmap.mmap(file, total * SLOT_BYTES)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(file, start)  # half a slot would read as corruption
            raise


class Slots:
    """The reading side: what a dead worker's slot file proves."""

    def __init__(self, content: bytes) -> None:
        self._states: dict[tuple[bytes, int], int] = {}
        whole = len(content) - len(content) % SLOT_BYTES
        self._damaged = whole == 0 or whole != len(content)
        for key, epoch, check, state in _SLOT.iter_unpack(content[:whole]):
            job = key.rstrip(b"\0")
            if state == FREE:
                continue
            is_sound = check == crc32(job, (epoch ^ epoch >> 32) & _CRC_BITS)
            if not is_sound or state not in (CLAIMED, STARTED):
                self._damaged = True
                continue
            self._states[job, epoch] = state

    def started(self, job_id: str, lease_epoch: int) -> bool:
        """Return whether the job started, or True if the file cannot tell.

        If the file is intact and lacks a claim, the worker died before the claim was booked.
        """
        key = job_id.encode()
        state = self._states.get((_short(key) if len(key) > _ID_BYTES else key, lease_epoch))
        return self._damaged if state is None else state == STARTED


def read_slots(path: str) -> Slots:
    """Return the content of a slot file; one that is missing or cannot be read proves nothing."""
    try:
        return Slots(read_file(path))
    except OSError:
        return Slots(b"")


def _short(key: bytes) -> bytes:
    from hashlib import blake2b  # noqa: PLC0415  # for ids not made by Nuvom

    return blake2b(key, digest_size=_ID_BYTES // 2).hexdigest().encode()
