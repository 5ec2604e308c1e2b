"""The contract of a codec, as somebody who writes one sees it; and what importing costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from nuvom.serialization import Codec, MsgpackCodec, Shaped


@dataclass
class User:
    name: str


def greet(user: User, *, twice: bool = False) -> User:
    return user


def add(x: int, y: int) -> int:
    return x + y


class PlainCodec(Codec):
    """The least that a codec can be: no type that MessagePack lacks, apart from ``Shaped``."""

    name = "plain"

    def encode_call(self, args: Any, kwargs: Any, *, names: Any = ()) -> tuple[bytes, bytes]:
        return self.encode_value(list(args)), self.encode_value(kwargs)

    def decode_call(self, args: Any, kwargs: Any, *, shaped: bool = False) -> Any:
        return tuple(self.decode_value(args)), self.decode_value(kwargs)

    def encode_value(self, value: Any, *, root: str = "result") -> bytes:
        return msgspec.msgpack.encode(
            value, enc_hook=lambda item: {"shaped": item.name, "data": item.data}
        )

    def decode_value(self, data: Any, *, shaped: bool = False) -> Any:
        return _with_shaped(msgspec.msgpack.decode(data))


def _with_shaped(value: Any) -> Any:
    if isinstance(value, dict):
        if "shaped" in value:
            return Shaped(value["shaped"], value["data"])
        return {key: _with_shaped(item) for key, item in value.items()}
    return [_with_shaped(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("codec", [PlainCodec(), MsgpackCodec()], ids=lambda codec: codec.name)
def test_four_methods_make_a_codec_that_carries_the_users_classes(codec: Codec) -> None:
    packed = codec.call_encoder(greet)((User("Ada"),), {"twice": True})
    assert ((User("Ada"),), {"twice": True}) == codec.call_decoder(greet)(*packed)
    data = codec.result_encoder(greet)(User("Ada"))
    assert User("Ada") == codec.result_decoder(greet)(data)


QUICK = [(), (1, 2), ("x" * 1000, 2**64 - 1, -(2**63)), (None, True, 1.5, b"x")]


@pytest.mark.parametrize("args", QUICK)
def test_plain_arguments_are_encoded_in_few_steps_to_the_same_bytes(args: tuple[Any, ...]) -> None:
    codec = MsgpackCodec()
    assert codec.call_encoder(add)(args, {})[0] == codec.quick_encoder(add)(args)
