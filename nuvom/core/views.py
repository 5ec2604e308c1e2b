"""What readers see of a store besides its jobs: workers, queues, failure groups, totals.

Plain data, created by inspectable queue backends and read by everything that displays it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from nuvom.core.record import JobStatus, StoredError

if TYPE_CHECKING:
    from nuvom.core.record import JobSnapshot


GONE_LEASES = 20
"""A worker without a heartbeat for this many leases is no longer shown."""


_BEATS_PER_LEASE = 6
_LONGEST_BEAT_SECS = 5.0


def beat_secs(lease_secs: float) -> float:
    """Return how many seconds pass between two heartbeats of a process."""
    return min(lease_secs / _BEATS_PER_LEASE, _LONGEST_BEAT_SECS)


class WorkerInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One worker process, or a scheduler in a process of its own, as it announced itself.

    Attributes:
        id: Random for each start, never a host or pod name.
        queues: Names of the queues that it serves, or empty for all.
        slots: Thread slots, 0 for a scheduler alone; ``async_slots`` and ``processes`` are those
            of the other lanes.
        started_at: Seconds since the epoch.
        beat_age_secs: Seconds since its last heartbeat, by the store's clock.
        state: ``alive``, ``quiet`` (claims no more), ``stopping``, ``stuck`` (restarts because
            too many of its threads hang) or ``silent`` (no heartbeat for a whole lease).
        running: Jobs on which it holds a lease.
        release: The version of its code; see ``nuvom.discovery.manifest.release_of``.
        scheduler: Whether it fires schedules.
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
    release: str = ""
    scheduler: bool = False

    @property
    def runs_jobs(self) -> bool:
        """Whether it is a worker, not a scheduler alone."""
        return self.slots > 0

    def obeys(self, word: str) -> bool:
        """Return whether it knows a command: a scheduler alone only knows ``stop``."""
        return self.runs_jobs or word == "stop"


def seen_worker(worker: WorkerInfo, lease_secs: float) -> WorkerInfo | None:
    """Return what to show of a worker that is not known to be dead; None once it is gone.

    It is silent once its leases run out and its jobs are taken back, and gone after
    ``GONE_LEASES`` leases. A later heartbeat makes it alive again.
    """
    if worker.beat_age_secs >= GONE_LEASES * lease_secs:
        return None
    if worker.beat_age_secs < lease_secs:
        return worker
    return msgspec.structs.replace(worker, state="silent")


class Links(NamedTuple):
    """Ids of the jobs that a job follows from, and of those that follow from it.

    Attributes:
        parent: The job whose code enqueued it.
        children: What its own code enqueued with ``current_job().enqueue()``, at most 100.
        retried_from, retried_by: The job that it repeats, and those that repeat it.
    """

    parent: str | None = None
    children: tuple[str, ...] = ()
    retried_from: str | None = None
    retried_by: tuple[str, ...] = ()


class Reason(NamedTuple):
    """Why a job is not running.

    Attributes:
        text: A clause without a full stop, such as ``no worker serves the queue "mail"``.
        fix: What to do, or ``""`` where the job only has to wait.
    """

    text: str
    fix: str = ""

    @property
    def sentence(self) -> str:
        """The text after ``Not running:``, as a sentence."""
        return f"Not running: {self.text}{'' if self.text.endswith('?') else '.'}"


class JobScan(NamedTuple):
    """Jobs that were found by looking at a limited number of stored ones.

    Attributes:
        jobs: Newest first.
        next_before: The id to go on before, or None if the end was reached.
        looked_at: How many stored jobs were looked at, about.
    """

    jobs: list[JobSnapshot]
    next_before: str | None
    looked_at: int


class QueueStats(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How many jobs a queue holds, by what they wait for.

    Attributes:
        ready: Jobs that could start now.
        scheduled: Jobs that wait for their ``run_at``; after a failed attempt they count as
            ``retrying``.
        oldest_ready_at: ``created_at`` or ``run_at`` of the longest waiting ready job, or None.
        paused_by, paused_at: Who paused it, and when in seconds since the epoch, or None.
        at_least: Names of counts that stopped early: there may be more. See
            ``LeasedJobQueue.stats``.
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
    paused_at: float | None = None
    at_least: tuple[str, ...] = ()

    @property
    def waiting(self) -> int:
        """All PENDING jobs."""
        return self.ready + self.scheduled + self.retrying


def failure_group(status: str, task: str, error: StoredError | None) -> str:
    """Return the fingerprint of the group that a FAILED or DEAD job belongs to."""
    if error is None:
        return f"{status}:{task}"
    return error.fingerprint or f"{error.type}:{task}"


RECENT_FAILURES = 200
"""How many failures of a group ``ErrorGroup.recent`` has at most."""


class ErrorGroup(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Failures with one fingerprint: the same task, exception type and place.

    Attributes:
        count: FAILED and DEAD jobs of the group.
        first_at, last_at: Seconds since the epoch.
        example_id: The newest job of the group.
        status: That of the newest job.
        place: File and function where it was raised, such as ``shop/images.py, open_source``;
            empty if unknown.
        recent: When the newest jobs of the group ended, at most ``RECENT_FAILURES``; seconds since
            the epoch, latest first.
    """

    fingerprint: str
    func_name: str
    type: str
    message: str
    count: int
    first_at: float
    last_at: float
    example_id: str
    status: JobStatus = JobStatus.FAILED
    place: str = ""
    recent: tuple[float, ...] = ()


