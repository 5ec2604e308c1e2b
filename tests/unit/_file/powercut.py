"""Images of a folder as a power cut may leave it: the unflushed is there, torn or missing."""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

SECTOR = 512


class Inode:
    """A file: what the device has of it, and what was written since, in order."""

    def __init__(self) -> None:
        self.durable = b""
        self.pending: list[tuple[int, bytes | None]] = []  # offset and bytes; None cuts there

    def flush(self) -> None:
        self.durable = _after(self.durable, self.pending)
        self.pending = []

    def image(self, rng: Random) -> bytes:
        pieces = [piece for change in self.pending for piece in _sectors(*change)]
        kept = rng.choice((0, len(pieces), rng.randint(0, len(pieces))))
        chosen = pieces[:kept]
        if rng.random() < 0.5:  # devices write in any order
            chosen = [piece for piece in pieces if rng.random() < 0.5]
        return _after(self.durable, chosen)


class Recorder:
    """Notes all that happens to files below ``root`` while it is installed."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._files: dict[int, Inode] = {}
        self._names: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self._changes: list[tuple[str, list[tuple[str, Inode | None]]]] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("open", "write", "fsync", "fdatasync", "ftruncate", "unlink"):
            monkeypatch.setattr(os, name, getattr(self, name)(getattr(os, name)))
        for name in ("replace", "rename", "link"):
            monkeypatch.setattr(os, name, self.named(getattr(os, name)))

    def image(self, target: Path, rng: Random) -> None:
        """Write what might be left if the power were cut now."""
        names = dict(self._durable_names)
        kept = rng.choice((0, len(self._changes), rng.randint(0, len(self._changes))))
        for _, entries in self._changes[:kept]:
            _rename(names, entries)
        for path, inode in names.items():
            place = target / os.path.relpath(path, self._root)
            place.parent.mkdir(0o700, parents=True, exist_ok=True)
            place.write_bytes(inode.image(rng))

    # ---- calls ----------------------------------------------------------------------------

    def open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *args: Any, **options: Any) -> int:
            is_new = flags & os.O_CREAT and not os.path.lexists(path)
            file = real(path, flags, *args, **options)
            full = os.path.realpath(path)
            if full.startswith(self._root) and not os.path.isdir(full):
                if is_new:
                    self._change(full, [(full, Inode())])
                if full in self._names:
                    self._files[file] = self._names[full]
            return file

        return call

    def write(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(file: int, data: Any) -> int:
            inode = self._known(file)
            offset = os.lseek(file, 0, os.SEEK_CUR) if inode else 0
            written = real(file, data)
            if inode is not None:
                inode.pending.append((offset, bytes(data)[:written]))
            return written

        return call

    def fsync(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(file: int) -> None:
            real(file)
            inode = self._known(file)
            if inode is not None:
                inode.flush()
            else:
                self._flush_folder(os.path.realpath(f"/proc/self/fd/{file}"))

        return call

    fdatasync = fsync

    def ftruncate(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(file: int, size: int) -> None:
            real(file, size)
            inode = self._known(file)
            if inode is not None:
                inode.pending.append((size, None))

        return call

    def unlink(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(path: Any) -> None:
            real(path)
            full = os.path.realpath(path)
            if full in self._names:
                self._change(full, [(full, None)])

        return call

    def named(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(source: Any, target: Any) -> None:
            before, after = os.path.realpath(source), os.path.realpath(target)
            real(source, target)
            inode = self._names.get(before)
            if inode is not None:
                moved: list[tuple[str, Inode | None]] = [(after, inode)]
                self._change(after, moved if real.__name__ == "link" else [(before, None), *moved])

        return call

    def _known(self, file: int) -> Inode | None:
        path = os.path.realpath(f"/proc/self/fd/{file}")
        return self._names.get(path.removesuffix(" (deleted)"))

    def _change(self, path: str, entries: list[tuple[str, Inode | None]]) -> None:
        self._changes.append((os.path.dirname(path), entries))
        _rename(self._names, entries)

    def _flush_folder(self, folder: str) -> None:
        for changed, entries in self._changes:
            if changed == folder:
                _rename(self._durable_names, entries)
        self._changes = [change for change in self._changes if change[0] != folder]


def _rename(names: dict[str, Inode], entries: list[tuple[str, Inode | None]]) -> None:
    for path, inode in entries:
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode


def _sectors(offset: int, data: bytes | None) -> list[tuple[int, bytes | None]]:
    if data is None:
        return [(offset, None)]
    found: list[tuple[int, bytes | None]] = []
    while data:
        size = SECTOR - offset % SECTOR
        found.append((offset, data[:size]))
        offset, data = offset + size, data[size:]
    return found


def _after(content: bytes, changes: list[tuple[int, bytes | None]]) -> bytes:
    kept = bytearray(content)
    for offset, data in changes:
        if data is None:
            del kept[offset:]
        else:
            kept.extend(bytes(max(0, offset - len(kept))))
            kept[offset : offset + len(data)] = data
    return bytes(kept)
