"""What readers see of a store besides its jobs: workers, queues, groups of failures.

Plain data, made by queue backends that can be inspected and read by everything that shows.
"""

from __future__ import annotations

import msgspec


class WorkerInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One worker process, as it announced itself.

    Attributes:
        id: Random for each start, never a host or pod name.
        queues: Names that it serves, or empty for all.
        slots: Thread slots; ``async_slots`` and ``processes`` of the other lanes.
        started_at: Seconds since the epoch.
        beat_age_secs: Seconds since its last heartbeat, in the store's terms.
        state: ``alive``, ``quiet`` (claims no more), ``stopping`` or ``silent`` (no beat).
        running: Jobs that it holds a lease on.
    """

    id: str
    pid: int = 0
    host: str = ""
    version: str = ""
    queues: tuple[str, ...] = ()
    slots: int = 1
    async_slots: int = 0
    processes: int = 0
    started_at: float = 0.0
    beat_age_secs: float = 0.0
    state: str = "alive"
    running: int = 0


class QueueStats(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How many jobs a queue holds, by what they wait for.

    Attributes:
        ready: Could start now.
        scheduled: Wait for their ``run_at``; those after a failed attempt are in ``retrying``.
        oldest_ready_at: ``created_at`` or due time of the longest waiting ready job, or None.
        paused_by: Who paused it, or None.
    """

    queue: str
    ready: int = 0
    scheduled: int = 0
    retrying: int = 0
    running: int = 0
    parked: int = 0
    success: int = 0
    failed: int = 0
    dead: int = 0
    cancelled: int = 0
    oldest_ready_at: float | None = None
    paused_by: str | None = None

    @property
    def waiting(self) -> int:
        """All PENDING jobs."""
        return self.ready + self.scheduled + self.retrying


class ErrorGroup(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Failures with one fingerprint: the same task, exception type and place.

    Attributes:
        count: FAILED and DEAD jobs of the group.
        first_at, last_at: Seconds since the epoch.
        example_id: The newest job of the group.
    """

    fingerprint: str
    func_name: str
    type: str
    message: str
    count: int
    first_at: float
    last_at: float
    example_id: str
