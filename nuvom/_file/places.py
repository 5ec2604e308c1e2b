"""The two kinds of places where jobs of the table lie: queues, and the hands of workers."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus

if TYPE_CHECKING:
    from nuvom._file.line import Line
    from nuvom._file.rows import Row
    from nuvom.core.views import WorkerInfo


class QueueState:
    """One queue.

    Attributes:
        counts: Jobs by status.
        ready, suspects: Lines of jobs that could start now, by task: a claim that leaves a
            task out need not look at its jobs.
    """

    __slots__ = ("counts", "name", "paused_by", "ready", "suspects")

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts = dict.fromkeys(JobStatus, 0)
        self.ready: dict[str, Line] = {}
        self.suspects: dict[str, Line] = {}
        self.paused_by: str | None = None


class Holder:
    """Somebody who claims, by its worker's id.

    Attributes:
        held: The jobs it has a lease on.
        lease_until: To when its last heartbeat renewed the leases it had then.
        info: What is shown of it, once announced.
    """

    __slots__ = ("beat_at", "commands", "held", "info", "lease_until")

    def __init__(self) -> None:
        self.held: dict[str, Row] = {}
        self.lease_until = -inf
        self.beat_at = 0.0
        self.info: WorkerInfo | None = None
        self.commands: list[str] = []

    @property
    def is_idle(self) -> bool:
        """Whether nothing is known of it."""
        return not self.held and self.info is None
