"""The codec in use by default: MessagePack, with extension types for what it lacks.

Plain values go straight to ``msgspec``. What that would write as something else (a tuple as
an array, an Enum as its value) is found by exact type in one walk, which copies only the
containers that hold such values. Reading is ``_reader.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Raw
from msgspec.msgpack import Encoder, Ext

from nuvom.core.record import EMPTY_KWARGS
from nuvom.serialization._extensions import WRITERS, Code, write_int
from nuvom.serialization._reader import READER, SHAPED_READER
from nuvom.serialization._refusal import (
    Refused,
    arguments,
    keywords,
    not_storable,
    reason_for,
    too_deep,
)
from nuvom.serialization.annotations import call_plan
from nuvom.serialization.base import Codec
from nuvom.serialization.shaped import MAX_DEPTH, Shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.serialization._refusal import Steps
    from nuvom.serialization.base import Packed

_encode = Encoder().encode  # one for all threads: an encoder keeps its state on the stack

# msgspec writes these as they are. It raises on an int beyond 64 bits and on text with lone
# surrogates, which happens so seldom that only then every int and text is looked at.
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
        reader = SHAPED_READER if shaped else READER
        return reader.args(args), {} if kwargs == EMPTY_KWARGS else reader.kwargs(kwargs)

    def quick_encoder(self, func: Callable[..., Any]) -> Callable[[tuple[Any, ...]], bytes | None]:
        return _encode_plain if call_plan(func) is None else super().quick_encoder(func)

    def encode_value(self, value: Any, *, root: str = "result") -> bytes:
        if type(value) in _PLAIN:
            try:
                return _encode(value)
            except _SURPRISES:
                pass  # the walk finds out what it was
        return _pack((value,), [(root, value)], lambda plain: _lower(value, 0, plain))

    def decode_value(self, data: Packed, *, shaped: bool = False) -> Any:
        return (SHAPED_READER if shaped else READER).value(data)


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
            pass  # the walk finds out which it was
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
    except (Refused, RecursionError) as error:
        raise not_storable(error, whole, roots) from None


# ---- one value ------------------------------------------------------------------------------


def _lower(value: Any, depth: int, plain: frozenset[type]) -> Any:
    """Return ``value`` in a form that msgspec writes and ``_reader.py`` tells apart.

    Args:
        depth: How many containers ``value`` is in.
        plain: The types that need no look; without int and str, these are checked.
    Raises: Refused: it, or something in it, is not storable.
    """
    kind = type(value)
    if kind in plain:
        return value
    if depth == MAX_DEPTH and kind in _CONTAINERS:
        raise too_deep(value)
    if kind is dict:  # most containers hold plain values only; these two find out fast
        for key, item in value.items():
            if type(item) not in plain or type(key) not in plain:
                break
        else:
            return value
    elif kind is list and plain.issuperset(map(type, value)):
        return value
    lower = _CONTAINERS.get(kind)
    if lower is not None:
        return lower(value, depth + 1, plain)
    return _lower_single(value)


def _lower_single(value: Any) -> Any:
    lower = _SINGLES.get(type(value))
    if lower is None:
        raise Refused(value, reason_for(value))
    return lower(value)


def _lower_int(value: int) -> int | Ext:
    return value if -(2**63) <= value < 2**64 else Ext(Code.INT, write_int(value))


def _lower_str(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        reason = f"character {error.start} is half of a surrogate pair, which is not text"
        raise Refused(value, reason) from None
    return value


def _lower_datetime(value: datetime) -> datetime | Ext:
    if value.tzinfo is UTC and not value.fold:
        return value  # MessagePack has a type for moments in UTC
    return Ext(*_extension(value))


def _extension(value: Any) -> tuple[int, bytes]:
    code, write = WRITERS[type(value)]
    return code, write(value)


# ---- containers -----------------------------------------------------------------------------
# Each is given the depth of its children. Sets are written in the order of their elements'
# bytes, so that equal sets give equal bytes in each process.


def _lower_items(
    items: list[Any] | tuple[Any, ...], depth: int, plain: frozenset[type]
) -> list[Any]:
    try:
        return [item if type(item) in plain else _lower(item, depth, plain) for item in items]
    except Refused as refused:
        refused.inside(items)
        raise


def _lower_dict(mapping: dict[Any, Any], depth: int, plain: frozenset[type]) -> Any:
    try:
        if not plain.issuperset(map(type, mapping)):
            return _lower_pairs(mapping, depth, plain)
        return {
            key: item if type(item) in plain else _lower(item, depth, plain)
            for key, item in mapping.items()
        }
    except Refused as refused:
        refused.inside(mapping)
        raise


def _lower_pairs(mapping: dict[Any, Any], depth: int, plain: frozenset[type]) -> Any:
    """Lower the keys too: as a map if they allow it, else as pairs, since no ``Ext`` is a key."""
    keys = [_lower(key, depth, plain) for key in mapping]
    items = [_lower(item, depth, plain) for item in mapping.values()]
    pairs = zip(keys, items, strict=True)
    if Ext not in map(type, keys):
        return dict(pairs)
    return Ext(Code.PAIRS, _encode(list(chain.from_iterable(pairs))))


def _lower_tuple(items: tuple[Any, ...], depth: int, plain: frozenset[type]) -> Ext:
    return Ext(Code.TUPLE, _encode(_lower_items(items, depth, plain)))


def _lower_set(items: set[Any] | frozenset[Any], depth: int, plain: frozenset[type]) -> Ext:
    code = Code.SET if type(items) is set else Code.FROZENSET
    try:
        parts = sorted(_encode(_lower(item, depth, plain)) for item in items)
    except Refused as refused:
        refused.inside(items)
        raise
    return Ext(code, _encode([Raw(part) for part in parts]))


def _lower_shaped(value: Shaped, depth: int, plain: frozenset[type]) -> Ext:
    data = value.data
    try:
        if isinstance(data, dict):
            data = {name: _lower(field, depth, plain) for name, field in data.items()}
        else:
            data = _lower(data, depth, plain)
    except Refused as refused:
        refused.inside(value)
        raise
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
    **dict.fromkeys(WRITERS, lambda value: Ext(*_extension(value))),
    int: _lower_int,
    str: _lower_str,
    datetime: _lower_datetime,
}
