"""Several stores side by side, called alike, and compared at each answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from nuvom.errors import InvalidId, QueueFull
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.testing.builders import make_job
from nuvom.testing.clock import FakeClock
from tests.lab.comparison.observation import differences, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nuvom.core.clock import Clock
    from nuvom.core.record import JobRecord
    from nuvom.core.views import WorkerInfo
    from nuvom.queue_backends.base import BaseJobQueue

SETTINGS: dict[str, Any] = {
    "lease_secs": 30.0,
    "max_deliveries": 3,
    "parked_ttl_secs": 50.0,
    "max_queue_size": 6,
}


class Make(Protocol):
    """Makes a queue with an empty store below a folder, as ``QueueKit.make`` does."""

    def __call__(self, tmp_path: Path, *, clock: Clock, **settings: Any) -> BaseJobQueue:
        """Return the queue."""
        ...


class Difference(AssertionError):  # noqa: N818  # named after what happened, as all our errors
    """Two stores differ."""


class Ticket(NamedTuple):
    """One delivery: what each store handed out, to whom, and when."""

    records: tuple[JobRecord, ...]
    owner: str
    at: float

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.records[0].id


class StoreGroup:
    """Stores side by side, and what a history has done to them so far.

    Attributes:
        queues: By name; the first is the one that the others are compared with.
        jobs: Every job that was made, by id, whether the stores took it or not.
        tickets: Deliveries, oldest first, those that are lost included.
        announced: Workers by id.
        trace: What was done, one line for each call.
    """

    def __init__(self, makes: Mapping[str, Make], folder: Path) -> None:
        self.clock = FakeClock()
        self.queues: dict[str, LeasedJobQueue] = {}
        self.jobs: dict[str, JobRecord] = {}
        self.tickets: list[Ticket] = []
        self.announced: dict[str, WorkerInfo] = {}
        self.trace: list[str] = []
        for name, make in makes.items():
            (folder / name).mkdir(parents=True)
            queue = make(folder / name, clock=self.clock, **SETTINGS)
            assert isinstance(queue, LeasedJobQueue), f"{name} is no LeasedJobQueue"
            self.queues[name] = queue

    def close(self) -> None:
        """Stop all queues."""
        for queue in self.queues.values():
            queue.stop()

    # ---- calling --------------------------------------------------------------------------

    def same(
        self,
        what: str,
        call: Callable[[LeasedJobQueue, int], Any],
        order: Callable[[Any], Any] = plain,
    ) -> list[Any]:
        """Call every store; return their answers.

        Args:
            what: The call in words, for the trace.
            call: Given a queue and its place among ``queues``.
            order: Brings an answer to the form in which answers are compared.
        Raises: Difference: they do not answer, or refuse, alike.
        """
        self.trace.append(what)
        answers = [_answer(call, queue, place) for place, queue in enumerate(self.queues.values())]
        self.compare([a if isinstance(a, Refusal) else order(a) for a in answers])
        return answers

    def compare(self, answers: Sequence[Any]) -> None:
        """Raise Difference unless all answers are equal."""
        names = list(self.queues)
        for name, answer in zip(names[1:], answers[1:], strict=True):
            if answer != answers[0]:
                told = differences(names[0], answers[0], name, answer)
                raise Difference(f"{self.trace[-1]}\n{told}")

    def new_job(self, task: str, **fields: Any) -> JobRecord:
        """Return a fresh job, made now. Ids rise, and differ in the case of a letter at most."""
        number = len(self.jobs)
        job_id = f"00000000-0000-7000-8000-{number:010d}{'aA'[number % 2]}{'x' * (number % 3)}"
        job = make_job(task, id=job_id, created_at=self.clock.now(), **fields)
        self.jobs[job_id] = job
        return job


class Refusal(NamedTuple):
    """An exception in the place of an answer."""

    kind: str


def _answer(call: Callable[[LeasedJobQueue, int], Any], queue: LeasedJobQueue, place: int) -> Any:
    try:
        return call(queue, place)
    except (QueueFull, InvalidId):  # a bulk may be refused for both reasons: either may be named
        return Refusal("not stored")
    except ValueError as error:
        return Refusal(type(error).__name__)
