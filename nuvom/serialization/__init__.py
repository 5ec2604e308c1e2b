"""Serialization of arguments and results. Each name is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuvom.serialization.base import Codec
    from nuvom.serialization.msgpack_codec import MsgpackCodec
    from nuvom.serialization.refusal import MAX_DEPTH, Shaped

_HOMES = {
    "Codec": "nuvom.serialization.base",
    "MAX_DEPTH": "nuvom.serialization.refusal",
    "MsgpackCodec": "nuvom.serialization.msgpack_codec",
    "Shaped": "nuvom.serialization.refusal",
}

__all__ = ["MAX_DEPTH", "Codec", "MsgpackCodec", "Shaped"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
