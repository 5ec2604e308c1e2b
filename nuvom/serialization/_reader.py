"""Reads what ``msgpack_codec.py`` writes, and refuses everything else as ``PayloadError``.

Nothing is imported, found or called by a stored name: each extension code has one reader,
and a code without one is refused. ``msgspec`` checks declared lengths before it allocates.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from msgspec.msgpack import Decoder

from nuvom.errors import PayloadError
from nuvom.serialization._extensions import READERS, Code
from nuvom.serialization.shaped import MAX_DEPTH, Shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuvom.serialization.base import Packed

# What msgspec and the readers of single values raise on bytes that are not ours. DecodeError
# and UnicodeDecodeError are ValueErrors; TypeError is an unhashable element of a set.
_DAMAGE = (ValueError, TypeError, ArithmeticError, RecursionError)

# All first bytes of arrays and maps. An extension that holds values holds one of these too.
_HEADERS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])

_HOLDERS = frozenset({list, dict, tuple, set, frozenset, Shaped})


class Reader:
    """Decoders of everything stored; stateless, so that one serves all threads.

    Args:
        allows_shaped: Whether ``Shaped`` values may be in it.
    """

    def __init__(self, *, allows_shaped: bool) -> None:
        self._readers: dict[int, Callable[[memoryview], Any]] = {
            **READERS,
            Code.SET: self._read_set,
            Code.FROZENSET: self._read_frozenset,
            Code.PAIRS: self._read_pairs,
            Code.SHAPED: self._read_shaped if allows_shaped else self._refuse_shaped,
        }
        hook = self._read_extension
        self._args = Decoder(tuple[Any, ...], ext_hook=hook).decode
        self._kwargs = Decoder(dict[str, Any], ext_hook=hook).decode
        self._value = Decoder(ext_hook=hook).decode
        self._items = Decoder(list[Any], ext_hook=hook).decode
        self._shaped = Decoder(tuple[str, dict[str, Any] | str | int], ext_hook=hook).decode
        self._readers[Code.TUPLE] = self._args

    def args(self, data: Packed) -> tuple[Any, ...]:
        """Return positional arguments. Raises: PayloadError."""
        try:
            values = self._args(data)
        except _DAMAGE as error:
            _refuse(error)
        if len(data) > MAX_DEPTH:
            _check_depth(data, values)
        return values

    def kwargs(self, data: Packed) -> dict[str, Any]:
        """Return keyword arguments. Raises: PayloadError."""
        try:
            values = self._kwargs(data)
        except _DAMAGE as error:
            _refuse(error)
        if len(data) > MAX_DEPTH:
            _check_depth(data, values.values())
        return values

    def value(self, data: Packed) -> Any:
        """Return one value. Raises: PayloadError."""
        try:
            value = self._value(data)
        except _DAMAGE as error:
            _refuse(error)
        if len(data) > MAX_DEPTH:
            _check_depth(data, (value,))
        return value

    def _read_extension(self, code: int, data: memoryview) -> Any:
        reader = self._readers.get(code)
        if reader is None:
            raise PayloadError(f"there is no extension type {code}")
        return reader(data)

    def _read_set(self, data: memoryview) -> set[Any]:
        return set(self._items(data))

    def _read_frozenset(self, data: memoryview) -> frozenset[Any]:
        return frozenset(self._items(data))

    def _read_pairs(self, data: memoryview) -> dict[Any, Any]:
        items = self._items(data)
        return dict(zip(items[::2], items[1::2], strict=True))

    def _read_shaped(self, data: memoryview) -> Shaped:
        return Shaped(*self._shaped(data))

    def _refuse_shaped(self, data: memoryview) -> NoReturn:
        name = self._shaped(data)[0]
        raise PayloadError(f"it holds a {name[:100]!r}, which no annotation here names")


READER = Reader(allows_shaped=False)
SHAPED_READER = Reader(allows_shaped=True)


def _refuse(error: Exception) -> NoReturn:
    if isinstance(error, msgspec.MsgspecError):
        reason = str(error)
    elif isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    else:  # texts of other errors quote what they read, which may be secret
        reason = f"a value does not fit its type ({type(error).__name__})"
    raise PayloadError(reason) from error


def _check_depth(data: Packed, values: Iterable[Any]) -> None:
    """Raise PayloadError when ``values``, decoded from ``data``, nest beyond ``MAX_DEPTH``."""
    if len(data) - len(bytes(data).translate(None, _HEADERS)) <= MAX_DEPTH:
        return  # there are not even so many containers; true of most, and costs no walk
    level = values
    for _ in range(MAX_DEPTH):
        holders = [value for value in level if type(value) in _HOLDERS]
        if not holders:
            return
        level = chain.from_iterable(map(_children, holders))
    if any(type(value) in _HOLDERS for value in level):
        raise PayloadError("it is nested too deeply")


def _children(holder: Any) -> Iterable[Any]:
    if type(holder) is dict:
        return chain(holder, holder.values())
    if type(holder) is Shaped:
        return holder.data.values() if isinstance(holder.data, dict) else ()
    children: Iterable[Any] = holder
    return children
