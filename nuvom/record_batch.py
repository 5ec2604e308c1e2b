"""Records that differ only in their id and arguments, as one ``.map()`` makes them.

They are encoded as they arrive and spooled to a temporary file in chunks, so that any number of
them needs bounded memory. A backend may iterate over the batch as over any records, or take the
chunks as they are.
"""

from __future__ import annotations

from array import array
from tempfile import SpooledTemporaryFile, gettempdir
from typing import TYPE_CHECKING, Self

import msgspec

from nuvom.errors import StorageFull
from nuvom.names import new_ids
from nuvom.record import JobRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_RECORDS = 2000
_CHUNK_BYTES = 1 << 20  # a chunk is closed by the record with which it gets so large
_MEMORY_BYTES = 4 << 20
_IDS_AT_ONCE = 250
_ID_BYTES = 16
_TEXT_OF_ID = b"\xd9\x24"  # MessagePack: a text of 36 bytes
_OWN_FIELDS = 4  # id, func_name, args and kwargs come first in a record


class Chunk:
    """Encoded records; iterates over them.

    Attributes:
        sizes: Bytes of each record.
        data: The records, end to end.
    """

    __slots__ = ("data", "sizes")

    def __init__(self, sizes: array[int], data: bytes) -> None:
        self.sizes = sizes
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        start = 0
        for size in self.sizes:
            yield self.data[start : start + size]
            start += size


class RecordBatch:
    """Encoded records in the order in which they were added; a context manager.

    Args:
        like: A record with everything that all have in common.
        headers_of: Called with the id of each record: its own headers, where they differ.

    Attributes:
        id_at: Where the text of the id begins in each encoded record.
    """

    def __init__(
        self, like: JobRecord, headers_of: Callable[[str], dict[str, str]] | None = None
    ) -> None:
        self.like = like
        self._headers_of = headers_of
        self._file = SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115  # closed by __exit__
        pack = msgspec.msgpack.encode
        fields = [getattr(like, name) for name in JobRecord.__struct_fields__]
        # A record's wire form is an array of its fields: what all have in common is packed once.
        self._head = pack(tuple(fields))[: -len(b"".join(map(pack, fields)))] + _TEXT_OF_ID
        self._name = pack(like.func_name)
        self._tail = b"".join(map(pack, fields[_OWN_FIELDS:]))
        place = JobRecord.__struct_fields__.index("headers")
        self._before_headers = b"".join(map(pack, fields[_OWN_FIELDS:place]))
        self._after_headers = b"".join(map(pack, fields[place + 1 :]))
        self.id_at = len(self._head)
        self._ids = bytearray()
        self._fresh = _fresh_ids()
        self._open: list[bytes] = []  # the chunk that is being filled, and the ids in it
        self._open_ids: list[str] = []
        self._open_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ids) // _ID_BYTES + len(self._open)

    @property
    def ids(self) -> bytearray:
        """All ids, 16 bytes each."""
        self._close_chunk()
        return self._ids

    def add(self, args: bytes, kwargs: bytes) -> str:
        """Append a record; return its new id.

        Args:
            args, kwargs: Encoded arguments.
        Raises: StorageFull: there is no room for the temporary file.
        """
        job_id = next(self._fresh)
        tail = self._tail if self._headers_of is None else self._tail_of(job_id, self._headers_of)
        packed = b"".join((self._head, job_id.encode(), self._name, args, kwargs, tail))
        self._open.append(packed)
        self._open_ids.append(job_id)
        self._open_bytes += len(packed)
        if len(self._open) == CHUNK_RECORDS or self._open_bytes >= _CHUNK_BYTES:
            self._close_chunk()
        return job_id

    def _tail_of(self, job_id: str, headers_of: Callable[[str], dict[str, str]]) -> bytes:
        headers = msgspec.msgpack.encode(headers_of(job_id))
        return b"".join((self._before_headers, headers, self._after_headers))

    def chunks(self) -> Iterator[Chunk]:
        """Yield all records; may be called again, before its end as well.

        Raises: StorageFull: as ``add``.
        """
        self._close_chunk()
        self._file.seek(0)
        while count := int.from_bytes(self._file.read(4), "big"):
            sizes = array("I")
            sizes.frombytes(self._file.read(count * sizes.itemsize))
            yield Chunk(sizes, self._file.read(sum(sizes)))

    def __iter__(self) -> Iterator[JobRecord]:
        return (JobRecord.decode(data) for chunk in self.chunks() for data in chunk)

    def _close_chunk(self) -> None:
        if not self._open:
            return
        sizes = array("I", map(len, self._open))
        try:
            self._file.write(len(sizes).to_bytes(4, "big"))
            self._file.write(sizes.tobytes())
            self._file.write(b"".join(self._open))
        except OSError as error:
            raise StorageFull(gettempdir(), str(error)) from error
        self._ids += bytes.fromhex("".join(self._open_ids).replace("-", ""))
        self._open, self._open_ids, self._open_bytes = [], [], 0


def _fresh_ids() -> Iterator[str]:
    while True:
        yield from new_ids(_IDS_AT_ONCE)
