"""Records that differ only in their id and arguments, as one ``.map()`` makes them.

They are encoded as they arrive and spooled to a temporary file, so that any number of them
needs bounded memory. A backend may iterate over the batch as over any records, or take the
encoded records as they are.
"""

from __future__ import annotations

from itertools import islice
from tempfile import SpooledTemporaryFile, gettempdir
from typing import TYPE_CHECKING, Self

import msgspec

from nuvom.errors import StorageFull
from nuvom.record import JobRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY_BYTES = 4 << 20
_READ_BYTES = 1 << 20
_PREFIX = 4  # bytes of length before each record in the file
_ID_BYTES = 16
_OWN_FIELDS = 4  # id, func_name, args and kwargs come first in a record


class RecordBatch:
    """Encoded records in the order in which they were added; a context manager.

    Args:
        like: A record with everything that all have in common.

    Attributes:
        ids: All ids, 16 bytes each.
    """

    def __init__(self, like: JobRecord) -> None:
        self.like = like
        self.ids = bytearray()
        self._file = SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115  # closed by __exit__
        pack = msgspec.msgpack.encode
        fields = [getattr(like, name) for name in JobRecord.__struct_fields__]
        # A record's wire form is an array of its fields: what all have in common is packed once.
        self._head = pack(tuple(fields))[: -len(b"".join(map(pack, fields)))]
        self._name = pack(like.func_name)
        self._tail = b"".join(map(pack, fields[_OWN_FIELDS:]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.ids) // _ID_BYTES

    def add(self, job_id: str, args: bytes, kwargs: bytes) -> None:
        """Append a record.

        Args:
            job_id: 36 characters, as ``new_id`` makes them.
            args, kwargs: Encoded arguments.
        Raises: StorageFull: there is no room for the temporary file.
        """
        packed = b"".join(
            (self._head, b"\xd9\x24", job_id.encode(), self._name, args, kwargs, self._tail)
        )
        try:
            self._file.write(len(packed).to_bytes(_PREFIX, "big") + packed)
        except OSError as error:
            raise StorageFull(gettempdir(), str(error)) from error
        self.ids += bytes.fromhex(job_id.replace("-", ""))

    def packed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the id and the encoded form of each record; may be called again after its end."""
        start = len(self._head) + 2
        end = start + 36
        for data in self._items():
            yield data[start:end].decode(), data

    def chunks(self, size: int) -> Iterator[list[tuple[str, bytes]]]:
        """Yield what ``packed`` yields, in lists of at most ``size``."""
        stream = self.packed()
        while chunk := list(islice(stream, size)):
            yield chunk

    def __iter__(self) -> Iterator[JobRecord]:
        return (JobRecord.decode(data) for data in self._items())

    def _items(self) -> Iterator[bytes]:
        self._file.seek(0)
        rest = b""
        while read := self._file.read(_READ_BYTES):
            data = rest + read
            start = 0
            while start + _PREFIX <= len(data):
                end = start + _PREFIX + int.from_bytes(data[start : start + _PREFIX], "big")
                if end > len(data):
                    break
                yield data[start + _PREFIX : end]
                start = end
            rest = data[start:]
