"""A temporary file of byte strings, written once and read in order.

``.map()`` keeps encoded jobs here until the last item has arrived, so that any number of them
needs bounded memory.
"""

from __future__ import annotations

from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY_BYTES = 4 << 20
_READ_BYTES = 1 << 20
_PREFIX = 4  # bytes of length before each item


class Spool:
    """Items in the order in which they were added; a context manager that removes the file."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, item: bytes) -> None:
        """Append one item of less than 4 GiB."""
        self._file.write(len(item).to_bytes(_PREFIX, "big") + item)

    def items(self) -> Iterator[bytes]:
        """Yield all items; may be called again after the last."""
        self._file.seek(0)
        rest = b""
        while chunk := self._file.read(_READ_BYTES):
            data = rest + chunk
            start = 0
            while start + _PREFIX <= len(data):
                end = start + _PREFIX + int.from_bytes(data[start : start + _PREFIX], "big")
                if end > len(data):
                    break
                yield data[start + _PREFIX : end]
                start = end
            rest = data[start:]
