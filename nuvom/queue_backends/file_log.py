"""The log of a file store: one file to which entries are appended, read by many processes.

Callers hold the store's lock, except for ``sync``, and follow the log before they append. A process
that dies while appending leaves an unfinished end, which the next one cuts off. Damaged bytes are
skipped and kept in quarantine. A rewrite puts the entries that still count into a new file with the
next number. This module knows nothing about jobs.

An entry is a header and a body. The header holds the body's length and its place in the log, and
ends with a checksum, so bytes left by a torn write or a failing disk are never taken for an entry.
After an exception other than our own, this process's view of the log is invalid: call ``leave`` and
open it again. The log itself is always intact.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from struct import Struct
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from nuvom.errors import BackendUnavailable, StorageFull
from nuvom.host.crashpoint import crashpoint
from nuvom.host.files import (
    READ_WRITE,
    on_file,
    open_file,
    persist,
    private_directory,
    read_at,
    storage_error,
    storage_errors,
    sync_data,
    sync_directory,
    write_again,
    write_all,
    write_durably,
)
from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO

MAGIC = b"NvFl"
VERSION = 2
BEGIN, END, SEAL = 1, 2, 4  # an append runs from BEGIN to END; a SEAL says: see the next file
_HEAD = Struct("<4sBBHIQQ")  # magic, version, flags, 0, length, place, place flushed up to
_CRC = Struct("<I")
HEADER_BYTES = _HEAD.size + _CRC.size
_OFFSET_BITS = 40
_CHUNK_BYTES = 1 << 20
_SUFFIX = ".log"
_LOG = get_logger("files")

Entry = tuple[int, int, bytes]  # flags, place, body


class OtherVersionError(Exception):
    """A valid entry has a version other than the one this Nuvom writes."""


class GoneError(Exception):
    """What this process has read is no longer there; it must read everything again."""


def place(number: int, offset: int) -> int:
    """Return the place in the log of byte ``offset`` of file ``number``."""
    return number << _OFFSET_BITS | offset


def number_of(at: int) -> int:
    """Return the number of the file that a place is in."""
    return at >> _OFFSET_BITS


def offset_of(at: int) -> int:
    """Return the offset of a place within its file."""
    return at & ((1 << _OFFSET_BITS) - 1)


def header(flags: int, at: int, body: bytes, *, synced: int = 0) -> bytes:
    """Return the header for ``body`` at place ``at``."""
    head = _HEAD.pack(MAGIC, VERSION, flags, 0, len(body), at, synced)
    return head + _CRC.pack(crc32(body, crc32(head)))


class LogScan(NamedTuple):
    """What a piece of the log holds.

    Attributes:
        entries: The entries before the first damaged or incomplete one.
        used: Their size in bytes.
        needs: How many bytes the next entry takes; 0 when it is damaged.
        problem: What is wrong with the next entry.
        synced: The farthest place that an entry records as flushed.
    """

    entries: list[Entry]
    used: int
    needs: int
    problem: str
    synced: int


def scan(data: bytes, at: int, start: int = 0, most: float = float("inf")) -> LogScan:
    """Return the entries in ``data`` starting at offset ``start``.

    Args:
        at: Place of the first byte of ``data``.
    Raises: OtherVersionError.
    """
    entries: list[Entry] = []
    size, synced = len(data), 0
    while size - start >= HEADER_BYTES and len(entries) < most:
        magic, version, flags, _, length, stands, flushed = _HEAD.unpack_from(data, start)
        begin = start + HEADER_BYTES
        end = begin + length
        if magic != MAGIC or stands != at + start:
            return LogScan(entries, start, 0, "no entry begins where one should", synced)
        if end > size:
            return LogScan(entries, start, end - start, "it is cut short", synced)
        body = data[begin:end]
        (crc,) = _CRC.unpack_from(data, start + _HEAD.size)
        if crc != crc32(body, crc32(data[start : start + _HEAD.size])):
            return LogScan(entries, start, 0, "its checksum does not match", synced)
        if version != VERSION:
            raise OtherVersionError(version)
        entries.append((flags, stands, body))
        synced = max(synced, flushed)
        start = end
    return LogScan(entries, start, HEADER_BYTES, "it is cut short", synced)


def _next_entry(data: bytes, at: int, after: int) -> int | None:
    """Return the offset of the first valid entry in ``data`` that begins after an offset."""
    found = data.find(MAGIC, after + 1)
    while found >= 0:
        if scan(data, at, found, most=1).entries:
            return found
        found = data.find(MAGIC, found + 1)
    return None


def _flushed_in(data: bytes, at: int, start: int | None) -> int:
    """Return the farthest place that the entries from offset ``start`` record as flushed."""
    flushed = 0
    while start is not None:
        found = scan(data, at, start)
        flushed = max(flushed, found.synced)
        start = _next_entry(data, at, found.used)
    return flushed


class Log:
    """One process's view of the log in a folder. Open it first.

    Args:
        directory: The store's folder; the log is in ``log`` below it, damage in ``quarantine``.

    Attributes:
        end: The place up to which this process has followed the log.
        tail: The place where the log ends; own appends lie after ``end`` until followed.
        is_doubtful: A flush failed: appended entries may be lost unless ``sync`` now succeeds.
        spare_bytes: How much the file may hold beyond twice what its last rewrite put there.
    """

    spare_bytes = 32 << 20

    def __init__(self, directory: str) -> None:
        self._directory = os.path.join(directory, "log")
        self._aside = os.path.join(directory, "quarantine")
        self._file: FileIO | None = None
        self.end = self.tail = 0
        self._live_bytes = 0
        self._is_after_power_cut = False
        self._flushing = Lock()  # held while flushing, or while changing the file to flush
        self._appended = self._synced = 0
        self.is_doubtful = False

    # ---- the file -------------------------------------------------------------------------

    def open(self, *, first: bool, after_power_cut: bool = False) -> None:
        """Start following the newest file, which is created if there is none.

        Args:
            first: Follow it from its first entry; else from one near its end.
            after_power_cut: Keep what was appended before the damage that the power cut caused.
                Damage before the last known flush has another cause and is skipped as usual.
        """
        with self._errors():
            numbers = self.numbers()
            if not numbers:
                numbers = [1]
                self._write_new(1, ())
                self._publish(1)
            number = numbers.pop()
            if numbers:  # the process that made the newest one may have died just then
                sync_directory(self._directory)
            for older in numbers:
                with suppress(FileNotFoundError, PermissionError):  # Windows: a process has it open
                    os.unlink(self._path(older))
            file = open_file(self._path(number), READ_WRITE)
            start = place(number, 0)
            with self._flushing:
                before, self._file = self._file, file
                if before is not None:
                    before.close()
                if self._synced < start:  # a file is flushed before it gets its name
                    self._synced, self.is_doubtful = start, False
            self.end = self.tail = start if first else self._near_end(start)
            self._is_after_power_cut = after_power_cut

    def numbers(self) -> list[int]:
        """Return the numbers of the files that exist, oldest first. Raises: OSError."""
        names = os.listdir(self._directory)
        stems = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
        return sorted(int(stem) for stem in stems if stem.isdigit())

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return offset_of(self.tail)

    @property
    def is_open(self) -> bool:
        """Whether the log was opened and not left since."""
        return self._file is not None

    def leave(self) -> None:
        """Stop following. Appended entries can still be flushed. Safe to call twice."""
        with self._flushing:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def _path(self, number: int) -> str:
        return os.path.join(self._directory, f"{number:010d}{_SUFFIX}")

    def _descriptor(self) -> int:
        if self._file is None:
            raise GoneError(self.end)
        return self._file.fileno()

    def _near_end(self, start: int) -> int:
        """Return a place near the end of the file at which an append begins, or its start."""
        size = os.fstat(self._descriptor()).st_size
        at = start + max(0, size - _CHUNK_BYTES)
        data = read_at(self._descriptor(), _CHUNK_BYTES, offset_of(at))
        found = _next_entry(data, at, -1)
        entries = [] if found is None else scan(data, at, found).entries
        return next((begin for flags, begin, _ in entries if flags & BEGIN), start)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors in the block into Nuvom errors."""
        try:
            with storage_errors(self._directory):
                yield
        except OtherVersionError as error:
            age = "an older" if error.args[0] < VERSION else "a newer"
            raise BackendUnavailable(
                self._directory,
                f"{age} version of Nuvom wrote it (form {error.args[0]} of the log)",
                "Have a worker of that version finish its jobs, then remove the folder; or use "
                "another folder (setting file_path).",
            ) from error

    # ---- reading --------------------------------------------------------------------------

    def follow(self) -> Iterator[tuple[int, bytes]]:
        """Yield place and body of entries appended since the last call; each append all or none.

        Raises: GoneError; BackendUnavailable.
        """
        with self._errors():
            status = os.fstat(self._descriptor())
            size = place(number_of(self.end), status.st_size)
            if status.st_nlink == 0 or size < self.end:
                raise GoneError(self.end)
            self.tail = size
            yield from self._follow(size)

    def _follow(self, size: int) -> Iterator[tuple[int, bytes]]:
        at, pending = self.end, list[Entry]()
        while at < size:
            found = self._scan(at, size)
            self._synced = max(self._synced, found.synced)
            for entry in found.entries:
                flags, begin, body = entry
                if flags & SEAL:
                    self._cut(begin)  # the process that wrote it died before the next file was made
                    return
                if flags & BEGIN and pending:  # its END is damaged, but it was complete
                    yield from self._taken(pending, begin)
                    pending = []
                pending.append(entry)
                if flags & END:
                    yield from self._taken(pending, begin + HEADER_BYTES + len(body))
                    pending = []
            at += found.used
            if not found.entries:
                after = self._pass_over(at, size, found.problem)
                if after is None:
                    return
                at = after
        if pending:
            self._cut(self.end, "its end is missing")

    def _taken(self, pending: list[Entry], end: int) -> Iterator[tuple[int, bytes]]:
        yield from ((at, body) for _, at, body in pending)
        if not offset_of(self.end):
            self._live_bytes = offset_of(end)
        self.end = end

    def _scan(self, at: int, size: int) -> LogScan:
        size -= at
        found = scan(read_at(self._descriptor(), min(_CHUNK_BYTES, size), offset_of(at)), at)
        if not found.entries and _CHUNK_BYTES < found.needs <= size:
            found = scan(read_at(self._descriptor(), found.needs, offset_of(at)), at)
        return found

    # ---- damage ---------------------------------------------------------------------------

    def _pass_over(self, at: int, size: int, problem: str) -> int | None:
        """Return where to continue after the damage at ``at``, or None at the end of the file."""
        rest = read_at(self._descriptor(), size - at, offset_of(at))
        sound = _next_entry(rest, at, 0)
        if self._is_after_power_cut and max(self._synced, _flushed_in(rest, at, sound)) <= at:
            sound = None
        if sound is None:
            self._cut(self.end, problem)
            return None
        self.set_aside(at, rest[:sound], problem)
        return at + sound

    def set_aside(self, at: int, data: bytes, problem: str) -> None:
        """Copy damaged bytes to quarantine if there is room; the log still has them."""
        with suppress(StorageFull):
            self._keep(at, data, problem)

    def _keep(self, at: int, data: bytes, problem: str) -> None:
        """Write ``data`` to a file and the reason to another beside it; durable on return."""
        name = f"{number_of(at):010d}-{offset_of(at)}-{crc32(data):08x}"
        target = os.path.join(self._aside, name)
        if not data or os.path.exists(f"{target}.reason"):  # another process found it first
            return
        reason = f"{self._path(number_of(at))}, byte {offset_of(at)}: {problem}"
        private_directory(self._aside)
        write_durably(target, data, exclusive=True)
        if write_durably(f"{target}.reason", f"{reason}\n".encode(), exclusive=True):
            text = f"Damaged bytes were set aside in {target}: {reason}."
            log_event(_LOG, logging.WARNING, "storage.quarantined", text, fields={"path": target})

    def _cut(self, at: int, problem: str = "") -> None:
        """Cut off the end of the file; if it is damaged, keep it in quarantine first.

        Raises: GoneError: there is a newer file.
        """
        if self.numbers()[-1] > number_of(at):
            raise GoneError(at)
        if problem:
            self._keep(at, read_at(self._descriptor(), self.tail - at, offset_of(at)), problem)
            crashpoint("file.cut.kept")
        os.ftruncate(self._descriptor(), offset_of(at))
        self.tail = at

    # ---- writing --------------------------------------------------------------------------

    def append(self, bodies: Iterable[bytes]) -> None:
        """Append all entries, or none if anything fails.

        They survive the death of this process, and a power cut once ``sync`` has returned.
        """
        start = self.tail
        crashpoint("file.append.before")
        try:
            self.tail = self._write(self._descriptor(), start, bodies)
            crashpoint("file.append.after")
        except OSError as error:
            self._take_back(start)
            raise storage_error(self._directory, error) from error
        except BaseException:
            self._take_back(start)
            raise
        self._appended = self.tail

    def _take_back(self, start: int) -> None:
        self.tail = start
        with suppress(OSError, GoneError):  # otherwise the next process that follows cuts it off
            os.ftruncate(self._descriptor(), offset_of(start))

    def _write(self, descriptor: int, at: int, bodies: Iterable[bytes], last: int = 0) -> int:
        """Write an append at a place, in pieces; return where it ends.

        Args:
            last: Flags of its last entry, in addition to END.
        """
        os.lseek(descriptor, offset_of(at), os.SEEK_SET)
        buffer = bytearray()
        flags, stream = BEGIN, iter(bodies)
        body = next(stream, None)
        while body is not None:
            following = next(stream, None)
            if following is None:
                flags |= END | last
            buffer += header(flags, at, body, synced=self._synced)
            buffer += body
            at += HEADER_BYTES + len(body)
            flags, body = 0, following
            if len(buffer) >= _CHUNK_BYTES or following is None:
                write_all(descriptor, buffer)
                buffer = bytearray()
        return at

    @property
    def is_wasteful(self) -> bool:
        """Whether most of the file is what no longer counts, so that it should be rewritten."""
        return self.size > 2 * self._live_bytes + self.spare_bytes

    def rewrite(self, bodies: Iterable[bytes]) -> None:
        """Write all live entries to a new file, continue in it, and drop the old one.

        Raises: StorageFull, BackendUnavailable: nothing has changed.
        """
        start, number = self.tail, number_of(self.tail) + 1
        with storage_errors(self._directory):
            end = self._write_new(number, bodies)
            crashpoint("file.rewrite.written")
            try:  # whoever still reads the old file has to learn that there is a new one
                self.tail = self._write(self._descriptor(), start, [b""], SEAL)
                crashpoint("file.rewrite.sealed")
                self._publish(number)
            except BaseException:
                if not os.path.exists(self._path(number)):
                    self._take_back(start)
                raise
        crashpoint("file.rewrite.before_drop")
        self.open(first=True)
        self.end = self.tail = end
        self._live_bytes = offset_of(end)

    def _write_new(self, number: int, bodies: Iterable[bytes]) -> int:
        """Write and flush a file under a temporary name; return the place where it ends."""

        def write(descriptor: int) -> int:
            end = self._write(descriptor, place(number, 0), bodies)
            sync_data(descriptor)
            return end

        return on_file(f"{self._path(number)}.tmp", READ_WRITE | os.O_CREAT | os.O_TRUNC, write)

    def _publish(self, number: int) -> None:
        """Give a new file its name, which survives a power cut, or leave it without."""
        path = self._path(number)
        try:
            persist(lambda: os.replace(f"{path}.tmp", path))
            crashpoint("file.made")
            sync_directory(self._directory)
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise

    # ---- flushing -------------------------------------------------------------------------

    def sync(self) -> None:
        """Flush to the device all that this process has appended. Needs no lock.

        Concurrent callers share one flush.
        Raises: BackendUnavailable: the entries may not be on the device; a later call tries again.
        """
        wanted = self._appended
        with self._flushing:
            if self._synced >= wanted and not self.is_doubtful:
                return
            end = self._appended
            try:
                self._flush_or_write_again(end)
            except OSError as error:
                raise BackendUnavailable(
                    self._directory,
                    f"it could not be flushed: {error.strerror}",
                    "What was just written may vanish at a power cut. Look after the disk.",
                ) from error
            self.is_doubtful = False
            self._synced = end

    def _flush_or_write_again(self, end: int) -> None:
        """Flush; after a failure, write everything again at once and flush that.

        The system takes for clean what it could not write. Other processes know nothing of that,
        and would acknowledge entries behind a hole.
        """
        try:
            self._flush(end)
        except OSError:
            self.is_doubtful = True
            self._flush(end)

    def _flush(self, end: int) -> None:
        """Flush the file that the place ``end`` is in."""
        path = self._path(number_of(end))
        if self.is_doubtful:  # use a separate descriptor: another thread moves within the first
            start = offset_of(max(self._synced, place(number_of(end), 0)))
            on_file(path, READ_WRITE, lambda file: write_again(file, start, offset_of(end)))
        crashpoint("file.flush.before")
        if self._file is not None and number_of(self.end) == number_of(end):
            sync_data(self._file.fileno())
        else:  # the log was left after the append
            with suppress(FileNotFoundError):  # its live entries have been rewritten
                on_file(path, READ_WRITE, sync_data)
        crashpoint("file.flush.after")
