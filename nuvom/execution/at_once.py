"""Settling in the thread of a slot, while the pump sleeps and there is one outcome to settle.

To wake the pump takes longer than to settle a job. So whoever waits for the result of a job in
a worker that is not busy gets it sooner; a busy worker settles in batches, and by the pump.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.errors import NuvomError
from nuvom.execution.announcing import OpenHooks, announce

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuvom.core.outcome import Settlement
    from nuvom.execution.lanes import Lane
    from nuvom.execution.running import RunningJob
    from nuvom.execution.station import Station


class AtOnce:
    """What slots call with their closed attempts.

    Args:
        finish: Takes an attempt that the pump is to settle.
        wake: Lets the pump look again.

    Attributes:
        is_open: Whether the pump sleeps, and has nothing to do when a job ends in success.
        settled: How many attempts were settled here.
    """

    def __init__(
        self,
        station: Station,
        lanes: Mapping[str, Lane],
        open_hooks: OpenHooks,
        *,
        finish: Callable[[RunningJob, Settlement], None],
        wake: Callable[[], None],
    ) -> None:
        self._station = station
        self._lanes = lanes
        self._open_hooks = open_hooks
        self._finish = finish
        self._wake = wake
        self._turn = Lock()  # while one settles here the others go by the pump, in a batch
        self.is_open = False
        self.settled = 0

    def settle(self, running: RunningJob, settlement: Settlement) -> None:
        """Settle an attempt here, or have the pump do it."""
        if not self.is_open:  # first, since most jobs end while the pump is awake
            self._finish(running, settlement)
            return
        is_plain = settlement.status is JobStatus.SUCCESS and not settlement.children
        # What follows on any other outcome, another attempt or further jobs, is the pump's.
        if not (is_plain and self._turn.acquire(blocking=False)):
            self._finish(running, settlement)
            return
        station = self._station
        try:
            accepted = station.delivery.settle([settlement])
            self.settled += 1
        except NuvomError:  # the pump meets it again, tells of it, and tries until it succeeds
            self._finish(running, settlement)
            return
        except BaseException:
            self._finish(running, settlement)
            raise
        finally:
            self._turn.release()
        running.settlement = settlement
        announce(station, self._lanes, [(running, accepted[0])], self._open_hooks)
        # Only now: a worker that stops has to see this attempt, or else the hooks that follow it.
        station.in_hand.open.discard(running)
        if not self.is_open:  # it woke up meanwhile, and may be waiting for this very job to end
            self._wake()
