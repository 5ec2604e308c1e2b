"""How tests open the backends that come with Nuvom, in this process and in others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from tests.lab.stores import StoreConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.queue_backends.base import BaseJobQueue

QUEUES = {"file": FileJobQueue, "sqlite": SQLiteJobQueue}


def open_queue(name: str, root: str, settings: dict[str, Any]) -> BaseJobQueue:
    """Open a store; a process that a law starts calls this."""
    return QUEUES[name](Settings(root=Path(root), **settings))


class StoredQueueConformance(StoreConformance):
    """The kit for a backend that keeps its store below ``Settings.root``."""

    backend: ClassVar[str]

    def make(self, tmp_path: Path, clock: Clock = SYSTEM_CLOCK, **settings: Any) -> BaseJobQueue:
        self.opened = (tmp_path, settings, clock)
        return QUEUES[self.backend](Settings(root=tmp_path, **settings), clock=clock)

    def reopen(self, queue: BaseJobQueue) -> BaseJobQueue:
        root, settings, clock = self.opened
        return QUEUES[self.backend](Settings(root=root, **settings), clock=clock)

    def process_factory(self, queue: BaseJobQueue) -> Callable[[], BaseJobQueue]:
        root, settings, _ = self.opened
        return partial(open_queue, self.backend, str(root), settings)
