"""What the author of a queue backend writes: how to make one, and how to share its store."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from nuvom.testing.conformance.law import Kit
from nuvom.testing.conformance.queue_bench import QueueBench, takes_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from nuvom.queue_backends.base import BaseJobQueue, Capability


class QueueKit(Kit):
    """Base of the laws of queues; see ``QueueConformance``."""

    contract: ClassVar[str] = "queue_backend"
    race_jobs: ClassVar[int] = 400
    """How many jobs threads and processes race for."""

    _declared: ClassVar[frozenset[Capability]]  # asked once, of an instance

    def make(self, tmp_path: Path, **settings: Any) -> BaseJobQueue:
        """Return a queue with an empty store of its own, below ``tmp_path`` if it has files.

        Write a parameter ``clock`` with a default if the backend can take one: the kit then
        passes a ``FakeClock``, and laws about time cost none.

        Args:
            settings: Any of ``lease_secs``, ``max_deliveries``, ``max_queue_size`` and
                ``parked_ttl_secs``, as in ``nuvom.config.settings.Settings``.
        """
        raise NotImplementedError

    def reopen(self, queue: BaseJobQueue) -> BaseJobQueue | None:
        """Return a second queue on the same store as ``queue``, None where there can be none."""
        del queue
        return None

    def process_factory(self, queue: BaseJobQueue) -> Callable[[], BaseJobQueue] | None:
        """Return what opens the store of ``queue`` in another process, None where nothing can.

        A function or class at the top level of an importable module, or ``functools.partial``
        of one with arguments that JSON can hold.
        """
        del queue
        return None

    def takes_clock(self) -> bool:
        """Tell whether ``make`` can be given a clock."""
        return takes_clock(self.make)

    @contextmanager
    def bench(self, folder: Path) -> Iterator[QueueBench]:
        bench = QueueBench(self, folder)
        try:
            yield bench
        finally:
            bench.close()

    def declared(self, bench: QueueBench) -> Collection[Capability]:
        cls = type(self)
        if "_declared" not in vars(cls):
            folder = bench.folder / "declared"
            folder.mkdir()
            queue = self.make(folder)
            cls._declared = frozenset(queue.capabilities)
            queue.stop()
        return cls._declared
