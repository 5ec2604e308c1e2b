"""The log: numbered files to which entries are appended, read by many processes.

Whoever calls holds the store's lock, but for ``sync``, and follows before it appends. A process
that dies while appending leaves an unfinished end, which the next one cuts off; bytes that are
damaged are skipped and kept in quarantine. Knows nothing of jobs.

What this process knows of the log is of no use after an exception that is not one of ours: close
it then and open it anew. The log itself is whole at any time.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from nuvom._file.flushing import FILE_FLAGS, Flusher, segment_numbers, segment_path
from nuvom._file.frames import (
    BEGIN,
    END,
    HEADER_BYTES,
    SEAL,
    Frame,
    UnknownVersionError,
    first_unflushed,
    header,
    next_entry,
    offset_of,
    place,
    scan,
    segment_of,
)
from nuvom.errors import BackendUnavailable, CorruptRecord, StorageFull
from nuvom.host.crashpoint import crashpoint
from nuvom.host.files import (
    on_file,
    open_file,
    read_at,
    storage_error,
    storage_errors,
    sync_directory,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO

    from nuvom._file.frames import Scan
    from nuvom._file.quarantine import Quarantine

_CHUNK_BYTES = 1 << 20


class GoneError(Exception):
    """What this process has read is no longer there; it has to read everything anew."""


class Log:
    """One process's view of the log in ``directory``, which exists. Open it first.

    Attributes:
        end: The place up to which this process has followed.
        flusher: Knows what is on the device.
        segment_bytes: Who finds a file that long begins a new one.
    """

    segment_bytes = 16 << 20
    _file: FileIO | None = None
    _descriptor = -1  # of ``_file``, while it is open

    def __init__(self, directory: str, quarantine: Quarantine) -> None:
        self._directory = directory
        self._quarantine = quarantine
        self.flusher = Flusher(directory)
        self._is_sealed = False
        self.end = 0
        self._tail = 0  # where the file ends: own appends are behind ``end`` until followed

    # ---- segments -------------------------------------------------------------------------

    def open(self, *, first: bool) -> None:
        """Begin to follow, at the first segment or at the last. Makes one where there is none."""
        numbers = self.segments()
        self._enter((numbers[0] if first else numbers[-1]) if numbers else 1)

    def segments(self) -> list[int]:
        """Return the numbers of the segments that exist, oldest first."""
        with storage_errors(self._directory):
            return segment_numbers(self._directory)

    def oldest_full(self) -> int | None:
        """Return the number of the oldest segment, unless it is the one appended to."""
        oldest = self.segments()[0]
        return oldest if oldest < segment_of(self.end) else None

    def size(self) -> int:
        """Return how many bytes all segments have."""
        with storage_errors(self._directory):
            return sum(os.path.getsize(self._path(number)) for number in self.segments())

    def drop(self, number: int) -> None:
        """Remove a segment for good; nobody needs what it holds."""
        with storage_errors(self._directory), suppress(PermissionError):  # Windows: it is open
            os.unlink(self._path(number))
            sync_directory(self._directory)

    @property
    def is_open(self) -> bool:
        """Whether ``open`` was called since it was closed."""
        return self._file is not None

    def leave(self) -> None:
        """Follow no more; what was appended can still be flushed. Twice is fine."""
        self._descriptor = -1
        if self._file is not None:
            self.flusher.leave(self._file)
            self._file = None

    def close(self) -> None:
        """Close all files. Twice is fine."""
        self.leave()
        self.flusher.close()

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def _path(self, number: int) -> str:
        return segment_path(self._directory, number)

    def _enter(self, number: int) -> None:
        """Go on in segment ``number``; make it when it and all later ones are missing."""
        path = self._path(number)
        with storage_errors(path):
            try:
                file = open_file(path, FILE_FLAGS)
            except FileNotFoundError:
                if any(other > number for other in self.segments()):
                    raise GoneError(number) from None
                self._make_segment(number)
                file = open_file(path, FILE_FLAGS)
        before, descriptor = self._file, file.fileno()
        self._file, self._descriptor = file, descriptor
        self.end = self._tail = place(number, 0)
        self._is_sealed = False
        self.flusher.enter(self.end)
        if before is not None:
            self.flusher.leave(before)

    def _make_segment(self, number: int) -> None:
        if self._file is not None:  # what is in a later segment never outlives what came before
            self.flusher.flush(self._file, self._tail)
        path = self._path(number)
        try:
            on_file(path, FILE_FLAGS | os.O_CREAT, self._keep_name)
        except BaseException:
            with suppress(OSError):  # who finds it takes it for one that a power cut cannot undo
                os.unlink(path)
            raise

    def _keep_name(self, _: int) -> None:
        crashpoint("file.segment.made")
        sync_directory(self._directory)

    # ---- reading --------------------------------------------------------------------------

    def follow(self, *, until: int | None = None) -> Iterator[Frame]:
        """Yield the entries appended since last time; of each append all or none.

        Args:
            until: Stop before this place, behind which an append is still going on.
        Raises: GoneError; BackendUnavailable: also when a newer Nuvom has written.
        """
        try:
            yield from self._follow_segment(until)
            while self._is_sealed:
                self._enter(segment_of(self.end) + 1)
                yield from self._follow_segment(until)
        except OSError as error:
            raise storage_error(self._directory, error) from error
        except UnknownVersionError as error:
            raise BackendUnavailable(
                self._directory,
                f"a newer Nuvom wrote it (form {error} of the log)",
                "Use the newer Nuvom here, or another folder (setting file_path).",
            ) from error

    def read(self, at: int, job_id: str) -> tuple[int, bytes]:
        """Return kind and body of the entry at a place, which is about ``job_id``.

        Raises: CorruptRecord: it is damaged or missing.
        """
        path = self._path(segment_of(at))
        with storage_errors(path):
            try:
                found = on_file(path, FILE_FLAGS, lambda file: _read_one(file, at))
            except FileNotFoundError:
                raise CorruptRecord(job_id, path, "the file is missing") from None
        if not found.frames:
            raise CorruptRecord(job_id, path, found.problem)
        return found.frames[0][0], found.frames[0][3]

    def _follow_segment(self, until: int | None) -> Iterator[Frame]:
        status = os.fstat(self._descriptor)
        size = place(segment_of(self.end), status.st_size)
        if status.st_nlink == 0 or size < self.end:
            raise GoneError(self.end)
        self._tail = size = size if until is None else min(size, until)
        at, pending = self.end, list[Frame]()
        while at < size or pending:
            found = self._scan(at, size)
            self.flusher.synced = max(self.flusher.synced, found.synced)
            for frame in found.frames:
                if frame[1] & BEGIN and pending:  # its END is damaged, but it was complete
                    yield from self._taken(pending, frame[2])
                    pending = []
                pending.append(frame)
                if frame[1] & END:
                    yield from self._taken(pending, frame[2] + HEADER_BYTES + len(frame[3]))
                    pending = []
            at += found.used
            if not found.frames:
                after = self._pass_over(at, size, found.problem)
                if after is None:
                    break
                at = after
        if pending and self._is_sealed:
            yield from pending

    def _taken(self, pending: list[Frame], end: int) -> Iterator[Frame]:
        if pending[-1][0] == SEAL:
            self._is_sealed = True
        yield from (frame for frame in pending if frame[0] != SEAL)
        self.end = end

    def _scan(self, at: int, size: int) -> Scan:
        size -= at
        found = scan(read_at(self._descriptor, min(_CHUNK_BYTES, size), offset_of(at)), at)
        if not found.frames and _CHUNK_BYTES < found.needs <= size:
            found = scan(read_at(self._descriptor, found.needs, offset_of(at)), at)
        return found

    # ---- damage ---------------------------------------------------------------------------

    def _pass_over(self, at: int, size: int, problem: str) -> int | None:
        """Return where to go on behind the damage at ``at``, or None at the end of the file."""
        rest = read_at(self._descriptor, size - at, offset_of(at))
        sound = next_entry(rest, at)
        if sound is not None:
            self._keep(at, rest[:sound], problem)
            return at + sound
        if os.path.exists(self._path(segment_of(at) + 1)):  # nothing is appended here any more
            self._keep(at, rest, problem)
            self._is_sealed = True
        else:
            self._cut(self.end, problem)
        return None

    def _keep(self, at: int, data: bytes, problem: str) -> None:
        if data:
            with suppress(StorageFull):  # the damaged bytes stay in the log anyhow
                self._quarantine.keep(self._name(at), data, self._reason(at, problem))

    def _cut(self, at: int, problem: str) -> None:
        data = read_at(self._descriptor, self._tail - at, offset_of(at))
        self._quarantine.keep(self._name(at), data, self._reason(at, problem))
        crashpoint("file.cut.kept")
        os.ftruncate(self._descriptor, offset_of(at))
        self._tail = at

    def set_aside(self, at: int, problem: str) -> None:
        """Keep in quarantine what stands at a place, up to the next entry."""
        path = self._path(segment_of(at))
        rest = on_file(path, FILE_FLAGS, lambda file: read_at(file, _CHUNK_BYTES, offset_of(at)))
        self._keep(at, rest[: next_entry(rest, at)], problem)

    def _name(self, at: int) -> str:
        return f"{segment_of(at):010d}-{offset_of(at)}"

    def _reason(self, at: int, problem: str) -> str:
        return f"{self._path(segment_of(at))}, byte {offset_of(at)}: {problem}"

    def cut_unflushed(self) -> None:
        """After a power cut: keep what was appended before the first damage of the cut.

        What is damaged before the last known flush is another kind of damage, and is passed
        over as such. Call it after ``open`` at the last segment.
        """
        base = self.end
        with storage_errors(self._directory):
            self._tail = base + os.fstat(self._descriptor).st_size
            cut = first_unflushed(read_at(self._descriptor, self._tail - base, 0), base)
            if cut is not None:
                self._cut(base + cut, "it was not yet flushed when the power was cut")

    # ---- writing --------------------------------------------------------------------------

    def append(self, entries: Iterable[tuple[int, bytes]], *, known: bool = False) -> None:
        """Append entries, given as kind and body: all or, when anything fails, none.

        They survive the death of this process, and a power cut once ``sync`` has returned.

        Args:
            known: Do not give them back in ``follow``.
        """
        if offset_of(self._tail) >= self.segment_bytes and self.end == self._tail:
            self._begin_segment()
        start = self._tail
        crashpoint("file.append.before")
        try:
            self._write(entries)
            crashpoint("file.append.after")
        except OSError as error:
            self._take_back(start)
            raise storage_error(self._directory, error) from error
        except BaseException:
            self._take_back(start)
            raise
        self.flusher.note(self._file, self._tail)
        if known:
            self.end = self._tail

    def _take_back(self, start: int) -> None:
        self._tail = start
        with suppress(OSError):  # whoever follows next cuts it off as well
            os.ftruncate(self._descriptor, offset_of(start))

    def _write(self, entries: Iterable[tuple[int, bytes]]) -> None:
        file, synced = self._descriptor, self.flusher.synced
        os.lseek(file, offset_of(self._tail), os.SEEK_SET)
        buffer = bytearray()
        flags, stream = BEGIN, iter(entries)
        held = next(stream, None)
        while held is not None:
            kind, body = held
            held = next(stream, None)
            if held is None:
                flags |= END
            buffer += header(kind, flags, self._tail, body, synced=synced)
            buffer += body
            self._tail += HEADER_BYTES + len(body)
            flags = 0
            if len(buffer) >= _CHUNK_BYTES or held is None:
                write_all(file, buffer)
                buffer = bytearray()

    def _begin_segment(self) -> None:
        start, following = self._tail, segment_of(self._tail) + 1
        try:
            with storage_errors(self._directory):
                self._write([(SEAL, b"")])
                crashpoint("file.segment.sealed")
                self._make_segment(following)
        except BaseException:
            if not os.path.exists(self._path(following)):  # else nothing but the seal leads there
                self._take_back(start)
            raise
        self._enter(following)

    def sync(self) -> None:
        """Return when all that this process has appended is on the device. Needs no lock.

        Raises: BackendUnavailable: it may not be; a later call tries again.
        """
        self.flusher.sync()


def _read_one(file: int, at: int) -> Scan:
    """Return what an entry's place holds, as far as one entry."""
    data = read_at(file, 1 << 12, offset_of(at))
    found = scan(data, at, most=1)
    if not found.frames and len(data) < found.needs:
        found = scan(read_at(file, found.needs, offset_of(at)), at, most=1)
    return found
