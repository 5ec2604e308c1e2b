"""Result backends, codecs and plugins with one fault each."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.errors import NotStorable
from nuvom.events import JobStarted
from nuvom.plugins.contracts import Plugin
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord


# ---- results ------------------------------------------------------------------------------


class LastOutcomeWins(MemoryResultBackend):
    def set_result(self, job_id: str, result: Any, *, record: JobRecord | None = None) -> bool:
        super().forget(job_id)
        return super().set_result(job_id, result, record=record)


# ---- codecs -------------------------------------------------------------------------------


class FlattensTuples(MsgpackCodec):
    """MessagePack without types of its own."""

    name = "flat"

    def encode_value(self, value: Any, *, root: str = "result") -> bytes:
        super().encode_value(value, root=root)
        try:
            return msgspec.msgpack.encode(value)
        except (TypeError, OverflowError, NotImplementedError) as error:
            raise NotStorable(root, type(value).__name__) from error


# ---- plugins ------------------------------------------------------------------------------


class OfTheFuture(Plugin):
    api_version = "2.0"


class KeepsListening(Plugin):
    def start(self, settings: Any, extras: Any) -> None:
        extras["events"].subscribe(JobStarted, print)


class ProvidesInName(Plugin):
    provides = ("result_backend",)


class HangsInStop(Plugin):
    """Waits for what never comes; ``release`` ends it."""

    release = threading.Event()

    def stop(self) -> None:
        self.release.wait()
