"""The laws of the kit for a store on a server that tests share: each store is made and removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from nuvom.core.clock import Clock
from nuvom.queue_backends.server import ServerQueue
from nuvom.result_backends.joined import JoinedResults
from nuvom.testing.conformance import QueueConformance, ResultConformance
from tests.lab.servers import drop_stores, new_store, open_queue, open_results

MARKS = [
    pytest.mark.timeout(600),
    # A connection that was just opened when an exception came is closed when forgotten.
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class OnServer:
    """Makes each store in a place of its own, and removes them all.

    Attributes:
        backend: ``postgres`` or ``redis``.
    """

    backend: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _stores(self) -> Iterator[None]:
        self.stores: list[dict[str, str]] = []
        self.beside: list[ServerQueue] = []
        yield
        for queue in self.beside:
            queue.stop()
        drop_stores(*self.stores)

    def new_place(
        self, tmp_path: Path, settings: dict[str, Any]
    ) -> tuple[str, str, dict[str, Any]]:
        """Return what opens a new store, in other processes too."""
        self.stores.append(new_store(self.backend))
        return self.backend, str(tmp_path), {**settings, **self.stores[-1]}


class QueueOnServer(OnServer, QueueConformance):
    def make(self, tmp_path: Path, clock: Clock | None = None, **settings: Any) -> ServerQueue:
        self.opened = self.new_place(tmp_path, settings)
        self.clock = clock
        return self.reopen()

    def reopen(self, queue: object = None) -> ServerQueue:
        return open_queue(*self.opened, clock=self.clock)

    def process_factory(self, queue: object) -> Callable[[], ServerQueue]:
        return partial(open_queue, *self.opened)


class ResultsOnServer(OnServer, ResultConformance):
    def make(self, tmp_path: Path, **settings: Any) -> JoinedResults:
        self.opened = self.new_place(tmp_path, settings)
        return self.reopen()

    def reopen(self, backend: object = None) -> JoinedResults:
        return open_results(*self.opened)

    def queue_beside(self, backend: object = None) -> ServerQueue:
        self.beside.append(open_queue(*self.opened))
        return self.beside[-1]


class ResultsBesideTheirQueue(ResultsOnServer):
    """The same laws for a backend that joined a queue."""

    def make(self, tmp_path: Path, **settings: Any) -> JoinedResults:
        backend = super().make(tmp_path)
        assert backend.joins(self.queue_beside())
        return backend
