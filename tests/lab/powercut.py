"""Images of a folder as a power cut may leave it, made from what ``iofaults.c`` recorded.

What was flushed is there. Of the rest any part may be: pieces of one sector are dropped, kept or
exchanged, and a name is only sure once its folder was flushed. A flush that failed leaves behind
what no later flush brings back. Not modelled: devices that lie about flushes, memory maps.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from random import Random

SECTOR_BYTES = 512
"""What a device writes whole or not at all."""

_HEAD = Struct("<cQQI")
_TRUNCATED, _FOLDER = 1, 2


class Record(NamedTuple):
    """One line of the record; ``iofaults.c`` says what its fields mean for each kind."""

    kind: str
    number: int
    offset: int
    data: bytes

    @property
    def text(self) -> str:
        """The data of a path or a mark."""
        return os.fsdecode(self.data)


def read_record(log: Path) -> list[Record]:
    """Return what was recorded, in order. Empty where nothing was."""
    data = log.read_bytes() if log.exists() else b""
    found: list[Record] = []
    at = 0
    while at < len(data):
        kind, number, offset, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        found.append(Record(kind.decode(), number, offset, data[at : at + length]))
        at += length
    return found


Piece = tuple[int, int, bytes | None]  # when, offset, and the bytes; None cuts the file there


@dataclass
class _File:
    """What the device surely has of a file, and what was written since its last flush."""

    number: int
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Piece] = field(default_factory=list)

    def settle(self, until: int, rng: Random | None = None) -> None:
        """Take what was written before ``until`` for durable; with ``rng`` only some of it."""
        early = [one for one in self.pending if one[0] < until]
        self.pending = [one for one in self.pending if one[0] >= until]
        _apply(self.durable, early if rng is None else _some(_sectors(early), rng))

    def image(self, rng: Random) -> bytes:
        content = bytearray(self.durable)
        _apply(content, _some(_sectors(self.pending), rng))
        return bytes(content)


@dataclass
class _Rename:
    """A change of names in one folder; all of it happens or nothing."""

    at: int
    folder: str
    names: list[tuple[str, _File | None]]  # None takes the name away


class Disk:
    """A folder and its device, as of some point of the record.

    Args:
        root: The folder that was recorded.
        rng: Decides what is lost.
    """

    def __init__(self, root: Path, rng: Random) -> None:
        self._root = os.path.realpath(root)
        self._rng = rng
        self._at = 0
        self._files: dict[int, _File] = {}  # by inode number
        self._folders: dict[int, str] = {}
        self._names: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._made: dict[str, int] = {}  # folders, and when
        self._durable_folders = {self._root}
        self._renames: list[_Rename] = []
        self._flushing: dict[int, int] = {}  # by thread: when its flush began

    def apply(self, record: Record) -> None:
        """Let happen what was recorded next."""
        self._at += 1
        match record.kind:
            case "O":
                self._open(record)
            case "W":
                self._file(record).pending.append((self._at, record.offset, record.data))
            case "T":
                self._file(record).pending.append((self._at, record.offset, None))
            case "F":
                self._flushing[record.offset] = self._at
            case "S" | "X":
                self._flush(record.number, self._flushing[record.offset], record.kind == "S")
            case "D":
                self._made[record.text] = self._at
            case "U":
                self._rename([(record.text, None)])
            case "R" | "L":
                self._move(*record.text.split("\0"), keeps_old=record.kind == "L")

    def image(self, folder: Path) -> None:
        """Write into ``folder`` what might be found after a power cut now."""
        names = dict(self._durable_names)
        for change in _some_names(self._renames, self._rng):
            _take(names, change.names)
        folders = {path for path in self._durable_folders if self._is_reached(path)}
        for path in sorted(folders):  # the outer before the inner
            (folder / os.path.relpath(path, self._root)).mkdir(0o700, exist_ok=True)
        contents: dict[int, bytes] = {}
        for path, file in names.items():
            if os.path.dirname(path) in folders:
                content = contents.setdefault(id(file), file.image(self._rng))
                place = folder / os.path.relpath(path, self._root)
                place.write_bytes(content)
                place.chmod(0o600)

    def _is_reached(self, folder: str) -> bool:
        while folder in self._durable_folders and folder != self._root:
            folder = os.path.dirname(folder)
        return folder == self._root

    def _open(self, record: Record) -> None:
        path = record.text
        if record.offset & _FOLDER:
            self._folders[record.number] = path
            return
        file = self._names.get(path)
        if file is None or file.number != record.number:
            file = self._files[record.number] = _File(record.number)
            self._rename([(path, file)])
        elif record.offset & _TRUNCATED:
            file.pending.append((self._at, 0, None))

    def _file(self, record: Record) -> _File:
        return self._files[record.number]

    def _flush(self, number: int, began: int, is_done: bool) -> None:  # noqa: FBT001  # two records of one form
        if number in self._files:
            self._files[number].settle(began, None if is_done else self._rng)
        elif is_done and number in self._folders:  # else it was opened before the record began
            self._flush_folder(self._folders[number], began)

    def _flush_folder(self, folder: str, began: int) -> None:
        done = [one for one in self._renames if one.folder == folder and one.at < began]
        for change in done:
            _take(self._durable_names, change.names)
        self._renames = [one for one in self._renames if one not in done]
        self._durable_folders |= {
            path
            for path, made in self._made.items()
            if os.path.dirname(path) == folder and made < began
        }

    def _move(self, old: str, new: str, *, keeps_old: bool) -> None:
        moved: list[tuple[str, _File | None]] = [(new, self._names[old])]
        self._rename(moved if keeps_old else [(old, None), *moved])

    def _rename(self, names: list[tuple[str, _File | None]]) -> None:
        self._renames.append(_Rename(self._at, os.path.dirname(names[-1][0]), names))
        _take(self._names, names)


def power_cuts(
    records: Sequence[Record], root: Path, rng: Random, *, count: int
) -> Iterator[tuple[int, Disk]]:
    """Yield ``count`` moments, as the number of records before each, with the disk as of then.

    Args:
        root: The folder that was recorded.
    """
    moments = sorted(rng.randint(0, len(records)) for _ in range(count))
    disk = Disk(root, rng)
    for record in records[: moments[0] if moments else 0]:
        disk.apply(record)
    for number, moment in enumerate(moments):
        yield moment, disk
        until = moments[number + 1] if number + 1 < count else moment
        for record in records[moment:until]:
            disk.apply(record)


def _take(names: dict[str, _File], changes: list[tuple[str, _File | None]]) -> None:
    for path, file in changes:
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def _some_names(changes: list[_Rename], rng: Random) -> list[_Rename]:
    """Return what of unflushed names has reached the device: a beginning, or any part."""
    if rng.random() < 0.5:  # as often one as the other
        return changes[: rng.choice((0, len(changes), rng.randint(0, len(changes))))]
    return [one for one in changes if rng.random() < 0.5]


def _some(pieces: list[Piece], rng: Random) -> list[Piece]:
    """Return what of unflushed pieces has reached the device: a beginning, or any, in any order."""
    if rng.random() < 0.5:  # as often one as the other
        return pieces[: rng.choice((0, len(pieces), rng.randint(0, len(pieces))))]
    return [one for one in pieces if rng.random() < 0.5]


def _sectors(pieces: list[Piece]) -> list[Piece]:
    found: list[Piece] = []
    for at, offset, data in pieces:
        if data is None:
            found.append((at, offset, None))
            continue
        ends = range(offset - offset % SECTOR_BYTES, offset + len(data), SECTOR_BYTES)
        cuts = [offset, *[end for end in ends if end > offset], offset + len(data)]
        found += [(at, start, data[start - offset : end - offset]) for start, end in pairwise(cuts)]
    return found


def _apply(content: bytearray, pieces: list[Piece]) -> None:
    for _, offset, data in pieces:
        if data is None:
            del content[offset:]
        else:
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
