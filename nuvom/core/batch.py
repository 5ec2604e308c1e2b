"""Records that differ only in their id and arguments, as created by one ``.map()``.

The parts that differ are spooled to a temporary file in chunks as they arrive, so that any number
of records needs bounded memory. Records are built from them, a chunk at a time, whenever they are
read. A backend may iterate over the batch as over any records, or take the chunks as they are.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING, Self

import msgspec

from nuvom.core.ids import ID_BYTES, ID_CHARS, id_texts, new_ids
from nuvom.core.record import JobRecord
from nuvom.errors import StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CHUNK_RECORDS = 2000
_CHUNK_BYTES = 1 << 20  # a chunk is closed by the call that makes its records this large
_MEMORY_BYTES = 4 << 20
_SIZE_BYTES = 8  # of the length prefix of a spooled chunk
_TEXT_OF_ID = b"\xd9\x24"  # MessagePack: a text of 36 bytes
_OWN_FIELDS = 4  # id, func_name, args and kwargs come first in a record

_pack = msgspec.msgpack.Encoder().encode
_unpack_chunk = msgspec.msgpack.Decoder(tuple[list[bytes], list[bytes]]).decode


def _leave_out_defaults(fields: list[object]) -> None:
    """Drop trailing fields of a record that readers fill in with defaults: a quarter of it."""
    for default in reversed(JobRecord.__struct_defaults__):
        if len(fields) == _OWN_FIELDS or fields[-1] != default:
            return
        fields.pop()


class RecordBatch:
    """Encoded records in the order in which their calls were added; a context manager.

    Args:
        like: A record with all fields that the records have in common.
        headers_of: Called once with the id of each record; returns its headers, if they differ.

    Attributes:
        id_at: Where the text of the id begins in each encoded record.
    """

    def __init__(
        self, like: JobRecord, headers_of: Callable[[str], dict[str, str]] | None = None
    ) -> None:
        from tempfile import SpooledTemporaryFile  # noqa: PLC0415  # slow to load, and workers do not need it

        self.like = like
        self._headers_of = headers_of
        self._file = SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115  # closed by __exit__
        fields = [getattr(like, name) for name in JobRecord.__struct_fields__]
        if headers_of is None:
            _leave_out_defaults(fields)
        # A record's wire form is an array of its fields: the common ones are packed once.
        self._head = _pack(tuple(fields))[: -len(b"".join(map(_pack, fields)))] + _TEXT_OF_ID
        self._name = _pack(like.func_name)
        self._tail = b"".join(map(_pack, fields[_OWN_FIELDS:]))
        place = JobRecord.__struct_fields__.index("headers")
        self._before_headers = b"".join(map(_pack, fields[_OWN_FIELDS:place]))
        self._after_headers = b"".join(map(_pack, fields[place + 1 :]))
        self._common_bytes = len(self._head) + ID_CHARS + len(self._name) + len(self._tail)
        self.id_at = len(self._head)
        self._ids = bytearray()
        self._open: list[bytes] = []  # the calls of the chunk being filled
        self._open_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ids) // ID_BYTES + len(self._open)

    @property
    def ids(self) -> bytearray:
        """All ids, 16 bytes each."""
        self._close_chunk()
        return self._ids

    def extend(self, calls: Iterable[bytes]) -> None:
        """Append a record for each call, reading them one by one.

        Args:
            calls: The encoded arguments of each call, positional then keyword, concatenated.
        Raises: StorageFull: there is no space for the temporary file.
        """
        for call in calls:
            self._open.append(call)
            self._open_bytes += self._common_bytes + len(call)
            if len(self._open) == CHUNK_RECORDS or self._open_bytes >= _CHUNK_BYTES:
                self._close_chunk()

    def chunks(self) -> Iterator[list[bytes]]:
        """Yield all records, encoded; may be called again, even before it is exhausted.

        Raises: StorageFull: as ``extend``.
        """
        self._close_chunk()
        self._file.seek(0)
        start = 0
        while size := int.from_bytes(self._file.read(_SIZE_BYTES), "big"):
            calls, headers = _unpack_chunk(self._file.read(size))
            end = start + len(calls) * ID_BYTES
            yield self._records(id_texts(self._ids[start:end]), calls, headers)
            start = end

    def __iter__(self) -> Iterator[JobRecord]:
        return map(JobRecord.decode, chain.from_iterable(self.chunks()))

    def _records(self, ids: list[bytes], calls: list[bytes], headers: list[bytes]) -> list[bytes]:
        """Assemble records column by column, without a Python-level step for each record."""
        parts: list[Iterable[bytes]] = [repeat(self._head), ids, repeat(self._name), calls]
        if headers:
            parts += [repeat(self._before_headers), headers, repeat(self._after_headers)]
        else:
            parts.append(repeat(self._tail))
        return [*map(b"".join, zip(*parts, strict=False))]

    def _close_chunk(self) -> None:
        if not self._open:
            return
        ids = new_ids(len(self._open))
        headers: list[bytes] = []
        if self._headers_of is not None:
            headers = [_pack(self._headers_of(text.decode())) for text in id_texts(ids)]
        packed = _pack((self._open, headers))
        try:
            self._file.write(len(packed).to_bytes(_SIZE_BYTES, "big"))
            self._file.write(packed)
        except OSError as error:
            from tempfile import gettempdir  # noqa: PLC0415  # as above

            raise StorageFull(gettempdir(), str(error)) from error
        self._ids += ids
        self._open, self._open_bytes = [], 0
