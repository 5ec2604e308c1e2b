"""The default codec: MessagePack, with extension types for what it lacks.

Plain values go straight to ``msgspec``. Values that ``msgspec`` would write as something else (a
tuple as an array, an Enum as its value) are found by exact type in one walk, which copies only
the containers that hold them. The reader refuses unknown data with ``PayloadError``. It imports,
finds and calls nothing by a stored name, and ``msgspec`` checks lengths before it allocates.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import msgspec
from msgspec import Raw
from msgspec.msgpack import Decoder, Encoder, Ext

from nuvom.core.record import EMPTY_KWARGS
from nuvom.errors import PayloadError
from nuvom.serialization.base import Codec
from nuvom.serialization.classes import call_vocabulary
from nuvom.serialization.extensions import READERS, WRITERS, Code, write_int
from nuvom.serialization.refusal import (
    MAX_DEPTH,
    Shaped,
    Unstorable,
    arguments,
    keywords,
    not_storable,
    reason_for,
    too_deep,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.serialization.base import Packed
    from nuvom.serialization.refusal import Steps

_encode = Encoder().encode  # shared by all threads: its state is on the stack

# msgspec writes these unchanged. It raises on an int beyond 64 bits and on text with lone
# surrogates. That is so rare that ints and texts are checked only after such an error.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_PLAIN_CHECKED = _PLAIN - {int, str}
_SURPRISES = (OverflowError, UnicodeEncodeError)


class MsgpackCodec(Codec):
    """MessagePack through msgspec; the types and their codes are in docs/serialization.md."""

    name: ClassVar[str] = "msgpack"

    def encode_call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, names: Sequence[str] = ()
    ) -> tuple[bytes, bytes]:
        return _pack_args(args, names), _pack_kwargs(kwargs) if kwargs else bytes(EMPTY_KWARGS)

    def decode_call(
        self, args: Packed, kwargs: Packed, *, shaped: bool = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        reader = _SHAPED_READER if shaped else _READER
        return reader.args(args), {} if kwargs == EMPTY_KWARGS else reader.kwargs(kwargs)

    def quick_encoder(self, func: Callable[..., Any]) -> Callable[[tuple[Any, ...]], bytes | None]:
        return super().quick_encoder(func) if call_vocabulary(func) else _encode_plain

    def encode_value(self, value: Any, *, root: str = "result") -> bytes:
        if type(value) in _PLAIN:
            try:
                return _encode(value)
            except _SURPRISES:
                pass  # the walk finds the cause
        return _pack((value,), [(root, value)], lambda plain: _lower(value, 0, plain))

    def decode_value(self, data: Packed, *, shaped: bool = False) -> Any:
        return (_SHAPED_READER if shaped else _READER).value(data)


# ---- writing --------------------------------------------------------------------------------


def _encode_plain(args: tuple[Any, ...]) -> bytes | None:
    if _PLAIN.issuperset(map(type, args)):
        try:
            return _encode(args)
        except _SURPRISES:
            pass
    return None


def _pack_args(args: tuple[Any, ...], names: Sequence[str]) -> bytes:
    packed = _encode_plain(args)
    if packed is not None:
        return packed
    return _pack(
        args, arguments(args, names), lambda plain: [_lower(value, 0, plain) for value in args]
    )


def _pack_kwargs(kwargs: dict[str, Any]) -> bytes:
    for name, value in kwargs.items():
        if type(value) not in _PLAIN or type(name) is not str:
            break
    else:
        try:
            return _encode(kwargs)
        except _SURPRISES:
            pass  # the walk finds the cause
    names = {name: name for name in kwargs}  # with **kwargs a name may be any text
    return _pack(
        kwargs,
        chain(keywords(kwargs), keywords(names)),
        lambda plain: {
            _lower(name, 0, plain): _lower(value, 0, plain) for name, value in kwargs.items()
        },
    )


def _pack(whole: object, roots: Steps, lower: Callable[[frozenset[type]], Any]) -> bytes:
    try:
        try:
            return _encode(lower(_PLAIN))
        except _SURPRISES:
            return _encode(lower(_PLAIN_CHECKED))
    except (Unstorable, RecursionError) as error:
        raise not_storable(error, whole, roots) from None


def _lower(value: Any, depth: int, plain: frozenset[type]) -> Any:
    """Return ``value`` in a form that msgspec can write and the reader can distinguish.

    Args:
        depth: The number of containers around ``value``.
        plain: The types that need no check; if int and str are missing, they are checked.
    Raises: Unstorable: the value, or something in it, is not storable.
    """
    kind = type(value)
    if kind in plain:
        return value
    if depth == MAX_DEPTH and kind in _CONTAINERS:
        raise too_deep(value)
    if kind is dict:  # most containers hold only plain values; fast checks for these two
        for key, item in value.items():
            if type(item) not in plain or type(key) not in plain:
                break
        else:
            return value
    elif kind is list and plain.issuperset(map(type, value)):
        return value
    lower = _CONTAINERS.get(kind)
    if lower is None:
        return _lower_single(value)
    try:
        return lower(value, depth + 1, plain)
    except Unstorable as refused:
        refused.inside(value)
        raise


def _lower_single(value: Any) -> Any:
    lower = _SINGLES.get(type(value))
    if lower is None:
        raise Unstorable(value, reason_for(value))
    return lower(value)


def _lower_int(value: int) -> int | Ext:
    return value if -(2**63) <= value < 2**64 else Ext(Code.INT, write_int(value))


def _lower_str(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        reason = f"character {error.start} is half of a surrogate pair, which is not text"
        raise Unstorable(value, reason) from None
    return value


def _lower_datetime(value: datetime) -> datetime | Ext:
    # MessagePack has its own type for UTC times.
    return value if value.tzinfo is UTC and not value.fold else _extension(value)


def _extension(value: Any) -> Ext:
    code, write = WRITERS[type(value)]
    return Ext(code, write(value))


# For containers, ``depth`` is that of their children. Sets are written in the order of their
# elements' bytes, so that equal sets give equal bytes in every process.


def _lower_items(
    items: list[Any] | tuple[Any, ...], depth: int, plain: frozenset[type]
) -> list[Any]:
    return [item if type(item) in plain else _lower(item, depth, plain) for item in items]


def _lower_dict(mapping: dict[Any, Any], depth: int, plain: frozenset[type]) -> Any:
    """Lower the keys too: to a map if possible, else to pairs, since an ``Ext`` cannot be a key."""
    if plain.issuperset(map(type, mapping)):
        return {
            key: item if type(item) in plain else _lower(item, depth, plain)
            for key, item in mapping.items()
        }
    keys = [_lower(key, depth, plain) for key in mapping]
    pairs = zip(keys, _lower_items(list(mapping.values()), depth, plain), strict=True)
    if Ext not in map(type, keys):
        return dict(pairs)
    return Ext(Code.PAIRS, _encode(list(chain.from_iterable(pairs))))


def _lower_tuple(items: tuple[Any, ...], depth: int, plain: frozenset[type]) -> Ext:
    return Ext(Code.TUPLE, _encode(_lower_items(items, depth, plain)))


def _lower_set(items: set[Any] | frozenset[Any], depth: int, plain: frozenset[type]) -> Ext:
    code = Code.SET if type(items) is set else Code.FROZENSET
    parts = sorted(_encode(_lower(item, depth, plain)) for item in items)
    return Ext(code, _encode([Raw(part) for part in parts]))


def _lower_shaped(value: Shaped, depth: int, plain: frozenset[type]) -> Ext:
    data = value.data
    if isinstance(data, dict):
        data = {name: _lower(field, depth, plain) for name, field in data.items()}
    else:
        data = _lower(data, depth, plain)
    return Ext(Code.SHAPED, _encode([value.name, data]))


_CONTAINERS: dict[type, Callable[[Any, int, frozenset[type]], Any]] = {
    list: _lower_items,
    dict: _lower_dict,
    tuple: _lower_tuple,
    set: _lower_set,
    frozenset: _lower_set,
    Shaped: _lower_shaped,
}
_SINGLES: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys(WRITERS, _extension),
    int: _lower_int,
    str: _lower_str,
    datetime: _lower_datetime,
}


# ---- reading --------------------------------------------------------------------------------

# What msgspec and the readers of single values raise on invalid bytes. DecodeError and
# UnicodeDecodeError are ValueErrors; TypeError means an unhashable element of a set.
_DAMAGE = (ValueError, TypeError, ArithmeticError, RecursionError)


class _Reader:
    """Decoders for all stored data; stateless, so that all threads can share one.

    Args:
        allows_shaped: Whether to accept ``Shaped`` values.

    Attributes:
        args, kwargs, value: Functions that decode positional arguments, keyword arguments, and
            one value. They raise PayloadError.
    """

    def __init__(self, *, allows_shaped: bool) -> None:
        self._readers: dict[int, Callable[[memoryview], Any]] = {
            **READERS,
            Code.TUPLE: self._decoder(tuple[Any, ...]),
            Code.SET: lambda data: set(self._items(data)),
            Code.FROZENSET: lambda data: frozenset(self._items(data)),
            Code.PAIRS: self._read_pairs,
            Code.SHAPED: self._read_shaped if allows_shaped else self._refuse_shaped,
        }
        self._items = self._decoder(list[Any])
        self._shaped = self._decoder(tuple[str, dict[str, Any] | str | int])
        self.args = _checked(self._decoder(tuple[Any, ...]))
        self.kwargs = _checked(self._decoder(dict[str, Any]))
        self.value = _checked(self._decoder(Any))

    def _decoder(self, kind: Any) -> Callable[[Any], Any]:
        return Decoder(kind, ext_hook=self._read_extension).decode

    def _read_extension(self, code: int, data: memoryview) -> Any:
        reader = self._readers.get(code)
        if reader is None:
            raise PayloadError(f"there is no extension type {code}")
        return reader(data)

    def _read_pairs(self, data: memoryview) -> dict[Any, Any]:
        items = self._items(data)
        return dict(zip(items[::2], items[1::2], strict=True))

    def _read_shaped(self, data: memoryview) -> Shaped:
        return Shaped(*self._shaped(data))

    def _refuse_shaped(self, data: memoryview) -> NoReturn:
        name = self._shaped(data)[0]
        raise PayloadError(f"it holds a {name[:100]!r}, which no annotation here names")


def _checked(decode: Callable[[Packed], Any]) -> Callable[[Packed], Any]:
    """Wrap ``decode`` so that damaged data raises PayloadError."""

    def read(data: Packed) -> Any:
        try:
            return decode(data)
        except _DAMAGE as error:
            _refuse(error)

    return read


def _refuse(error: Exception) -> NoReturn:
    if isinstance(error, msgspec.MsgspecError):
        reason = str(error)
    elif isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    else:  # other errors quote what they read, which may be secret
        reason = f"a value does not fit its type ({type(error).__name__})"
    raise PayloadError(reason) from error


_READER = _Reader(allows_shaped=False)
_SHAPED_READER = _Reader(allows_shaped=True)
