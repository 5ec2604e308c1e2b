"""Records of one ``.map()``, spooled as they arrive."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import msgspec
import pytest

from nuvom.core.batch import CHUNK_RECORDS, RecordBatch
from nuvom.core.ids import id_texts
from nuvom.core.record import JobRecord, RetryPolicy
from nuvom.errors import StorageFull

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


NO_ARGUMENTS = b"\x90\x80"


def filled(count: int, size: int = 1) -> tuple[RecordBatch, list[JobRecord]]:
    batch = RecordBatch(LIKE)
    packed = [msgspec.msgpack.encode(["x" * size, number]) for number in range(count)]
    batch.extend(args + b"\x80" for args in packed)
    ids = [text.decode() for text in id_texts(batch.ids)]
    records = zip(ids, packed, strict=True)
    return batch, [LIKE.replace(id=one, args=msgspec.Raw(args)) for one, args in records]


@pytest.mark.parametrize(("count", "size"), [(0, 1), (1, 1), (3, 5_000_000), (20_000, 300)])
def test_records_come_back_as_often_as_they_are_read(count: int, size: int) -> None:
    batch, expected = filled(count, size)
    with batch:
        assert expected == list(batch)
        assert expected == list(batch)
        assert count == len(batch)


def test_encoded_records_are_what_a_record_encodes_to_but_for_defaults_at_its_end() -> None:
    batch, expected = filled(10)
    with batch:
        (chunk,) = batch.chunks()
        assert expected == [JobRecord.decode(data) for data in chunk]
        last = JobRecord.__struct_fields__.index("metadata")
        assert [msgspec.msgpack.decode(one.encode())[: last + 1] for one in expected] == [
            msgspec.msgpack.decode(data) for data in chunk
        ]
        place = slice(batch.id_at, batch.id_at + 36)
        assert [one.id for one in expected] == [data[place].decode() for data in chunk]


def test_each_record_has_headers_of_its_own() -> None:
    asked = []

    def headers_of(job_id: str) -> dict[str, str]:
        asked.append(job_id)
        return {"trace": job_id[:8], "number": str(len(asked))}

    count = CHUNK_RECORDS + 1
    with RecordBatch(LIKE, headers_of) as batch:
        batch.extend([NO_ARGUMENTS] * count)
        records = list(batch)
        assert records == list(batch)
    assert [one.id for one in records] == asked
    numbers = [one.headers and one.headers["number"] for one in records]
    assert [str(number) for number in range(1, count + 1)] == numbers
    assert [LIKE.replace(id=one.id, headers=one.headers) for one in records] == records


def test_full_disk_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(data: Iterable[int]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with RecordBatch(LIKE) as batch:
        monkeypatch.setattr(batch._file, "write", no_room)
        batch.extend([NO_ARGUMENTS] * (CHUNK_RECORDS - 1))
        with pytest.raises(StorageFull, match="No space left"):
            batch.extend([NO_ARGUMENTS])
