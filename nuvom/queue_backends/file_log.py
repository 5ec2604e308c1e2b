"""The log of a file store: numbered files to which entries are appended, read by many processes.

Callers hold the store's lock, except for ``sync``, and follow the log before they append. A process
that dies while appending leaves an unfinished end, which the next one cuts off. Damaged bytes are
skipped and kept in quarantine. This module knows nothing about jobs.

An entry is a header and a body. The header holds the body's length and its place in the log, and
ends with a checksum, so bytes left by a torn write or a failing disk are never taken for an entry.
After an exception other than our own, this process's view of the log is invalid: call ``leave`` and
open it again. The log itself is always intact.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from struct import Struct
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from nuvom.errors import BackendUnavailable, QueueError, StorageFull
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
    from collections.abc import Callable, Iterable, Iterator
    from io import FileIO

MAGIC = b"NvFl"
VERSION = 2
BEGIN, END, SEAL = 1, 2, 4  # an append runs from BEGIN to END; after a SEAL comes the next file
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


def place(segment: int, offset: int) -> int:
    """Return the place in the log of byte ``offset`` of file number ``segment``."""
    return segment << _OFFSET_BITS | offset


def segment_of(at: int) -> int:
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


def _next_entry(data: bytes, at: int) -> int | None:
    """Return the offset of the first valid entry after the damage that ``data`` begins with."""
    found = data.find(MAGIC, 1)
    while found >= 0:
        if scan(data, at, found, most=1).entries:
            return found
        found = data.find(MAGIC, found + 1)
    return None


def _first_unflushed(data: bytes, base: int) -> int | None:
    """Return the start of the append with the first damage after the last known flush.

    Args:
        data: A whole file, located at place ``base``.
    """
    at = whole = synced = 0
    damages = []
    while at < len(data):
        found = scan(data, base, at)
        for flags, stands, body in found.entries:
            if flags & END:
                whole = stands - base + HEADER_BYTES + len(body)
        synced = max(synced, found.synced)
        at = found.used
        if at < len(data):
            damages.append((base + at, whole))
            sound = _next_entry(data[at:], base + at)
            at = len(data) if sound is None else at + sound
    return next((begin for damage, begin in damages if damage >= synced), None)


class Log:
    """One process's view of the log in a folder. Open it first.

    Args:
        directory: The store's folder; the log is in ``log`` below it, damage in ``quarantine``.

    Attributes:
        end: The place up to which this process has followed the log.
        tail: The place where the log ends; own appends lie after ``end`` until followed.
        is_doubtful: A flush failed: appended entries may be lost unless ``sync`` now succeeds.
        segment_bytes: Size at which a new file is started.
    """

    segment_bytes = 16 << 20

    def __init__(self, directory: str) -> None:
        self._directory = os.path.join(directory, "log")
        self._aside = os.path.join(directory, "quarantine")
        self._file: FileIO | None = None
        self._is_sealed = False
        self.end = self.tail = 0
        self._flushing = Lock()  # held while flushing, or while changing the file to flush
        self._appended = self._synced = 0
        self.is_doubtful = False

    # ---- files ----------------------------------------------------------------------------

    def open(self, *, first: bool) -> None:
        """Start following at the first or the last file. Creates a file if there is none."""
        numbers = self.segments()
        self._enter((numbers[0] if first else numbers[-1]) if numbers else 1)

    def segments(self) -> list[int]:
        """Return the numbers of the files that exist, oldest first."""
        with storage_errors(self._directory):
            names = os.listdir(self._directory)
        stems = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def size(self) -> int:
        """Return the total size of all files in bytes."""
        with storage_errors(self._directory):
            return sum(os.path.getsize(self._path(number)) for number in self.segments())

    def first_bytes(self) -> int:
        """Return the size of the first file in bytes: the live entries at the last rewrite."""
        with storage_errors(self._directory):
            return os.path.getsize(self._path(self.segments()[0]))

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

    def _enter(self, number: int) -> None:
        """Continue in file ``number``; create it if it and all later files are missing."""
        path = self._path(number)
        with storage_errors(path):
            try:
                file = open_file(path, READ_WRITE)
            except FileNotFoundError:
                if any(other > number for other in self.segments()):
                    raise GoneError(number) from None
                self._make(number)
                file = open_file(path, READ_WRITE)
        with self._flushing:
            before, self._file = self._file, file
            if before is not None:
                before.close()
            self.end = self.tail = place(number, 0)
            self._is_sealed = False
            if self.end > self._synced and not self.is_doubtful:
                self._synced = self.end  # a file is flushed before the next one is created

    def _make(self, number: int) -> None:
        if self._file is not None:  # a later file's entries must not outlive earlier ones
            self._flush(self.tail)
        path = self._path(number)
        try:
            on_file(path, READ_WRITE | os.O_CREAT, lambda _: self._keep_name())
        except BaseException:
            with suppress(OSError):  # who finds it assumes that it survives a power cut
                os.unlink(path)
            raise

    def _keep_name(self) -> None:
        crashpoint("file.segment.made")
        sync_directory(self._directory)

    # ---- reading --------------------------------------------------------------------------

    def follow(self) -> Iterator[tuple[int, bytes]]:
        """Yield place and body of entries appended since the last call; each append all or none.

        Raises: GoneError; BackendUnavailable: also when another version of Nuvom wrote an entry.
        """
        try:
            yield from self._follow_file()
            while self._is_sealed:
                self._enter(segment_of(self.end) + 1)
                yield from self._follow_file()
        except (OSError, OtherVersionError) as error:
            raise self._told(error) from error

    def _told(self, error: OSError | OtherVersionError) -> QueueError:
        """Return our own error that says what is wrong with the log."""
        if isinstance(error, OSError):
            return storage_error(self._directory, error)
        (version,) = error.args
        wrote, repair = "a newer Nuvom", "Use the newer Nuvom here"
        if version < VERSION:
            wrote = "Nuvom 0.12 or older"
            repair = "Have a worker of that version finish its jobs, then remove the folder"
        return BackendUnavailable(
            self._directory,
            f"{wrote} wrote it (form {version} of the log)",
            f"{repair}; or use another folder (setting file_path).",
        )

    def _follow_file(self) -> Iterator[tuple[int, bytes]]:
        status = os.fstat(self._descriptor())
        size = place(segment_of(self.end), status.st_size)
        if status.st_nlink == 0 or size < self.end:
            raise GoneError(self.end)
        self.tail = size
        at, pending = self.end, list[Entry]()
        while at < size:
            found = self._scan(at, size)
            self._synced = max(self._synced, found.synced)
            for entry in found.entries:
                if entry[0] & BEGIN and pending:  # its END is damaged, but it was complete
                    yield from self._taken(pending, entry[1])
                    pending = []
                pending.append(entry)
                if entry[0] & END:
                    yield from self._taken(pending, entry[1] + HEADER_BYTES + len(entry[2]))
                    pending = []
            at += found.used
            if not found.entries:
                after = self._pass_over(at, size, found.problem)
                if after is None:
                    break
                at = after
        if pending:
            yield from self._unfinished(pending)

    def _taken(self, pending: list[Entry], end: int) -> Iterator[tuple[int, bytes]]:
        self._is_sealed = self._is_sealed or bool(pending[-1][0] & SEAL)
        yield from ((at, body) for flags, at, body in pending if not flags & SEAL)
        self.end = end

    def _unfinished(self, pending: list[Entry]) -> Iterator[tuple[int, bytes]]:
        """Handle an append at the end of the file that lacks its END but is valid so far."""
        if self._goes_on():
            self._is_sealed = True
            yield from ((at, body) for _, at, body in pending)
        else:
            self._cut(self.end, "its end is missing")

    def _goes_on(self) -> bool:
        """Whether there is a later file, so that nothing more is appended to this one."""
        return os.path.exists(self._path(segment_of(self.end) + 1))

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
        sound = _next_entry(rest, at)
        if sound is not None:
            self.set_aside(at, rest[:sound], problem)
            return at + sound
        if self._goes_on():
            self.set_aside(at, rest, problem)
            self._is_sealed = True
        else:
            self._cut(self.end, problem)
        return None

    def set_aside(self, at: int, data: bytes, problem: str) -> None:
        """Copy damaged bytes to quarantine if there is room; the log still has them."""
        with suppress(StorageFull):
            self._keep(at, data, problem)

    def _keep(self, at: int, data: bytes, problem: str) -> None:
        """Write ``data`` to a file and the reason to another beside it; durable on return."""
        name = f"{segment_of(at):010d}-{offset_of(at)}-{crc32(data):08x}"
        target = os.path.join(self._aside, name)
        if not data or os.path.exists(f"{target}.reason"):  # another process found it first
            return
        reason = f"{self._path(segment_of(at))}, byte {offset_of(at)}: {problem}"
        private_directory(self._aside)
        write_durably(target, data, exclusive=True)
        if write_durably(f"{target}.reason", f"{reason}\n".encode(), exclusive=True):
            text = f"Damaged bytes were set aside in {target}: {reason}."
            log_event(_LOG, logging.WARNING, "storage.quarantined", text, fields={"path": target})

    def _cut(self, at: int, problem: str) -> None:
        """Cut off the end of the file once it is in quarantine."""
        self._keep(at, read_at(self._descriptor(), self.tail - at, offset_of(at)), problem)
        crashpoint("file.cut.kept")
        os.ftruncate(self._descriptor(), offset_of(at))
        self.tail = at

    def cut_unflushed(self) -> None:
        """After a power cut, keep what was appended before the damage that it caused.

        Damage before the last known flush has another cause and is skipped as usual. Call this
        after ``open`` at the last file.
        """
        base = self.end
        try:
            self.tail = base + os.fstat(self._descriptor()).st_size
            cut = _first_unflushed(read_at(self._descriptor(), self.tail - base, 0), base)
            if cut is not None:
                self._cut(base + cut, "it was not yet flushed when the power was cut")
        except (OSError, OtherVersionError) as error:
            raise self._told(error) from error

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

    def begin_next_when_full(self) -> None:
        """Start a new file if this one is full. It must have been followed to its end."""
        if offset_of(self.tail) >= self.segment_bytes:
            with storage_errors(self._directory):
                self._seal(lambda: self._make(segment_of(self.tail) + 1))

    def rewrite(self, bodies: Iterable[bytes]) -> None:
        """Write all live entries to a new file, continue after it, and drop the older files.

        Raises: StorageFull, BackendUnavailable: nothing has changed.
        """
        number = segment_of(self.tail) + 1
        path = self._path(number)
        temp = f"{path}.tmp"

        def write(descriptor: int) -> None:
            end = self._write(descriptor, place(number, 0), bodies)
            self._write(descriptor, end, [b""], SEAL)
            sync_data(descriptor)

        def publish() -> None:
            self._flush(self.tail)
            crashpoint("file.rewrite.sealed")
            persist(lambda: os.replace(temp, path))
            sync_directory(self._directory)

        with storage_errors(self._directory):
            on_file(temp, READ_WRITE | os.O_CREAT | os.O_TRUNC, write)
            crashpoint("file.rewrite.written")
            self._seal(publish)
            self._enter(number + 1)
            crashpoint("file.rewrite.before_drop")
            for older in range(self.segments()[0], number):
                with suppress(FileNotFoundError, PermissionError):  # Windows: a process has it open
                    os.unlink(self._path(older))
            sync_directory(self._directory)

    def _seal(self, make_next: Callable[[], None]) -> None:
        """Mark this file as no longer the last, and create the next one."""
        start, following = self.tail, segment_of(self.tail) + 1
        try:
            self.tail = self._write(self._descriptor(), start, [b""], SEAL)
            crashpoint("file.segment.sealed")
            make_next()
        except BaseException:
            if not os.path.exists(self._path(following)):  # otherwise only the seal leads there
                self._take_back(start)
            raise
        self._enter(following)

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
            try:
                self._flush_file(self._appended)
            except OSError as error:
                raise BackendUnavailable(
                    self._directory,
                    f"it could not be flushed: {error.strerror}",
                    "What was just written may vanish at a power cut. Look after the disk.",
                ) from error

    def _flush(self, end: int) -> None:
        with self._flushing:
            self._flush_file(end)

    def _flush_file(self, end: int) -> None:
        """Flush the file that the place ``end`` is in. Raises: OSError."""
        path = self._path(segment_of(end))
        try:
            if self.is_doubtful:  # use a separate descriptor: another thread moves within the first
                is_here = segment_of(self._synced) == segment_of(end)
                start = offset_of(self._synced) if is_here else 0
                on_file(path, READ_WRITE, lambda opened: write_again(opened, start, offset_of(end)))
            crashpoint("file.flush.before")
            if self._file is not None and segment_of(self.end) == segment_of(end):
                sync_data(self._file.fileno())
            else:  # the log was left after the append
                with suppress(FileNotFoundError):  # its live entries have been rewritten
                    on_file(path, READ_WRITE, sync_data)
            crashpoint("file.flush.after")
        except OSError:
            self.is_doubtful = True
            raise
        self.is_doubtful = False
        self._synced = end
