from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from nuvom.clock import SYSTEM_CLOCK, Clock
from nuvom.config import Settings
from nuvom.queue_backends.file import FileJobQueue
from nuvom.testing.conformance.queue import QueueConformance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nuvom.queue_backends.base import BaseJobQueue


def open_queue(root: str) -> FileJobQueue:
    from pathlib import Path

    return FileJobQueue(Settings(root=Path(root)))


class TestFileJobQueue(QueueConformance):
    def make(self, tmp_path: Path, clock: Clock = SYSTEM_CLOCK, **settings: Any) -> FileJobQueue:
        return FileJobQueue(Settings(root=tmp_path, **settings), clock=clock)

    def reopen(self, queue: BaseJobQueue) -> FileJobQueue:
        assert isinstance(queue, FileJobQueue)
        return FileJobQueue(queue.settings, clock=queue.clock)

    def process_factory(self, queue: BaseJobQueue) -> Callable[[], FileJobQueue]:
        assert isinstance(queue, FileJobQueue)
        return partial(open_queue, str(queue.settings.root))
