"""Jobs that the store holds for a worker and that nobody there has in hand.

A claim can be committed and its answer be lost on the way. Its jobs would then run nowhere, and
each beat would renew their leases, for as long as the worker lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nuvom.core.record import JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuvom.core.record import JobRecord
    from nuvom.execution.running import InHand, RunningJob
    from nuvom.queue_backends.base import BaseJobQueue
    from nuvom.queue_backends.leased import LeasedJobQueue


class Strays:
    """What beats tell of such jobs, until the pump, which alone knows what it has, looks.

    Attributes:
        suspected: Id and ``lease_epoch`` of the jobs of the last beat that were not in hand
            then: in most cases they were just being claimed, settled or handed back.
    """

    def __init__(self, queue: BaseJobQueue, in_hand: InHand) -> None:
        self._queue = queue
        self._in_hand = in_hand
        self.suspected: dict[str, int] = {}

    def suspect(self, jobs: dict[str, int]) -> None:
        """Have these looked at, in place of any before; called by the keeper."""
        self.suspected = jobs

    def found(
        self, unsettled: Iterable[RunningJob], returning: Iterable[JobRecord]
    ) -> list[JobRecord]:
        """Return those that are strays, to be released; called by the pump, between two steps.

        What was settled since that beat may be among them: its release is fenced.

        Args:
            unsettled, returning: What the worker has beside the attempts in hand.
        """
        suspected, self.suspected = self.suspected, {}
        known = {running.record.id for running in list(self._in_hand.open)}
        known.update(one.record.id for one in unsettled)
        known.update(record.id for record in list(returning))
        queue = cast("LeasedJobQueue", self._queue)  # without leases no keeper suspects anything
        found = (queue.get(job_id) for job_id in suspected if job_id not in known)
        return [
            one.record
            for one in found
            if one is not None
            and one.status is JobStatus.RUNNING
            and one.record.lease_epoch == suspected[one.record.id]
        ]
