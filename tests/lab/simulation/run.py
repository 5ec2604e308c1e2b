"""One simulation from a seed: what happens in it, and what is wrong with it afterwards."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from nuvom.config.settings import Settings
from nuvom.core.record import JobStatus, RetryPolicy
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.registry.registry import Registry, TaskDefinition
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.testing import history
from nuvom.testing.builders import make_job
from nuvom.testing.history import Findings, check
from tests.lab.simulation.link import Odds, Store
from tests.lab.simulation.process import Process
from tests.lab.simulation.world import VirtualClock, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.record import JobRecord
    from nuvom.execution.attempts import OpenAttempt
    from nuvom.queue_backends.leased import LeasedJobQueue

LEASE_SECS = 3.0
LEASES_TO_DRAIN = 3
_FAULT_SECS = 3.0  # for so long things go wrong
_LOOK_SECS = 0.2
_MAX_DELIVERIES = 3
_TIMEOUT_SECS = 1.0
_PRODUCER = 0  # its pid
_CODEC = MsgpackCodec()


def step(number: int, *, fails: bool = False) -> int:
    """Return one more; what fails is the simulation's affair."""
    del fails
    return number + 1


def rare(number: int, *, fails: bool = False) -> int:
    """Do as ``step``, in those processes that know it."""
    del fails
    return number + 1


_RETRY = RetryPolicy(delay_secs=0.0, jitter=False)


def _registry(*functions: Callable[..., Any]) -> Registry:
    registry = Registry()
    for function in functions:
        registry.register(TaskDefinition(f"sim.{function.__name__}", function))
    return registry


_ALL, _FEW = _registry(step, rare), _registry(step)


