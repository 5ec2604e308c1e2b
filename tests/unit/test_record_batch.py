"""Records of one ``.map()``, spooled as they arrive."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import msgspec
import pytest

from nuvom.errors import StorageFull
from nuvom.record import JobRecord, RetryPolicy
from nuvom.record_batch import CHUNK_RECORDS, RecordBatch

LIKE = JobRecord(
    "",
    "tests.probe",
    queue="mail",
    priority=2,
    created_at=1.5,
    retry=RetryPolicy(1.0),
    tags=("a",),
    metadata={"a": 1},
)


def filled(count: int, size: int = 1) -> tuple[RecordBatch, list[JobRecord]]:
    batch, expected = RecordBatch(LIKE), []
    for number in range(count):
        args = msgspec.msgpack.encode(["x" * size, number])
        job_id = batch.add(args, b"\x80")
        expected.append(LIKE.replace(id=job_id, args=msgspec.Raw(args)))
    return batch, expected


@pytest.mark.parametrize(("count", "size"), [(0, 1), (1, 1), (3, 5_000_000), (20_000, 300)])
def test_records_come_back_as_often_as_they_are_read(count: int, size: int) -> None:
    batch, expected = filled(count, size)
    with batch:
        assert expected == list(batch)
        assert expected == list(batch)
        assert count == len(batch)


def test_encoded_records_are_what_a_record_encodes_to() -> None:
    batch, expected = filled(10)
    with batch:
        (chunk,) = batch.chunks()
        assert [one.encode() for one in expected] == list(chunk)
        place = slice(batch.id_at, batch.id_at + 36)
        assert [one.id for one in expected] == [data[place].decode() for data in chunk]


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (CHUNK_RECORDS + 1, 1, [CHUNK_RECORDS, 1]),  # so many records
        (5, 600_000, [2, 2, 1]),  # or so many bytes
    ],
)
def test_chunks_are_bounded(count: int, size: int, expected: list[int]) -> None:
    batch, records = filled(count, size)
    with batch:
        chunks = list(batch.chunks())
        assert expected == [len(chunk.sizes) for chunk in chunks]
        assert [one.encode() for one in records] == [data for chunk in chunks for data in chunk]


def test_records_may_be_added_after_others_were_counted() -> None:
    batch, expected = filled(3)
    with batch:
        ids = [bytes(batch.ids[place : place + 16]).hex() for place in (0, 16, 32)]
        last = batch.add(b"\x90", b"\x80")
        assert [*(one.id for one in expected), last] == [one.id for one in batch]
        assert [one.id.replace("-", "") for one in expected] == ids
        assert 4 == len(batch)


def test_reading_may_break_off_and_begin_anew() -> None:
    batch, expected = filled(20_000, 300)
    with batch:
        next(iter(batch))
        assert expected == list(batch)


def test_ids_are_kept_as_sixteen_bytes_each() -> None:
    batch, expected = filled(3)
    with batch:
        assert b"".join(bytes.fromhex(one.id.replace("-", "")) for one in expected) == batch.ids


def test_full_disk_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(data: Iterable[int]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with RecordBatch(LIKE) as batch:
        monkeypatch.setattr(batch._file, "write", no_room)
        for _ in range(CHUNK_RECORDS - 1):
            batch.add(b"\x90", b"\x80")
        with pytest.raises(StorageFull, match="No space left"):
            batch.add(b"\x90", b"\x80")
