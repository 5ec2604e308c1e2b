"""The log of a file store: numbered files to which entries are appended, read by many processes.

Whoever calls holds the store's lock, but for ``sync``, and follows before it appends. A process
that dies while appending leaves an unfinished end, which the next one cuts off; damaged bytes are
skipped and kept in quarantine. Knows nothing of jobs.

An entry is a header and a body. The header says how long the body is and where in the log it
stands, and ends with a checksum: bytes that a torn write or a failing disk left behind are never
taken for an entry. What this process knows of the log is of no use after an exception that is not
one of ours: ``leave`` it then, and open it anew. The log itself is whole at any time.
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
BEGIN, END, SEAL = 1, 2, 4  # an append stands from a BEGIN to an END; after a SEAL the next file
_HEAD = Struct("<4sBBHIQQ")  # magic, version, flags, 0, length, place, what is flushed up to there
_CRC = Struct("<I")
HEADER_BYTES = _HEAD.size + _CRC.size
_OFFSET_BITS = 40
_CHUNK_BYTES = 1 << 20
_SUFFIX = ".log"
_FLAGS = (
    os.O_RDWR
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
_LOG = get_logger("files")

Entry = tuple[int, int, bytes]  # flags, place, body


class OtherVersionError(Exception):
    """A sound entry is of another version than this Nuvom writes."""


class GoneError(Exception):
    """What this process has read is no longer there; it has to read everything anew."""


def place(segment: int, offset: int) -> int:
    """Return where ``offset`` bytes of file number ``segment`` stand in the log."""
    return segment << _OFFSET_BITS | offset


def segment_of(at: int) -> int:
    """Return the number of the file of a place."""
    return at >> _OFFSET_BITS


def offset_of(at: int) -> int:
    """Return the offset of a place in its file."""
    return at & ((1 << _OFFSET_BITS) - 1)


def header(flags: int, at: int, body: bytes, *, synced: int = 0) -> bytes:
    """Return what goes before ``body`` at place ``at``."""
    head = _HEAD.pack(MAGIC, VERSION, flags, 0, len(body), at, synced)
    return head + _CRC.pack(crc32(body, crc32(head)))


class LogScan(NamedTuple):
    """What a piece of the log holds.

    Attributes:
        entries: Up to the first that is damaged or incomplete.
        used: Bytes of them.
        needs: How many bytes the next entry takes; 0 when it is damaged.
        problem: What is wrong with it.
        synced: The farthest place that an entry says was flushed.
    """

    entries: list[Entry]
    used: int
    needs: int
    problem: str
    synced: int


def scan(data: bytes, at: int, start: int = 0, most: float = float("inf")) -> LogScan:
    """Return the entries in ``data`` from offset ``start`` on.

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
    """Return the offset of the first sound entry behind the damage that ``data`` begins with."""
    found = data.find(MAGIC, 1)
    while found >= 0:
        if scan(data, at, found, most=1).entries:
            return found
        found = data.find(MAGIC, found + 1)
    return None


