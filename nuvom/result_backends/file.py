"""Results in a folder of plain files; with a file queue, in the queue's log."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.queue_backends.file import FileJobQueue
from nuvom.result_backends.table import TableResults
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from nuvom.config.settings import Settings
    from nuvom.queue_backends.base import BaseJobQueue


class FileResultBackend(TableResults):
    """Results in files.

    Args:
        settings: Location of the folder, and durability.
        clock: Replaced by tests.
    """

    name: ClassVar[str] = "file"

    def __init__(self, settings: Settings | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(FileJobQueue(settings, clock=clock), MsgpackCodec())

    def joins(self, queue: BaseJobQueue) -> bool:
        """Share the queue's log when it is the same folder; see the contract."""
        mine = self.queue
        if not isinstance(queue, FileJobQueue) or not isinstance(mine, FileJobQueue):
            return False
        return queue.directory == mine.directory and self.join(queue)

    def start(self) -> None:
        """Open the folder, so that any problem with it shows at once."""
        self.queue.start()
