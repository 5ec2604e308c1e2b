"""Random histories: the same calls to a backend and to the model, compared after each step."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nuvom.core.record import JobStatus
from nuvom.errors import QueueFull
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance.laws.bench import QueueBench
from tests.lab.draws import (
    LASTING,
    NEVER_SECS,
    OWNERS,
    PASSING_SECS,
    QUEUES,
    SETTINGS,
    VERDICTS,
    calls,
    ends,
    owners,
    picks,
    queues,
    seldom,
    tasks,
)
from tests.lab.model import ANY, Full, Job, Model, Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nuvom.core.record import JobRecord
    from nuvom.queue_backends.leased import LeasedJobQueue
    from tests.lab.laws.histories import Histories


class Ticket(NamedTuple):
    """A claimed record, and the instance through which it was claimed."""

    record: JobRecord
    queue: LeasedJobQueue


class _BrokenOffError(Exception):
    """What an iterable of jobs raises half-way."""


class QueueMachine(RuleBasedStateMachine):
    """A backend beside its model. ``run_histories`` makes a subclass for each kit."""

    kit: ClassVar[Histories]
    folder: ClassVar[Path]
    numbers: ClassVar[Iterator[int]]

    def __init__(self) -> None:
        super().__init__()
        folder = self.folder / f"history{next(self.numbers)}"
        folder.mkdir()
        self.bench = QueueBench(self.kit, folder)
        self.instances: list[LeasedJobQueue] = []
        self.tickets: list[Ticket] = []
        self.records: dict[str, JobRecord] = {}

    @initialize(several=st.lists(calls, min_size=2, max_size=5))
    def open(self, several: list[dict[str, Any]]) -> None:
        """Begin with a few jobs, seen through one instance or two."""
        lasts = {} if self.kit.takes_clock() else LASTING
        self.instances = [self.bench.open_leased(**{**SETTINGS, **lasts})]
        other = self.kit.reopen(self.instances[0])
        if other is not None:
            self.instances.append(self.bench.adopt(other))
        rules = Rules(**{**SETTINGS, **lasts}, has_start_marks=self.bench.has_start_marks)
        self.model = Model(rules, self.bench.clock.now())
        self.enqueue_many(several=several, breaks=False, which=0)

    def teardown(self) -> None:
        """Clear the store away."""
        self.bench.close()

    # ---- enqueueing -----------------------------------------------------------------------

    @rule(call=calls, which=picks)
    def enqueue(self, call: dict[str, Any], which: int) -> None:
        """Enqueue a fresh job."""
        record, job = self._job(call)
        self._same(lambda: self.model.enqueue(job), lambda: self._at(which).enqueue(record))

    @precondition(lambda self: self.model.jobs)
    @rule(pick=picks, which=picks)
    def enqueue_again(self, pick: int, which: int) -> None:
        """Enqueue a job that is known, as a client does after a lost reply."""
        record = self.records[self._pick(list(self.model.jobs), pick)]
        answer = self._at(which).enqueue(record)
        # Who has the key meanwhile may be told, too.
        is_right = answer is None or record.unique_key is not None
        assert is_right, f"enqueue of the known id {record.id} returned {answer!r}"

    @rule(several=st.lists(calls, max_size=4), breaks=st.sampled_from((False, True)), which=picks)
    def enqueue_many(self, *, several: list[dict[str, Any]], breaks: bool, which: int) -> None:
        """Enqueue a bulk; one that breaks off stores nothing."""
        made = [self._job(call) for call in several]
        records = [record for record, _ in made]
        if not breaks:
            self._same(
                lambda: self.model.enqueue_many([job for _, job in made]),
                lambda: self._at(which).enqueue_many(records),
            )
            return
        try:
            answer = self._at(which).enqueue_many(_broken_off(records))
        except (_BrokenOffError, QueueFull):
            return
        raise AssertionError(f"enqueue_many of a bulk that breaks off returned {answer}")

    # ---- delivery -------------------------------------------------------------------------

    @rule(
        owner=owners,
        n=st.integers(1, 3),
        served=st.sampled_from((("a", "b"), ("b", "a"), ("a",), ("b",), None)),
        without=st.sampled_from(((), (), (), ("shop.a",))),
        suspects=st.integers(0, 1),
    )
    def claim(
        self,
        *,
        owner: str,
        n: int,
        served: tuple[str, ...] | None,
        without: tuple[str, ...],
        suspects: int,
    ) -> None:
        """Claim, from all queues only as much as there is: their order is nobody's promise."""
        self.model.now = self.bench.clock.now()
        if served is None:  # nor does anybody promise which queue's suspect comes first
            suspects = 0
            n = len(self.model.claimable(1000, QUEUES, without, suspects)) or 1
        expected = self.model.claimable(n, served or QUEUES, without, suspects)
        queue = self._home_of(owner)
        claimed = queue.claim(n, owner, served, without=without, suspects=suspects)
        for name in QUEUES:
            got = [one.id for one in claimed if one.queue == name and not one.suspect]
            want = [one.id for one in expected if one.queue == name and not one.suspect]
            assert got == want, f"of queue {name} {got} were claimed instead of {want}"
        kinds = [one.suspect for one in claimed]
        assert kinds == sorted(kinds, reverse=True), "suspects do not come first"
        wanted = {one.id for one in expected}
        assert {one.id for one in claimed} == wanted, f"{claimed} were claimed, not {wanted}"
        for record in claimed:
            job = self.model.jobs[record.id]
            raised = record.lease_epoch > job.ticket
            assert raised, f"the epoch of {job.id} is {record.lease_epoch} after {job.ticket}"
            self.model.claimed(job, owner, record.lease_epoch)
            self.tickets.append(Ticket(record, queue))

    @precondition(lambda self: self.tickets)
    @rule(pick=picks, stale=seldom)
    def start(self, *, pick: int, stale: bool) -> None:
        """Mark a delivery as started, also one that is lost."""
        self._start(self._ticket(pick, stale=stale))

    def _start(self, ticket: Ticket) -> None:
        self.model.start(ticket.record.id, ticket.record.lease_epoch)
        ticket.queue.mark_started(ticket.record)

    @precondition(lambda self: self.tickets)
    @rule(pick=picks, stale=seldom, end=ends, which=picks)
    def settle(self, *, pick: int, stale: bool, end: dict[str, Any], which: int) -> None:
        """Settle a delivery, also one that is lost or settled already."""
        self._settle(self._ticket(pick, stale=stale), self._at(which), **end)

    @rule(owner=owners, end=ends)
    def work(self, owner: str, end: dict[str, Any]) -> None:
        """Do as a worker does: claim, start, settle."""
        before = len(self.tickets)
        self.claim(owner=owner, n=2, served=QUEUES, without=(), suspects=1)
        for ticket in self.tickets[before:]:
            self._start(ticket)
            self._settle(ticket, ticket.queue, **end)

    def _settle(
        self,
        ticket: Ticket,
        queue: LeasedJobQueue,
        *,
        verdict: str,
        delay: float,
        child: dict[str, Any] | None,
    ) -> None:
        record = ticket.record
        status, keeps_attempt = VERDICTS[verdict]
        now, run_at = self.bench.clock.now(), self._due_in(delay)
        made = None if child is None else self._job(child)
        settlement = make_settlement(
            record,
            status,
            started_at=now,
            finished_at=now,
            run_at=run_at,
            keeps_attempt=keeps_attempt,
            children=() if made is None else (made[0],),
        )
        expected = self.model.settle(
            record.id,
            record.lease_epoch,
            status,
            run_at=run_at,
            keeps_attempt=keeps_attempt,
            child=None if made is None else made[1],
        )
        (answer,) = queue.settle([settlement])
        if expected is not ANY:
            assert answer is expected, f"settle({verdict}) returned {answer}, not {expected}"

    @precondition(lambda self: self.tickets)
    @rule(pick=picks, stale=seldom, which=picks)
    def release(self, *, pick: int, stale: bool, which: int) -> None:
        """Give a delivery back, also one that is lost."""
        record = self._ticket(pick, stale=stale).record
        self._same(
            lambda: [self.model.release(record.id, record.lease_epoch)],
            lambda: self._at(which).release([record]),
        )

    @rule(owner=owners)
    def extend(self, owner: str) -> None:
        """Renew the leases of a worker."""
        self._same(lambda: self.model.extend(owner), lambda: self._home_of(owner).extend(owner))

    @rule(which=picks)
    def reap(self, which: int) -> None:
        """Take back what is lost."""
        self._same(self.model.reap, lambda: {one.id: one.status for one in self._at(which).reap()})

    @precondition(lambda self: self.bench.has_fake_clock)
    @rule(which=picks)
    def lose_all(self, which: int) -> None:
        """Let all leases end, and take back what is lost."""
        self.bench.end_leases()
        self.reap(which)

    @precondition(lambda self: self.bench.has_fake_clock)
    @rule(secs=st.sampled_from(PASSING_SECS))
    def pass_time(self, secs: float) -> None:
        """Let time pass."""
        self.bench.advance(secs)

    # ---- control --------------------------------------------------------------------------

    @precondition(lambda self: self.model.jobs)
    @rule(what=st.sampled_from(("cancel", "retry")), pick=picks, which=picks)
    def cancel_or_retry(self, what: str, pick: int, which: int) -> None:
        """Cancel a job, or retry it by hand, whatever its status."""
        job_id = self._pick(list(self.model.jobs), pick)
        self._same(
            lambda: getattr(self.model, what)(job_id),
            lambda: getattr(self._at(which), what)(job_id),
        )

    @rule(
        what=st.sampled_from(("pause", "resume", "resume", "purge", "prune", "unpark", "unpark")),
        name=queues,
        task=tasks,
        which=picks,
    )
    def control(self, *, what: str, name: str, task: str, which: int) -> None:
        """Act on a queue, on what is over, or on what is parked."""
        queue, model = self._at(which), self.model
        later = self.bench.clock.now() + 1.0
        calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "pause": (lambda: model.paused.add(name), lambda: queue.pause(name, by="ann")),
            "resume": (lambda: model.resume(name), lambda: queue.resume(name)),
            "purge": (lambda: model.purge(name), lambda: queue.purge(name)),
            "prune": (
                model.prune,
                lambda: queue.prune(success_before=later, failed_before=later),
            ),
            "unpark": (lambda: model.unpark(task), lambda: queue.unpark([task])),
        }
        self._same(*calls[what])

    # ---- comparing ------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        """Every job is as the model says, and there is no other."""
        self.model.now = self.bench.clock.now()
        queue = self._at(len(self.tickets))
        size = self.model.size()
        assert queue.qsize() == size, f"qsize() is {queue.qsize()} instead of {size}"
        listed = [one.record.id for one in queue.page(limit=1000)]
        assert listed == list(self.model.jobs)[::-1], "page() lists other jobs than there are"
        for job in self.model.jobs.values():
            snapshot = queue.get(job.id)
            assert snapshot is not None, f"get({job.id}) gave None"
            got = _counted(snapshot.record)
            want = _counted(job)
            assert got == want, f"{job.id} has status, attempt, deliveries {got}, not {want}"

    def _same(self, model: Callable[[], object], backend: Callable[[], object]) -> None:
        """Hold that model and backend answer alike, or both find a queue full."""
        self.model.now = self.bench.clock.now()
        expected = _outcome(model)
        answer = _outcome(backend)
        assert answer == expected, f"the answer is {answer} instead of {expected}"

    def _job(self, call: dict[str, Any]) -> tuple[JobRecord, Job]:
        fields = {**call, "run_at": self._due_in(call["delay"])}
        del fields["delay"]
        record = self.bench.job(fields.pop("func_name"), **fields)
        self.records[record.id] = record
        job = Job(
            id=record.id,
            task=record.func_name,
            queue=record.queue,
            priority=record.priority,
            run_at=record.run_at,
            key=record.unique_key,
        )
        return record, job

    def _due_in(self, secs: float) -> float:
        is_soon = self.bench.has_fake_clock or not secs
        return self.bench.clock.now() + (secs if is_soon else NEVER_SECS)

    def _at(self, which: int) -> LeasedJobQueue:
        return self.instances[which % len(self.instances)]

    def _home_of(self, owner: str) -> LeasedJobQueue:
        """Return the instance of a worker: one worker never uses two."""
        return self._at(OWNERS.index(owner))

    def _ticket(self, pick: int, *, stale: bool) -> Ticket:
        """Return a delivery that holds; or one that is lost, best to another one of its job."""
        holds = [one for one in self.tickets if self._holds(one)]
        running = {one.record.id for one in holds}
        lost = [one for one in self.tickets if one not in holds]
        fenced = [one for one in lost if one.record.id in running]
        ticket: Ticket = self._pick(((fenced or lost) if stale else holds) or self.tickets, pick)
        return ticket

    def _holds(self, ticket: Ticket) -> bool:
        return self.model.held(ticket.record.id, ticket.record.lease_epoch) is not None

    def _pick(self, there: list[Any], pick: int) -> Any:
        return there[-1 - pick % len(there)]  # mostly one of the newest


def _broken_off(records: list[JobRecord]) -> Iterator[JobRecord]:
    yield from records
    raise _BrokenOffError


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except (Full, QueueFull):
        return "the queue is full"


def _counted(job: JobRecord | Job) -> tuple[object, ...]:
    if job.status is JobStatus.CANCELLED:  # what a cancel does to the counters is nobody's promise
        return (job.status,)
    return (job.status, job.attempt, job.deliveries)


def run_histories(kit: Histories, folder: Path) -> None:
    """Compare as many random histories as the kit asks for.

    Raises: AssertionError: a step at which the backend and its model differ; Hypothesis
    prints the shortest history that leads to one.
    """
    parts = {"kit": kit, "folder": folder, "numbers": count()}
    machine = type(f"{type(kit).__name__}Machine", (QueueMachine,), parts)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=kit.examples,
            stateful_step_count=kit.steps,
            deadline=None,
            phases=set(Phase) - {Phase.explain},  # costs as much again as finding the history
            report_multiple_bugs=False,  # one short history says more than five long ones
            database=settings().database if kit.keeps_examples else None,
            suppress_health_check=list(HealthCheck),
        ),
    )