def error_group(status: JobStatus, error: StoredError | None, **fields: Any) -> ErrorGroup:
    """Return a group of failures.

    Args:
        status, error: Those of its newest job.
        fields: Other fields of ``ErrorGroup``.
    """
    error = error or StoredError(str(status), "")
    place = failure_place(error.traceback or "")
    return ErrorGroup(status=status, type=error.type, message=error.message, place=place, **fields)


_FRAME = re.compile(r'^  File "([^"\n]+)", line \d+, in (.+)$', re.MULTILINE)
_THEIRS = re.compile(r"[/\\]site-packages[/\\]|^<frozen")
_SHOWN_PARTS = 2  # the last parts of a path say enough


def failure_place(traceback: str) -> str:
    """Return the innermost place in a traceback outside installed packages; empty if unknown."""
    frames = [one for one in _FRAME.findall(traceback) if not _THEIRS.search(one[0])]
    if not frames:
        return ""
    path, function = frames[-1]
    parts = re.split(r"[/\\]", path)[-_SHOWN_PARTS:]
    return f"{'/'.join(parts)}, {function}"


# Upper bounds of the histograms of ``Total``, in seconds.
TOOK_BOUNDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 900.0, 3600.0),
)
WAITED_BOUNDS = (*TOOK_BOUNDS, 14_400.0, 86_400.0)


class Total(msgspec.Struct, frozen=True, gc=False):
    """A count of what happened to the jobs of one queue and task; never pruned.

    Attributes:
        kind: ``enqueued``; ``attempt``, one that ran to its end; ``retried``, an attempt that
            is followed by another; ``lost``, one whose worker died or went silent;
            ``redelivered``, a job given back to its queue after that; ``finished``, a job
            that ended other than by success.
        outcome: For an attempt ``success``, ``timeout`` (which the policy ignores), or empty
            if the job did not end in SUCCESS. For a finished job ``failure``, ``timeout``,
            ``cancelled`` or ``dead``.
        took, waited: For an attempt: the index in ``TOOK_BOUNDS`` and ``WAITED_BOUNDS`` of the
            first bound that is not exceeded; their length if all are.
        took_secs, waited_secs: Sums over ``count`` attempts.
    """

    kind: str
    queue: str
    task: str
    outcome: str = ""
    took: int = 0
    waited: int = 0
    count: int = 1
    took_secs: float = 0.0
    waited_secs: float = 0.0


ROLLUP_BOUNDS = TOOK_BOUNDS
"""Upper bounds of the histograms of ``Rollup``, in seconds."""

ENDS = ("success", "failed", "dead", "cancelled")
"""The kinds of ``Rollup`` that count jobs by how they ended."""

UNTIMED = -1
"""The bucket of what did not run, or for an unknown time."""


class Rollup(msgspec.Struct, frozen=True, gc=False):
    """How many jobs of one queue and task ended in one way in one step of time.

    Attributes:
        at: The start of the step, seconds since the epoch; a multiple of the step.
        task: Empty for ``waited``, which is counted for each queue alone.
        kind: ``success``, ``failed``, ``dead`` and ``cancelled`` count jobs that ended so;
            ``retried``, attempts that failed and that another follows; ``waited``, attempts that
            ran, by how long they had waited for a worker. All count when the attempt ends.
        bucket: The index in ``ROLLUP_BOUNDS`` of the first bound that the duration of the attempt,
            or its wait, does not exceed; their length if it exceeds all. ``UNTIMED`` for a job
            that ended without having run, or whose worker died.
        count: 1 or more: a bucket without any has no row.
        secs: The sum of the durations or waits.
    """

    at: int
    queue: str
    task: str
    kind: str
    bucket: int
    count: int
    secs: float


class AuditEntry(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What somebody did to stored jobs, queues, workers or schedules.

    Attributes:
        id: Sorts by time, as ids of jobs do. An entry of the same id replaces the former one.
        at: Seconds since the epoch.
        actor: Who, as far as is known.
        source: From where: an address, or the name of a program.
        action: A verb such as ``retry``, ``cancel`` or ``pause``.
        target: What it was done to, such as a search or the first ids.
        asked, done, skipped, failed: How many there were, and what became of them; ``skipped``
            had changed meanwhile.
        note: Anything else, such as an error.
    """

    id: str
    at: float
    actor: str
    action: str
    source: str = ""
    target: str = ""
    asked: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    note: str = ""


AUDIT_KEPT = 10_000
"""How many audit entries a store keeps, the newest."""


class StoreSize(msgspec.Struct, frozen=True, gc=False):
    """The size of a store in bytes, and the free and total space of its disk."""

    used: int
    free: int
    disk: int


class Migration(msgspec.Struct, frozen=True, gc=False):
    """How a store was brought, or would be brought, to the version that this code works with.

    Attributes:
        store: The store, as people know it, without a password.
        before, after: The versions; 0 is a store that does not exist yet. ``before`` may be
            greater: then the store is of a later Nuvom, and nothing was done.
        statements: The statements for that.
    """

    store: str
    before: int
    after: int
    statements: tuple[str, ...] = ()


class StorePromise(msgspec.Struct, frozen=True, gc=False):
    """What a setting of the store means for jobs.

    Attributes:
        setting: The setting and its value, as whoever runs the store writes them.
        means: What follows for jobs.
        level: ``warn``: a promise is weaker than it could be; ``fail``: jobs may be lost while
            nothing has crashed, or all of them at once.
        fix: What to set instead, or empty.
    """

    setting: str
    means: str
    level: Literal["ok", "warn", "fail"] = "ok"
    fix: str = ""
