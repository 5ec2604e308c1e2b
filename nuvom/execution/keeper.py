"""What a worker does beside running jobs, in a thread of its own: the keeper.

Heartbeats, taking back jobs of the dead, waking parked jobs, noticing cancellations and
commands, pruning. None of it depends on user code, and trouble with the store delays it but
never ends it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.events import BackendFailed, JobDead, JobReaped
from nuvom.execution.failures import stored_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.execution.running import RunningJob
    from nuvom.execution.station import Station
    from nuvom.queue_backends.leased import LeasedJobQueue

_TICK_SECS = 0.25
_UNPARK_SECS = 1.0
_PRUNE_SECS = 60.0
_PRUNED_AT_ONCE = 1000
_BEATS_PER_LEASE = 6
_LONGEST_BEAT_SECS = 5.0


class Keeper:
    """Keeps a worker's leases, and the store, in good order.

    Args:
        queue: The station's queue, which has leases.
        lost: Called with each attempt whose lease is gone.
        suspect: Called with id and ``lease_epoch`` of jobs that the store holds for this worker
            and that were not in hand just before: perhaps nobody here knows of them.
        command: Called with each word that somebody left for this worker.
        wanted: Returns the names of tasks that this worker can run.
        changed: Called when jobs may have become ready.
    """

    def __init__(
        self,
        queue: LeasedJobQueue,
        station: Station,
        *,
        lost: Callable[[RunningJob], None],
        suspect: Callable[[dict[str, int]], None],
        command: Callable[[str], None],
        wanted: Callable[[], list[str]],
        changed: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._worker = station.owner
        self._settings = station.settings
        self._clock = station.clock
        self._bus = station.bus
        self._in_hand = station.in_hand
        self._lost = lost
        self._suspect = suspect
        self._command = command
        self._wanted = wanted
        self._changed = changed
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._control = queue.control_version()
        self.beat_secs = min(station.lease_secs / _BEATS_PER_LEASE, _LONGEST_BEAT_SECS)
        self._tick_secs = min(_TICK_SECS, self.beat_secs)
        self._lease_secs = station.lease_secs
        self._next_beat = self._next_unpark = self._next_prune = self._next_reap = 0.0
        self._gives_time = False
        self._reaped_at = self._clock.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._reaped_at = self._clock.monotonic()
        self._next_beat = self._clock.monotonic() + self.beat_secs
        self._next_prune = self._clock.monotonic() + _PRUNE_SECS
        self._thread = threading.Thread(target=self._main, name="nuvom-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; twice is fine."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=self.beat_secs)

    def tick(self) -> None:
        """Do what is due now. Raises what the store raises."""
        now = self._clock.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + self.beat_secs
            self.beat()
        version = self._queue.control_version()
        if version != self._control:
            self.beat()
            for word in self._queue.commands(self._worker):
                self._command(word)
            self._changed()
            self._control = version  # only now: what failed is done at the next tick
        if now >= self._next_unpark:
            self._next_unpark = now + _UNPARK_SECS
            if self._queue.unpark(self._wanted()):
                self._changed()
        if now >= self._next_prune:
            self._next_prune = now + _PRUNE_SECS
            if self.prune() >= _PRUNED_AT_ONCE:
                self._next_prune = now  # there are more, for the next tick: beats come before them
        self._reap()  # last: a store that is shared with another machine refuses it

    def beat(self) -> None:
        """Renew all leases, and give up the attempts that turn out to be lost."""
        known = list(self._in_hand)
        asked_at = self._clock.monotonic()
        held = self._queue.extend(self._worker)
        for running in known:
            if held.get(running.record.id) == running.record.lease_epoch:
                running.leased_at = asked_at
            else:
                self._lost(running)
        for running in known:
            held.pop(running.record.id, None)
        if held:
            self._suspect(held)

    def prune(self) -> int:
        """Remove at most one chunk of the jobs whose time is over; return how many."""
        if self._stopping.is_set():
            return 0
        now = self._clock.now()
        return self._queue.prune(
            success_before=now - self._settings.result_ttl_secs,
            failed_before=now - self._settings.failed_ttl_secs,
            limit=_PRUNED_AT_ONCE,
        )

    def _may_reap(self) -> bool:
        """Whether others have had the time to beat.

        Where this thread was held up for long, by a store that somebody had locked or by a stop
        of the whole machine, so were theirs: who is late now is not silent. They get the time once;
        where this thread is always late, as on an overloaded machine, the dead are found as well.
        """
        now = self._clock.monotonic()
        if now < self._reaped_at + self._tick_secs / 2:
            return False  # this tick follows another at once
        is_late = now - self._reaped_at > self._lease_secs / 2
        self._reaped_at = now
        if is_late and not self._gives_time:
            self._next_reap = now + self.beat_secs
            self._gives_time = True
        if now < self._next_reap:
            return False
        self._gives_time = False
        return True

    def _reap(self) -> None:
        if not self._may_reap():
            return
        recovered = self._queue.reap()
        for record in recovered:
            event = JobDead(record) if record.status is JobStatus.DEAD else JobReaped(record)
            if type(event) in self._bus.active:
                self._bus.emit(event)
        if recovered:
            self._changed()

    def _main(self) -> None:
        pause = self._tick_secs
        while not self._clock.wait(self._stopping, pause):
            pause = self._tick_secs
            try:
                self.tick()
            except BaseException as error:  # noqa: BLE001  # outermost: a keeper that ends would cost every lease
                self._bus.emit(BackendFailed("keep", stored_error("keeper", error)))
            else:
                if self._next_prune <= self._clock.monotonic():
                    pause = 0.0
