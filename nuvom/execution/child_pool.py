"""Which children a process lane has, and what each is about: starting, idle, busy or leaving.

Plain bookkeeping under one lock: it starts no process, runs nothing and waits for nothing. A
child that leaves no longer takes a place; ``process_lane.py`` sees it to its end.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nuvom.execution.child_process import ChildProcess
    from nuvom.execution.running import RunningJob


class ChildPool:
    """At most ``size`` children that start, idle or work, and any number that leave.

    Attributes:
        lock: Held by every method; whoever needs several in one step holds it around them.
        starting, idle, leaving: The children in each state.
        busy: The child that runs each attempt.
        is_closed: No child is wanted any more.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.RLock()
        self.starting: set[ChildProcess] = set()
        self.idle: list[ChildProcess] = []
        self.busy: dict[RunningJob, ChildProcess] = {}
        self.leaving: set[ChildProcess] = set()
        self.is_closed = False

    def missing(self, waiting: int) -> int:
        """Return how many children to start while so many attempts wait."""
        with self.lock:
            if self.is_closed:
                return 0
            there = len(self.starting) + len(self.idle) + len(self.busy)
            return min(waiting - len(self.starting) - len(self.idle), self.size - there)

    def add(self, child: ChildProcess) -> bool:
        """Take in a child that starts; False when none is wanted any more: it leaves."""
        with self.lock:
            (self.leaving if self.is_closed else self.starting).add(child)
            return not self.is_closed

    def ready(self, child: ChildProcess) -> None:
        """Note that a child has started, unless it is to leave."""
        with self.lock:
            if child in self.starting:
                self.starting.discard(child)
                self.idle.append(child)
                child.kill_at = None

    def assign(self, work: RunningJob) -> ChildProcess:
        """Give an attempt to the child that was idle last, and return it. There must be one."""
        with self.lock:
            child = self.idle.pop()
            child.take(work)
            self.busy[work] = child
            return child

    def has(self, running: RunningJob) -> bool:
        """Return whether a child runs the attempt."""
        with self.lock:
            return running in self.busy

    def runs(self, child: ChildProcess, token: int) -> RunningJob | None:
        """Return what a child runs, if that is its attempt ``token`` and nobody closed it."""
        with self.lock:
            return child.running if child.token == token else None

    def ended(self, child: ChildProcess, token: int, *, is_worn: bool) -> RunningJob | None:
        """Take an attempt from its child, which is idle or, when it is worn, leaves.

        Returns: None when somebody closed that attempt before.
        """
        with self.lock:
            work = self.runs(child, token)
            if work is not None:
                self._free(child, work)
                if is_worn:
                    self.leaving.add(child)
                else:
                    self.idle.append(child)
            return work

    def let_go(self, running: RunningJob) -> ChildProcess | None:
        """Take an attempt, and its place, from its child, which leaves; None if none runs it."""
        with self.lock:
            child = self.busy.get(running)
            if child is not None and child.running is not None:
                self._free(child, child.running)
                self.leaving.add(child)
            return child

    def forget(self, child: ChildProcess) -> tuple[bool, RunningJob | None]:
        """Drop a child that has ended; return whether it was starting, and what it ran."""
        with self.lock:
            was_starting, work = child in self.starting, child.running
            if work is not None:
                self._free(child, work)
            self.starting.discard(child)
            self.leaving.discard(child)
            if child in self.idle:
                self.idle.remove(child)
            return was_starting, work

    def close(self) -> list[ChildProcess]:
        """Want no child any more; return those that start or idle, which leave now."""
        with self.lock:
            self.is_closed = True
            unused = [*self.starting, *self.idle]
            self.leaving.update(unused)
            self.starting.clear()
            self.idle.clear()
            return unused

    def unused(self) -> list[ChildProcess]:
        """Return the children that start or leave."""
        with self.lock:
            return [*self.starting, *self.leaving]

    @property
    def is_empty(self) -> bool:
        """Whether there is no child left in any state."""
        with self.lock:
            return not (self.starting or self.idle or self.busy or self.leaving)

    def _free(self, child: ChildProcess, work: RunningJob) -> None:
        child.running = None
        self.busy.pop(work, None)
