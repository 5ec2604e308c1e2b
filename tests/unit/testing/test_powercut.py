"""Images are made from hand-written records: what was flushed is there, the rest may be."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from tests.lab.powercut import Disk, Record, power_cuts, read_record

FOLDER, FILE, OTHER = 1, 2, 3  # inode numbers
IMAGES = 60


def at(kind: str, number: int = 0, offset: int = 0, data: bytes | str = b"") -> Record:
    return Record(kind, number, offset, data.encode() if isinstance(data, str) else data)


def flush(number: int, end: str = "S") -> list[Record]:
    return [at("F", number, 7), at(end, number, 7)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def outcomes(root: Path, records: list[Record], name: str = "f") -> set[bytes | None]:
    """Return all contents that the file has in many images, None where it is missing."""
    found: set[bytes | None] = set()
    for seed in range(IMAGES):
        disk = Disk(root, random.Random(seed))
        for record in records:
            disk.apply(record)
        image = root.parent / f"image{seed}"
        image.mkdir()
        disk.image(image)
        found.add((image / name).read_bytes() if (image / name).exists() else None)
    return found


def made(root: Path, name: str = "f", number: int = FILE) -> list[Record]:
    """What makes a file whose name is durable."""
    opened = [at("O", number, 0, str(root / name)), at("O", FOLDER, 2, str(root))]
    return [*opened, *flush(FOLDER)]


def test_what_was_flushed_is_in_every_image(root: Path) -> None:
    assert outcomes(root, [*made(root), at("W", FILE, 0, "abc"), *flush(FILE)]) == {b"abc"}


def test_what_was_not_flushed_is_in_some(root: Path) -> None:
    assert outcomes(root, [*made(root), at("W", FILE, 0, "abc")]) == {b"", b"abc"}


def test_what_was_written_while_a_flush_went_on_is_not_part_of_it(root: Path) -> None:
    first, last = flush(FILE)
    records = [*made(root), at("W", FILE, 0, "a"), first, at("W", FILE, 1, "b"), last]
    assert outcomes(root, records) == {b"a", b"ab"}


def test_a_write_is_torn_between_sectors_only(root: Path) -> None:
    records = [*made(root), at("W", FILE, 0, bytes(1024)), *flush(FILE)]
    found = outcomes(root, [*records, at("W", FILE, 500, b"x" * 600)])
    assert bytes(500) + b"x" * 12 + bytes(512) in found  # the first piece alone
    assert bytes(512) + b"x" * 512 in found  # the middle one
    assert {len(one) for one in found if one is not None} == {1024, 1100}


def test_a_later_piece_may_come_before_an_earlier_one(root: Path) -> None:
    records = [*made(root), at("W", FILE, 0, "ab"), *flush(FILE)]
    found = outcomes(root, [*records, at("W", FILE, 0, "x"), at("W", FILE, 1, "y")])
    assert found == {b"ab", b"xb", b"ay", b"xy"}


def test_cutting_a_file_needs_a_flush_too(root: Path) -> None:
    records = [*made(root), at("W", FILE, 0, "abc"), *flush(FILE), at("T", FILE, 1)]
    assert outcomes(root, records) == {b"abc", b"a"}


def test_a_name_is_sure_once_its_folder_was_flushed(root: Path) -> None:
    records = [at("O", FILE, 0, str(root / "f")), at("W", FILE, 0, "abc"), *flush(FILE)]
    assert outcomes(root, records) == {None, b"abc"}


def test_a_rename_happens_or_does_not(root: Path) -> None:
    records = [*made(root), *made(root, "g", OTHER), at("W", OTHER, 0, "new"), *flush(OTHER)]
    moved = at("R", data=f"{root / 'g'}\0{root / 'f'}")
    assert outcomes(root, [*records, moved]) == {b"", b"new"}


def test_a_removed_file_may_come_back(root: Path) -> None:
    removed = [*made(root), at("U", data=str(root / "f"))]
    assert outcomes(root, removed) == {None, b""}


def test_a_folder_that_was_not_flushed_goes_with_all_that_is_in_it(root: Path) -> None:
    inner = root / "inner"
    records = [
        at("D", data=str(inner)),
        at("O", FILE, 0, str(inner / "f")),
        at("O", OTHER, 2, str(inner)),
        *flush(OTHER),
    ]
    assert outcomes(root, records, "inner/f") == {None}


def test_no_later_flush_brings_back_what_a_failed_one_left_behind(root: Path) -> None:
    failed = [*made(root), at("W", FILE, 0, "abc"), *flush(FILE, "X")]
    assert outcomes(root, [*failed, *flush(FILE)]) == {b"", b"abc"}


def test_what_a_failed_flush_left_behind_can_be_written_again(root: Path) -> None:
    failed = [*made(root), at("W", FILE, 0, "abc"), *flush(FILE, "X")]
    assert outcomes(root, [*failed, at("W", FILE, 0, "abc"), *flush(FILE)]) == {b"abc"}


def test_moments_come_in_order_with_the_disk_as_of_then(root: Path) -> None:
    records = [*made(root), *(at("W", FILE, number, "x") for number in range(20))]
    for moment, disk in power_cuts(records, root, random.Random(1), count=30):
        file = disk._names.get(str(root / "f"))
        assert max(0, moment - 4) == (len(file.pending) if file else 0)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_record(log) == []
    log.write_bytes(
        struct.pack("<cQQI", b"W", 5, 6, 3) + b"abc" + struct.pack("<cQQI", b"T", 5, 1, 0)
    )
    assert read_record(log) == [at("W", 5, 6, b"abc"), at("T", 5, 1)]
