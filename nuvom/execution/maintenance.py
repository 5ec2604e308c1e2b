"""What a worker does besides running jobs, in its own thread.

It sends heartbeats, takes back the jobs of dead workers, wakes parked jobs, checks for
cancellations and commands, and prunes. None of it depends on task code. Store failures delay it
but never end it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.core.views import beat_secs
from nuvom.events import BackendFailed, JobDead, JobReaped
from nuvom.execution.failures import stored_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.execution.lanes import WorkerContext
    from nuvom.execution.worker_loop import WorkerLoop
    from nuvom.queue_backends.leased import LeasedJobQueue

_TICK_SECS = 0.25
_UNPARK_SECS = 1.0
_PRUNE_SECS = 60.0
_PRUNE_LIMIT = 1000  # jobs removed per call
_CONDENSE_SECS = 3600.0


class Maintenance:
    """Renews a worker's leases and maintains the store.

    Args:
        queue: The context's queue, which supports leases.
        obey: Called with each command sent to this worker.

    Attributes:
        beat_secs: Seconds between two heartbeats.
    """

    def __init__(
        self,
        queue: LeasedJobQueue,
        context: WorkerContext,
        loop: WorkerLoop,
        obey: Callable[[str], None],
    ) -> None:
        self._queue, self._context = queue, context
        self._clock, self._bus = context.clock, context.bus
        self._loop, self._obey = loop, obey
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._control = queue.control_version()
        self.beat_secs = beat_secs(context.lease_secs)
        self._tick_secs = min(_TICK_SECS, self.beat_secs)
        self._next_beat = self._next_unpark = self._next_prune = self._next_reap = 0.0
        self._next_condense = 0.0
        self._gives_time = False
        self._reaped_at = self._clock.monotonic()

    def start(self) -> None:
        """Start the thread."""
        now = self._reaped_at = self._clock.monotonic()
        self._next_beat, self._next_prune = now + self.beat_secs, now + _PRUNE_SECS
        self._thread = threading.Thread(target=self._main, name="nuvom-maintenance", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=self.beat_secs)

    def tick(self) -> None:
        """Do the work that is due now. Raises what the store raises."""
        now = self._clock.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + self.beat_secs
            self.beat()
        version = self._queue.control_version()
        if version != self._control:
            self.beat()
            for word in self._queue.commands(self._context.worker):
                self._obey(word)
            self._loop.wake()
            self._control = version  # only now, so that a failure is retried at the next tick
        if now >= self._next_unpark:
            self._next_unpark = now + _UNPARK_SECS
            if self._queue.unpark(self._context.runner.wanted):
                self._loop.wake()
        if now >= self._next_prune:
            self._next_prune = now + _PRUNE_SECS
            if self.prune() >= _PRUNE_LIMIT:
                self._next_prune = now  # the rest waits for the next tick: heartbeats come first
            elif now >= self._next_condense:
                self._next_condense = now + _CONDENSE_SECS
                self._queue.condense_history()
        self.reap()  # last: a store shared with another machine refuses it

    def beat(self) -> None:
        """Renew all leases, and give up the attempts whose leases are lost."""
        attempts = self._context.attempts
        known = list(attempts.unclosed)
        asked_at = self._clock.monotonic()
        held = self._queue.extend(self._context.worker)
        lost = []
        for attempt in known:
            if held.pop(attempt.record.id, None) == attempt.record.lease_epoch:
                attempt.leased_at = asked_at
            else:
                lost.append(attempt)
        self._loop.lose(lost)
        if held:
            attempts.suspected_orphans = held  # the loop checks: only it knows its jobs

    def prune(self) -> int:
        """Remove at most one batch of expired jobs; return how many."""
        now, settings = self._clock.now(), self._context.settings
        return self._queue.prune(
            success_before=now - settings.result_ttl_secs,
            failed_before=now - settings.failed_ttl_secs,
            limit=_PRUNE_LIMIT,
        )

    def reap(self) -> None:
        """Take back the jobs of dead workers, unless workers had no time for a heartbeat."""
        if not self._may_reap():
            return
        recovered = self._queue.reap()
        for record in recovered:
            event = JobDead(record) if record.status is JobStatus.DEAD else JobReaped(record)
            if type(event) in self._bus.active:
                self._bus.emit(event)
        if recovered:
            self._loop.wake()

    def _may_reap(self) -> bool:
        """Whether the other workers have had time for a heartbeat.

        If this thread was delayed for long, by a locked store or because the whole machine
        stopped, so were theirs, and a late heartbeat is no sign of a death. They get extra time
        only once. So if this thread is always late, as on an overloaded machine, dead workers are
        still detected.
        """
        now = self._clock.monotonic()
        if now < self._reaped_at + self._tick_secs / 2:
            return False  # this tick follows another without a pause
        is_late = now - self._reaped_at > self._context.lease_secs / 2
        self._reaped_at = now
        if is_late and not self._gives_time:
            self._next_reap = now + self.beat_secs
            self._gives_time = True
        if now < self._next_reap:
            return False
        self._gives_time = False
        return True

    def _main(self) -> None:
        pause = self._tick_secs
        while not self._clock.wait(self._stopping, pause):
            pause = self._tick_secs
            try:
                self.tick()
            except BaseException as error:  # noqa: BLE001  # outermost: if the thread ended, every lease would be lost
                self._bus.emit(BackendFailed("keep", stored_error("maintenance", error)))
            else:
                if self._next_prune <= self._clock.monotonic():
                    pause = 0.0