def _first_unflushed(data: bytes, base: int) -> int | None:
    """Return where the append begins that has the first damage behind the last known flush.

    Args:
        data: A whole file, which stands at place ``base``.
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
        directory: Of the store; the log is in its folder ``log``, damage in ``quarantine``.

    Attributes:
        end: The place up to which this process has followed.
        tail: The place where the log ends; own appends are behind ``end`` until followed.
        is_doubtful: A flush failed: what was appended may be lost unless ``sync`` now succeeds.
        segment_bytes: After so many a new file is begun.
    """

    segment_bytes = 16 << 20

    def __init__(self, directory: str) -> None:
        self._directory = os.path.join(directory, "log")
        self._aside = os.path.join(directory, "quarantine")
        self._file: FileIO | None = None
        self._is_sealed = False
        self.end = self.tail = 0
        self._flushing = Lock()  # held by who flushes, or changes the file to be flushed
        self._appended = self._synced = 0
        self.is_doubtful = False

    # ---- files ----------------------------------------------------------------------------

    def open(self, *, first: bool) -> None:
        """Begin to follow, at the first file or at the last. Makes one where there is none."""
        numbers = self.segments()
        self._enter((numbers[0] if first else numbers[-1]) if numbers else 1)

    def segments(self) -> list[int]:
        """Return the numbers of the files that exist, oldest first."""
        with storage_errors(self._directory):
            names = os.listdir(self._directory)
        stems = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def size(self) -> int:
        """Return how many bytes all files have."""
        with storage_errors(self._directory):
            return sum(os.path.getsize(self._path(number)) for number in self.segments())

    def first_bytes(self) -> int:
        """Return how many bytes the first file has: what counted when it was written anew."""
        with storage_errors(self._directory):
            return os.path.getsize(self._path(self.segments()[0]))

    @property
    def is_open(self) -> bool:
        """Whether ``open`` was called since it was left."""
        return self._file is not None

    def leave(self) -> None:
        """Follow no more. What was appended can still be flushed. Twice is fine."""
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
        """Go on in file ``number``; make it when it and all later ones are missing."""
        path = self._path(number)
        with storage_errors(path):
            try:
                file = open_file(path, _FLAGS)
            except FileNotFoundError:
                if any(other > number for other in self.segments()):
                    raise GoneError(number) from None
                self._make(number)
                file = open_file(path, _FLAGS)
        with self._flushing:
            before, self._file = self._file, file
            if before is not None:
                before.close()
            self.end = self.tail = place(number, 0)
            self._is_sealed = False
            if self.end > self._synced and not self.is_doubtful:
                self._synced = self.end  # a file is flushed before the next one is made

    def _make(self, number: int) -> None:
        if self._file is not None:  # what is in a later file never outlives what came before
            self._flush(self.tail)
        path = self._path(number)
        try:
            on_file(path, _FLAGS | os.O_CREAT, lambda _: self._keep_name())
        except BaseException:
            with suppress(OSError):  # who finds it takes it for one that a power cut cannot undo
                os.unlink(path)
            raise

    def _keep_name(self) -> None:
        crashpoint("file.segment.made")
        sync_directory(self._directory)

    # ---- reading --------------------------------------------------------------------------

    def follow(self) -> Iterator[tuple[int, bytes]]:
        """Yield place and body of entries appended since last time; of each append all or none.

        Raises: GoneError; BackendUnavailable: also when another version of Nuvom has written.
        """
        try:
            yield from self._follow_file()
            while self._is_sealed:
                self._enter(segment_of(self.end) + 1)
                yield from self._follow_file()
        except (OSError, OtherVersionError) as error:
            raise self._told(error) from error

    def _told(self, error: OSError | OtherVersionError) -> QueueError:
        """Return the error of ours that says what is wrong with the log."""
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
        """Deal with an append without its END that ends the file with a sound entry."""
        if self._goes_on():
            self._is_sealed = True
            yield from ((at, body) for _, at, body in pending)
        else:
            self._cut(self.end, "its end is missing")

    def _goes_on(self) -> bool:
        """Whether there is a later file, so that nothing is appended to this one any more."""
        return os.path.exists(self._path(segment_of(self.end) + 1))

    def _scan(self, at: int, size: int) -> LogScan:
        size -= at
        found = scan(read_at(self._descriptor(), min(_CHUNK_BYTES, size), offset_of(at)), at)
        if not found.entries and _CHUNK_BYTES < found.needs <= size:
            found = scan(read_at(self._descriptor(), found.needs, offset_of(at)), at)
        return found

    # ---- damage ---------------------------------------------------------------------------

    def _pass_over(self, at: int, size: int, problem: str) -> int | None:
        """Return where to go on behind the damage at ``at``, or None at the end of the file."""
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
        """Keep damaged bytes of a place in quarantine, if there is room: the log has them, too."""
        with suppress(StorageFull):
            self._keep(at, data, problem)

    def _keep(self, at: int, data: bytes, problem: str) -> None:
        """Keep ``data`` in a file, and why in another one beside it; durable when it returns."""
        name = f"{segment_of(at):010d}-{offset_of(at)}-{crc32(data):08x}"
        target = os.path.join(self._aside, name)
        if not data or os.path.exists(f"{target}.reason"):  # found by another process, too
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
        """After a power cut: keep what was appended before the first damage of the cut.

        What is damaged before the last known flush is another kind of damage, and is passed
        over as such. Call it after ``open`` at the last file.
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
        """Append entries: all or, when anything fails, none.

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
        with suppress(OSError, GoneError):  # whoever follows next cuts it off as well
            os.ftruncate(self._descriptor(), offset_of(start))

    def _write(self, descriptor: int, at: int, bodies: Iterable[bytes], last: int = 0) -> int:
        """Write an append at a place, in pieces; return where it ends.

        Args:
            last: Flags of its last entry besides END.
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
        """Begin a new file where this one, which was followed to its end, is long enough."""
        if offset_of(self.tail) >= self.segment_bytes:
            with storage_errors(self._directory):
                self._seal(lambda: self._make(segment_of(self.tail) + 1))

    def rewrite(self, bodies: Iterable[bytes]) -> None:
        """Put all that counts into a file of its own, go on behind it, and drop those before.

        Raises: StorageFull, BackendUnavailable: all is as before.
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
            on_file(temp, _FLAGS | os.O_CREAT | os.O_TRUNC, write)
            crashpoint("file.rewrite.written")
            self._seal(publish)
            self._enter(number + 1)
            crashpoint("file.rewrite.before_drop")
            for older in range(self.segments()[0], number):
                with suppress(FileNotFoundError, PermissionError):  # Windows: somebody has it open
                    os.unlink(self._path(older))
            sync_directory(self._directory)

    def _seal(self, make_next: Callable[[], None]) -> None:
        """Say that this file is the last no more, and make the next one."""
        start, following = self.tail, segment_of(self.tail) + 1
        try:
            self.tail = self._write(self._descriptor(), start, [b""], SEAL)
            crashpoint("file.segment.sealed")
            make_next()
        except BaseException:
            if not os.path.exists(self._path(following)):  # else nothing but the seal leads there
                self._take_back(start)
            raise
        self._enter(following)

    # ---- flushing -------------------------------------------------------------------------

    def sync(self) -> None:
        """Return when all that this process has appended is on the device. Needs no lock.

        Callers that come together share one flush.
        Raises: BackendUnavailable: it may not be; a later call tries again.
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
        """Flush the file of the place ``end``. Raises: OSError."""
        path = self._path(segment_of(end))
        try:
            if self.is_doubtful:  # by a descriptor of its own: another thread moves in the first
                is_here = segment_of(self._synced) == segment_of(end)
                start = offset_of(self._synced) if is_here else 0
                on_file(path, _FLAGS, lambda opened: write_again(opened, start, offset_of(end)))
            crashpoint("file.flush.before")
            if self._file is not None and segment_of(self.end) == segment_of(end):
                sync_data(self._file.fileno())
            else:  # it was left after the append
                with suppress(FileNotFoundError):  # all that counts of it was written anew
                    on_file(path, _FLAGS, sync_data)
            crashpoint("file.flush.after")
        except OSError:
            self.is_doubtful = True
            raise
        self.is_doubtful = False
        self._synced = end
