"""An attempt that a worker has in hand, from the claim to its settlement.

``RunningJob`` is the one mutable thing about a job in a worker. Whoever takes it out of the
worker's ``InHand`` closes the attempt: the slot that ran it, or the watchdog at its deadline,
or a cancellation, or the loss of its lease. All others find it gone and keep quiet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.outcome import Settlement
from nuvom.core.record import JobRecord, JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuvom.registry.registry import TaskDefinition
    from nuvom.serialization.base import Codec

_NEVER = float("inf")


class Prepared:
    """A task made ready for this worker: its function, and how its values are coded.

    Attributes:
        lane: ``thread``, ``async`` or ``process``.
    """

    __slots__ = ("decode", "definition", "encode", "func", "has_hooks", "lane", "options")

    def __init__(self, definition: TaskDefinition, codec: Codec) -> None:
        self.definition = definition
        self.func = definition.func
        self.options = definition.options
        self.has_hooks = definition.options.has_hooks
        self.lane = definition.options.isolation
        if definition.is_async and self.lane == "thread":
            self.lane = "async"
        self.decode = codec.call_decoder(definition.func)
        self.encode = codec.result_encoder(definition.func)


class RunningJob(msgspec.Struct, eq=False):
    """One delivery of a job to this worker.

    Attributes:
        record: As claimed.
        worker: Id of the worker.
        lane: ``thread``, ``async`` or ``process``.
        leased_at: Monotonic seconds just before the store was asked for the claim, or for the
            last beat that this job was part of: from then on its lease surely runs.
        deadline: Monotonic seconds, set when user code starts; ``inf`` when there is none.
        started_at: Seconds since the epoch, 0 before the start.
        is_cancelled: The task was told to stop: cancelled, past its deadline, or lease lost.
        is_closed, is_told: As in ``nuvom.core.guard.Closable``.
        children: Jobs to enqueue with this one's success.
        prepared: The task that it is an attempt of; None where no code is to run.
        settlement: What closes it, once it is closed.
        kept: What ``after_job`` or ``on_error`` is called with once the attempt is settled, or
            a ``KeptElsewhere``. That of a closed attempt is not what its code ends with.
    """

    record: JobRecord
    worker: str
    services: Any
    leased_at: float
    lane: str = "thread"
    deadline: float = _NEVER
    started_at: float = 0.0
    is_cancelled: bool = False
    children: list[JobRecord] | None = None
    prepared: Prepared = None  # type: ignore[assignment]  # set before a lane gets it
    settlement: Settlement = None  # type: ignore[assignment]  # set before the pump gets it back
    kept: Any = None
    is_closed: bool = False
    is_told: bool = False


class KeptElsewhere:
    """Stands for what is kept in the process that ran the attempt, which calls the hooks itself.

    Attributes:
        settled: Called with the job's new status once that is committed; returns once the hooks
            have been called.
    """

    def __init__(self, settled: Callable[[JobStatus], None]) -> None:
        self.settled = settled


class InHand:
    """The attempts that a worker has in hand; taking one out is atomic, so that one closes it.

    Attributes:
        jobs: These, to look into; only ``take`` takes one out.
        open: These, and those that are out of hand while their outcome is being made.
    """

    def __init__(self) -> None:
        self.jobs: dict[RunningJob, None] = {}
        self._suspects: list[RunningJob] = []
        self.open: set[RunningJob] = set()

    def add(self, *running: RunningJob) -> None:
        """Put attempts in."""
        self.open.update(running)
        self.jobs.update(dict.fromkeys(running))
        self._suspects += [one for one in running if one.record.suspect]

    @property
    def has_suspect(self) -> bool:
        """Whether the job of an attempt in hand was running when an earlier worker died."""
        self._suspects = [one for one in self._suspects if one in self.jobs]
        return bool(self._suspects)

    def take(self, running: RunningJob) -> bool:
        """Take an attempt out; False when somebody else has."""
        return self.jobs.pop(running, _GONE) is None

    def __contains__(self, running: object) -> bool:
        return running in self.jobs

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[RunningJob]:
        return iter(list(self.jobs))


_GONE: Any = object()