@dataclass
class Report:
    """What a simulation did and found.

    Attributes:
        findings: See ``nuvom.testing.history``; ``stuck`` are jobs that had not ended within
            three leases once the faults were over.
        early: Jobs that started before their ``run_at``.
        crash: The traceback of an exception that should not have come out, else empty.
        drained_secs: How long it took after the faults until every job had ended.
        events: The history.
    """

    seed: int
    jobs: int = 0
    starts: int = 0
    faults: int = 0
    drained_secs: float = 0.0
    findings: Findings = field(default_factory=Findings)
    early: list[str] = field(default_factory=list)
    crash: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether nothing is wrong."""
        return self.findings.is_valid and not self.early and not self.crash

    def __str__(self) -> str:
        found = {word: count for word, count in self.findings.counts().items() if count}
        wrong = f"{found or ''}{' early' if self.early else ''}{' crash' if self.crash else ''}"
        return (
            f"seed {self.seed}: {self.jobs} jobs, {self.starts} starts, {self.faults} faults, "
            f"drained in {self.drained_secs:.2f} s: {wrong or 'ok'}"
        )


def simulate(seed: int) -> Report:
    """Run one simulation and return what it found."""
    simulation = _Simulation(seed)
    try:
        simulation.run()
    except Exception:  # noqa: BLE001  # whatever comes out of the engine is what was looked for
        simulation.report.crash = traceback.format_exc()
    return simulation.report


class _Simulation:
    def __init__(self, seed: int) -> None:
        self.report = Report(seed)
        self._world = world = World(seed)
        rng = self._rng = world.rng
        clock = VirtualClock(world)
        settings = Settings(
            lease_secs=LEASE_SECS,
            max_deliveries=_MAX_DELIVERIES,
            shutdown_timeout_secs=0.5,
            threads=4,
        )
        self._queue: LeasedJobQueue = MemoryJobQueue(settings, clock=clock)
        self._results = MemoryResultBackend(settings, clock=clock)
        is_split = rng.random() < 1 / 4
        if not is_split:
            self._results.joins(self._queue)
        self._odds = Odds(
            busy=rng.choice((0.0, 0.02, 0.1)),
            lost=rng.choice((0.0, 0.02, 0.1)),
            deadly=rng.choice((0.0, 0.002, 0.01)),
            unheard=rng.choice((0.0, 0.2)),
        )
        self._store = Store(
            queue=self._queue,
            results=self._results if is_split else None,
            settings=settings,
            codec=_CODEC,
            taken=self._work_came,
            odds=lambda: self._odds,
        )
        self._job_secs = rng.choice((0.001, 0.02, 0.2))  # quick jobs are claimed ahead in bulk
        self._processes: list[Process] = []
        self._wanted: dict[str, JobRecord] = {}
        self._has_faults = True
        self._pid = 0

    # ---- what happens -------------------------------------------------------------------

    def run(self) -> None:
        world, rng = self._world, self._rng
        over = world.now + _FAULT_SECS
        for _ in range(rng.randint(1, 3)):
            self._hire()
        for number in range(rng.randint(4, 20)):
            world.after(rng.random() * _FAULT_SECS, partial(self._enqueue, self._job(number)))
        for _ in range(rng.randint(2, 10)):
            fault = rng.choice(
                (self._kill, self._freeze, self._freeze, self._stop, self._cancel, self._set_clock)
            )
            world.after(rng.random() * _FAULT_SECS, fault)
        world.run(over)
        self._has_faults, self._odds = False, Odds()
        self._hire(knows_all=True)  # the others may be dead, or frozen for some time yet
        while not self._is_drained() and world.now < over + LEASES_TO_DRAIN * LEASE_SECS:
            world.run(world.now + _LOOK_SECS)
        self.report.drained_secs = world.now - over
        self._judge()

    def _job(self, number: int) -> JobRecord:
        rng = self._rng
        is_timed = rng.random() < 1 / 8
        return make_job(
            "sim.rare" if rng.random() < 1 / 8 else "sim.step",
            number,
            kwargs={"fails": rng.random() < 1 / 8},
            id=f"job-{number}",
            created_at=self._world.wall,
            max_retries=2,
            retry=_RETRY,
            timeout_secs=_TIMEOUT_SECS if is_timed else None,
            unique_key=f"key-{number % 3}" if rng.random() < 1 / 10 else None,
        )

    def _enqueue(self, job: JobRecord) -> None:
        """Enqueue as a producer that tries again until it is told that the job is stored."""
        world, rng = self._world, self._rng
        world.note(history.ENQUEUE_INVOKE, pid=_PRODUCER, job=job.id)
        if job.id not in self._wanted and rng.random() < 1 / 8:
            job = job.replace(run_at=world.wall + rng.random() * 2)
        self._wanted[job.id] = job
        luck = rng.random()
        if luck >= self._odds.busy:
            existing = self._queue.enqueue(job)
            self._work_came()
            if existing is not None:  # another job has its key: this one was never accepted
                return
            if luck <= 1 - self._odds.lost:
                world.note(history.ENQUEUE_OK, pid=_PRODUCER, job=job.id)
                return
        world.after(0.1, partial(self._enqueue, job))

    def _hire(self, *, knows_all: bool = False) -> None:
        rng = self._rng
        self._pid += 1
        process = Process(
            self._world,
            self._store,
            _ALL if knows_all or rng.random() < 3 / 4 else _FEW,
            pid=self._pid,
            slots=rng.randint(1, 4),
            skew=rng.choice((0.0, 0.0, rng.uniform(-2, 2))),
            secs_of=self._secs_of,
        )
        self._processes.append(process)
        process.start()

    def _secs_of(self, attempt: OpenAttempt) -> float:
        rng = self._rng
        if attempt.record.timeout_secs is not None and rng.random() < 1 / 2:
            return 10 * LEASE_SECS  # it hangs
        if self._has_faults and rng.random() < 1 / 6:
            return rng.random() * LEASE_SECS * 2
        return rng.random() * self._job_secs

    def _work_came(self) -> None:
        for process in self._processes:
            if process.is_alive:
                process.work_came()

    # ---- faults -------------------------------------------------------------------------

    def _victim(self) -> Process | None:
        self.report.faults += 1
        living = [one for one in self._processes if one.is_alive]
        return self._rng.choice(living) if living else None

    def _kill(self) -> None:
        victim = self._victim()
        if victim is not None:
            victim.kill()
        self._world.after(self._rng.random(), self._hire)

    def _stop(self) -> None:
        victim = self._victim()
        if victim is not None:
            victim.stop()
        self._world.after(self._rng.random(), self._hire)

    def _freeze(self) -> None:
        victim = self._victim()
        if victim is not None:
            victim.freeze(self._rng.uniform(0.1, 2 * LEASE_SECS))

    def _set_clock(self) -> None:
        """Set the wall clock: far ahead, or a little back."""
        self.report.faults += 1
        self._world.set_wall(self._rng.choice((3600.0, 86_400.0, -0.5)))

    def _cancel(self) -> None:
        self.report.faults += 1
        if not self._wanted:
            return
        job_id = self._rng.choice(list(self._wanted))
        before = self._queue.cancel(job_id)
        if before is not None and not before.is_final:
            self._world.note(history.FINISH_OK, pid=_PRODUCER, job=job_id)

    # ---- afterwards ---------------------------------------------------------------------

    def _is_drained(self) -> bool:
        return not any(
            stats.waiting or stats.running or stats.parked for stats in self._queue.stats()
        )

    def _judge(self) -> None:
        report, final, wrong = self.report, {}, []
        for job_id, job in self._wanted.items():
            found = self._queue.get(job_id)
            if found is None:
                continue
            final[job_id] = str(found.status)
            if found.status is JobStatus.SUCCESS and not self._is_right(job, found.record):
                wrong.append(job_id)
        events = report.events = self._world.history
        # A start that was decided on before a freeze is excused by its thaw: not here, where a
        # decision and what follows from it are one step.
        judged = [one for one in events if one["event"] != history.THAW]
        report.findings = check(judged, final, wrong_results=wrong)
        # A cancelled job that was claimed may start until its worker's keeper hears of it.
        report.findings.started_after_final = [
            job for job in report.findings.started_after_final if final[job] != "CANCELLED"
        ]
        started = [one for one in events if one["event"] == history.START]
        report.jobs, report.starts = len(final), len(started)
        report.early = [one["job"] for one in started if one["is_early"]]

    def _is_right(self, job: JobRecord, record: JobRecord) -> bool:
        """Whether the stored result is what the last attempt returned, and no other one."""
        (number,), _ = _CODEC.decode_call(job.args, job.kwargs)
        if self._store.results is not None:
            value = self._results.get_result(job.id)
            return bool(value[0] == number + 1)
        return bool(self._results.get_result(job.id) == [number + 1, record.lease_epoch])
