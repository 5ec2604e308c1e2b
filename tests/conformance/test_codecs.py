"""Holds the codec that comes with Nuvom to the laws of codecs."""

from __future__ import annotations

from nuvom.serialization.base import Codec
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.testing.conformance import CodecConformance


class TestMsgpack(CodecConformance):
    def make(self) -> Codec:
        return MsgpackCodec()
