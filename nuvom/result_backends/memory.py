"""Results that live and die with this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.table import TableResults
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from nuvom.queue_backends.base import BaseJobQueue


class MemoryResultBackend(TableResults):
    """Results in memory. Built as ``cls(settings)`` or ``cls()``; ignores all settings."""

    name: ClassVar[str] = "memory"

    def __init__(self, settings: object = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(MemoryJobQueue(settings, clock=clock), MsgpackCodec())

    def joins(self, queue: BaseJobQueue) -> bool:
        return isinstance(queue, MemoryJobQueue) and self.join(queue)
