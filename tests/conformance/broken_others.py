"""Result backends, codecs and plugins with one fault each."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.errors import NotStorable
from nuvom.events import JobStarted
from nuvom.plugins.contracts import Plugin
from nuvom.plugins.registry import register_result_backend
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord
    from nuvom.queue_backends.base import BaseJobQueue


# ---- results ------------------------------------------------------------------------------


class LastOutcomeWins(MemoryResultBackend):
    def set_result(self, job_id: str, result: Any, *, record: JobRecord | None = None) -> bool:
        super().forget(job_id)
        return super().set_result(job_id, result, record=record)


class KeepsTheObject(MemoryResultBackend):
    def __init__(self, settings: object = None) -> None:
        super().__init__(settings)
        self._objects: dict[str, Any] = {}

    def set_result(self, job_id: str, result: Any, *, record: JobRecord | None = None) -> bool:
        kept = super().set_result(job_id, result, record=record)
        self._objects[job_id] = result
        return kept

    def get_result(self, job_id: str) -> Any:
        return super().get_result(job_id) and self._objects[job_id]


class RecordsOverOutcomes(MemoryResultBackend):
    def set_record(self, record: JobRecord) -> None:
        self.forget(record.id)
        super().set_record(record)


class JoinsInName(MemoryResultBackend):
    def joins(self, queue: BaseJobQueue) -> bool:
        return True


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


class TakesEverything(MsgpackCodec):
    name = "everything"

    def encode_value(self, value: Any, *, root: str = "result") -> bytes:
        try:
            return super().encode_value(value, root=root)
        except NotStorable:
            return super().encode_value(repr(value))


# ---- plugins ------------------------------------------------------------------------------


class OfTheFuture(Plugin):
    api_version = "2.0"


class KeepsListening(Plugin):
    def start(self, settings: Any, extras: Any) -> None:
        extras["events"].subscribe(JobStarted, print)


class ProvidesInName(Plugin):
    provides = ("result_backend",)


class OffersSomethingElse(Plugin):
    provides = ("result_backend",)

    def start(self, settings: Any, extras: Any) -> None:
        register_result_backend("else", MemoryJobQueue, force=True)  # type: ignore[arg-type]  # the fault


class ReadsTooEarly(Plugin):
    def start(self, settings: Any, extras: Any) -> None:
        extras["inspector"].stats()


class HangsInStop(Plugin):
    """Waits for what never comes; ``release`` ends it."""

    release = threading.Event()

    def stop(self) -> None:
        self.release.wait()
