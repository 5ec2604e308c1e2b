"""How many jobs a worker has room for, and of which tasks it can take none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nuvom.execution.job_runner import JobRunner
    from nuvom.execution.lanes import Lane
    from nuvom.execution.pace import Pace
    from nuvom.execution.thread_lane import ThreadLane

_MOST_OF_OTHERS = 512  # jobs claimed at once for other lanes than threads


class Room:
    """The room that the lanes of one worker have."""

    def __init__(
        self, threads: ThreadLane, others: tuple[Lane, ...], runner: JobRunner, pace: Pace
    ) -> None:
        self._threads = threads
        self._others = others
        self._runner = runner
        self._pace = pace

    def now(self) -> tuple[int, list[str]]:
        """Return how many jobs to claim, and the tasks that there is no room for.

        The thread lane decides while it has room: it takes a batch ahead when jobs are quick,
        and no more than its idle slots otherwise. When it is full the other lanes may still
        have room, for their own tasks.
        """
        without = list(self._runner.refused)
        for lane in self._others:
            if lane.free() <= 0:
                without += self._runner.known(lane.name)
        room = self._of_threads()
        if room > 0:
            return room, without
        return self._of_others(), without + self._runner.known("thread")

    def _of_threads(self) -> int:
        waiting = self._threads.backlog()
        if not self._pace.is_bulk:
            return self._threads.free() - waiting
        return self._pace.batch - waiting if waiting <= self._pace.batch // 2 else 0

    def _of_others(self) -> int:
        """Other lanes claim only once they have tasks: else nothing but guesses is claimed."""
        if not any(self._runner.known(lane.name) for lane in self._others):
            return 0
        return min(_MOST_OF_OTHERS, max(lane.free() for lane in self._others))
