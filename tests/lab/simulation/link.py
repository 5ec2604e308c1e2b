"""A process's way to the store: calls fail, answers get lost, and the process dies in between."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.core.record import JobStatus
from nuvom.errors import BackendUnavailable
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.testing import history

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.config.settings import Settings
    from nuvom.core.outcome import Settlement
    from nuvom.serialization.base import Codec
    from tests.lab.simulation.world import Host

_FALLIBLE = ("claim", "settle", "release", "extend", "reap", "unpark")
_DEADLY = (*_FALLIBLE, "mark_started")
_SURE = ("control_version", "commands", "next_due_secs", "prune", "condense_history", "get")
_BRINGS_WORK = frozenset({"settle", "release", "reap", "unpark"})
_MOST_LOST_BEATS = 3  # in a row: a lease outlasts five


class ProcessKilled(BaseException):
    """Raised where a simulated process dies in the middle of what it does."""


class Odds(NamedTuple):
    """How likely it is that a call of the store goes wrong, in each way.

    Attributes:
        busy: It fails and does nothing.
        lost: It works, and its caller is told that it failed.
        deadly: The process dies just before or just after it.
        unheard: Nobody is woken by the work that it brings.
    """

    busy: float = 0.0
    lost: float = 0.0
    deadly: float = 0.0
    unheard: float = 0.0


class Store(NamedTuple):
    """What all processes of a simulation share.

    Attributes:
        results: The result backend where it is another store than the queue, else None.
        taken: Called with each wake-up that work brings.
        odds: Returns the odds at this moment.
    """

    queue: Any
    results: Any
    settings: Settings
    codec: Codec
    taken: Callable[[], None]
    odds: Callable[[], Odds]


class Link:
    """The queue as one process reaches it."""

    def __init__(self, process: Host, store: Store) -> None:
        self._process = process
        self._store = store
        self._lost_beats = 0
        self._told: set[tuple[str, int]] = set()
        self.capabilities = store.queue.capabilities
        for name in _SURE:
            setattr(self, name, getattr(store.queue, name))
        for name in _DEADLY:
            setattr(self, name, partial(self._call, name, getattr(store.queue, name)))

    def notify(self) -> None:
        """Wake the others: there may be more work."""
        self._store.taken()

    settle_and_claim = LeasedJobQueue.settle_and_claim  # each of the two may fail by itself

    def _call(
        self, name: str, method: Callable[..., list[Any]], *args: Any, **kwargs: object
    ) -> list[Any]:
        rng, odds = self._process.world.rng, self._store.odds()
        dies = rng.random() < odds.deadly
        if dies and rng.random() < 1 / 2:
            raise ProcessKilled
        trouble = name in _FALLIBLE and rng.random()
        if trouble and trouble < odds.busy and self._may_fail(name):
            raise BackendUnavailable("in the simulation", "it is busy")
        answer = method(*args, **kwargs)
        self._note(name, args, answer)
        if name in _BRINGS_WORK and rng.random() >= odds.unheard:
            self._store.taken()
        if dies:
            raise ProcessKilled
        if trouble and trouble > 1 - odds.lost and self._may_fail(name):
            raise BackendUnavailable("in the simulation", "the answer was lost")
        if name == "extend":
            self._lost_beats = 0
        return answer

    def _may_fail(self, name: str) -> bool:
        if name != "extend":
            return True
        self._lost_beats += 1
        return self._lost_beats <= _MOST_LOST_BEATS

    def _note(self, name: str, args: tuple[Any, ...], answer: list[Any]) -> None:
        """Note what was committed, whether or not the process ever learns of it."""
        if name == "settle":
            for one, was_accepted in zip(args[0], answer, strict=True):
                self._note_settled(one, was_accepted=was_accepted)
        elif name == "release":
            for job, was_accepted in zip(args[0], answer, strict=True):
                if was_accepted:
                    self._process.note(history.RELEASED, job=job.id)
        elif name == "reap":
            for job in answer:
                if job.status is JobStatus.DEAD:
                    self._process.note(history.FINISH_OK, job=job.id)

    def _note_settled(self, one: Settlement, *, was_accepted: bool) -> None:
        key = one.record.id, one.record.lease_epoch
        if not was_accepted:
            self._process.note(history.FENCED, job=key[0], epoch=key[1])
        elif key not in self._told:  # told twice when the first answer was lost
            self._told.add(key)
            word = history.FINISH_OK if one.status.is_final else history.RETRYING
            self._process.note(word, job=key[0], epoch=key[1])
