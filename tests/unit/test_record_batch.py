"""Records of one ``.map()``, spooled as they arrive."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import msgspec
import pytest

from nuvom.errors import StorageFull
from nuvom.names import new_id
from nuvom.record import JobRecord, RetryPolicy
from nuvom.record_batch import RecordBatch

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
        record = LIKE.replace(id=new_id(), args=msgspec.Raw(args))
        batch.add(record.id, args, b"\x80")
        expected.append(record)
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
        assert [(one.id, one.encode()) for one in expected] == list(batch.packed())


def test_chunks_hold_all_records_in_order() -> None:
    batch, expected = filled(10)
    with batch:
        chunks = list(batch.chunks(4))
        assert [4, 4, 2] == [len(chunk) for chunk in chunks]
        assert [one.id for one in expected] == [job_id for chunk in chunks for job_id, _ in chunk]


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
        with pytest.raises(StorageFull, match="No space left"):
            batch.add(new_id(), b"\x90", b"\x80")
