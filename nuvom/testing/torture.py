"""The kill storm: kills and freezes workers and producers at random, then checks the ledger.

``nuvom torture`` runs it on its own store, on any backend local to this machine. A seed determines
victims and times. When the faults are over, the storm requires every job to finish, and compares
what was accepted with what the store holds.
"""

from __future__ import annotations

import random
import signal
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.execution.attempts import current_job
from nuvom.inspection.inspector import Inspector
from nuvom.runtime import Runtime, build_runtime, current_runtime
from nuvom.task import task
from nuvom.testing import history
from nuvom.testing.faults import Victim, can_freeze, can_term
from nuvom.testing.history import Findings, HistoryLog, Repeats, check, count_repeats, read_history

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

FAULTS = {"kill": 7, "freeze": 1, "term": 1, "producer-kill": 1}
"""Relative frequency of each fault."""

_PAUSE_SECS = (0.1, 0.5)
_FREEZE_OF_LEASE = 1.6  # long enough for the lease to expire
_SPARES_FROZEN = 0.8  # probability that a frozen worker is left to thaw, not made the next victim
_LEASE_SECS = 1.0
_DRAIN_SECS = 60.0
_END_SECS = 20.0
_CHILD = "nuvom.testing.torture_child"


def answer(number: int) -> int:
    """Return what the task of a storm returns for ``number``."""
    return number * 2 + 1


@cache
def log_of_storm() -> HistoryLog:
    """Return this process's log of the storm whose runtime it uses."""
    return HistoryLog(current_runtime().settings.root / "history.ndjson")


@task(name="nuvom.torture.step")
def step(number: int, secs: float) -> int:
    """Run for ``secs`` seconds and return ``answer(number)``."""
    job = current_job()
    log_of_storm().write(history.START, job=job.id, epoch=job.fencing_token)
    SYSTEM_CLOCK.sleep(secs)
    log_of_storm().write(history.END, job=job.id, epoch=job.fencing_token)
    return answer(number)


@dataclass
class TortureReport:
    """What a storm did and found.

    Attributes:
        jobs: Accepted jobs; ``starts`` of their code; ``fenced`` outcomes that were dropped.
        kills, freezes, terms: Faults by kind, of workers; ``producer_kills`` of producers.
        repeats: Starts that the faults caused. A worker starts the next job while it commits the
            outcome of the last one, so some may be ``uncommitted``.
        most_cut_short: Maximum number of runs that the faults can have cut short: one per slot.
        crashes: Processes that ended by themselves, or did not end when asked to.
        drained: Every job ended in time once the faults were over.
        findings: See ``nuvom.testing.history``.
    """

    backend: str
    seed: int
    secs: float = 0.0
    jobs: int = 0
    starts: int = 0
    repeats: Repeats = field(default_factory=Repeats)
    most_cut_short: int = 0
    fenced: int = 0
    kills: int = 0
    freezes: int = 0
    terms: int = 0
    producer_kills: int = 0
    crashes: int = 0
    drained: bool = False
    integrity: str = "ok"
    findings: Findings = field(default_factory=Findings)

    @property
    def is_balanced(self) -> bool:
        """Whether the ledger balances; one without a job proves nothing."""
        return (
            self.drained
            and self.jobs > 0
            and not self.crashes
            and self.integrity == "ok"
            and self.repeats.cut_short <= self.most_cut_short
            and self.findings.is_valid
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        findings = self.findings.counts()
        del findings["attempts_over_limit"]  # a storm repeats starts as often as it likes
        return {**asdict(self), "findings": findings, "balanced": self.is_balanced}


@dataclass
class Storm:
    """The parameters of a storm.

    Attributes:
        root: An empty folder on the disk to test.
        secs: How long to cause faults; or until ``kills`` were made and ``least_jobs`` accepted,
            whichever is later. A worker frozen while it writes to SQLite locks everyone else out
            of the file, and a storm of only such freezes would prove nothing.
        faults: As ``FAULTS``; ``nothing`` leaves all processes alone, for what ``tell`` causes.
        settings: What the backend needs besides, such as ``{"postgres_dsn": ...}``.
        tell: Called with a progress line after each fault.
    """

    root: Path
    backend: str = "sqlite"
    secs: float = 15.0
    seed: int = 0
    workers: int = 3
    threads: int = 4
    producers: int = 2
    kills: int = 0
    least_jobs: int = 0
    faults: Mapping[str, int] = field(default_factory=lambda: FAULTS)
    settings: Mapping[str, str] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda _line: None

    def run(self) -> TortureReport:
        """Run the storm, wait until all jobs have finished, and return the report."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "nuvom.toml").write_text(self._settings(), encoding="utf-8")
        return _Driver(self).run()

    def _settings(self) -> str:
        return (
            f'queue_backend = "{self.backend}"\nresult_backend = "{self.backend}"\n'
            f"lease_secs = {_LEASE_SECS}\nmax_deliveries = 1000\nshutdown_timeout_secs = 2.0\n"
            + "".join(f'{name} = "{value}"\n' for name, value in self.settings.items())
        )


class _Driver:
    """Runs one storm."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._rng = random.Random(storm.seed)  # noqa: S311  # for replay, not for secrets
        self._log = HistoryLog(storm.root / "history.ndjson")
        self._report = TortureReport(storm.backend, storm.seed)
        self._workers: list[Victim] = []
        self._producers: list[Victim] = []
        self._thaw_at: dict[int, float] = {}
        self._runtime: Runtime = build_runtime(load(storm.root, environ={}))

    def run(self) -> TortureReport:
        began = SYSTEM_CLOCK.monotonic()
        try:
            self._workers = [self._spawn("worker") for _ in range(self._storm.workers)]
            self._producers = [self._spawn("producer") for _ in range(self._storm.producers)]
            self._make_faults(began + self._storm.secs)
            self._end(self._producers)
            self._report.drained = self._wait_for_drain()
        finally:
            self._end([*self._workers, *self._producers])
            self._log.close()
        self._report.secs = round(SYSTEM_CLOCK.monotonic() - began, 1)
        self._account()
        self._runtime.stop()
        return self._report

    # ---- faults -------------------------------------------------------------------------

    def _make_faults(self, until: float) -> None:
        while (
            SYSTEM_CLOCK.monotonic() < until
            or self._report.kills < self._storm.kills
            or not self._has_jobs(until)
        ):
            SYSTEM_CLOCK.sleep(self._rng.uniform(*_PAUSE_SECS))
            self._thaw_due()
            self._one_fault()
            self._storm.tell(
                f"{self._report.kills} kills, {self._report.freezes} freezes, "
                f"{self._report.terms} stops"
            )
        for worker in self._workers:
            worker.thaw()

    def _has_jobs(self, until: float) -> bool:
        """Whether enough jobs were accepted, or never will be: the report then says so."""
        if not self._storm.least_jobs or SYSTEM_CLOCK.monotonic() > until + _DRAIN_SECS:
            return True
        events = read_history(self._storm.root / "history.ndjson")
        accepted: int = sum(one["event"] == history.ENQUEUE_OK for one in events)
        return accepted >= self._storm.least_jobs

    def _one_fault(self) -> None:
        faults = self._storm.faults
        kind = self._rng.choices(list(faults), list(faults.values()))[0]
        if kind == "producer-kill" and self._producers:
            self._producers[self._rng.randrange(len(self._producers))].kill()
            self._report.producer_kills += 1
        elif kind == "nothing":
            return
        elif kind == "freeze" and can_freeze:
            self._freeze(self._victim())
        elif kind == "term" and can_term:
            victim = self._victim()
            victim.term()
            self._finish(victim)
            self._report.terms += 1
        else:
            self._victim().kill()
            self._report.kills += 1
        self._replace_ended(self._workers, "worker")
        self._replace_ended(self._producers, "producer")

    def _victim(self) -> Victim:
        """Choose a worker, preferably one that is not frozen: else few would live to thaw."""
        awake = [worker for worker in self._workers if not worker.is_frozen]
        spares = self._rng.random() < _SPARES_FROZEN
        return self._rng.choice(awake if awake and spares else self._workers)

    def _freeze(self, victim: Victim) -> None:
        if not victim.is_frozen:
            victim.freeze()
            self._thaw_at[victim.pid] = SYSTEM_CLOCK.monotonic() + _LEASE_SECS * _FREEZE_OF_LEASE
            self._report.freezes += 1

    def _thaw_due(self) -> None:
        now = SYSTEM_CLOCK.monotonic()
        for worker in self._workers:
            if worker.is_frozen and self._thaw_at[worker.pid] <= now:
                worker.thaw()

    # ---- processes ----------------------------------------------------------------------

    def _replace_ended(self, group: list[Victim], kind: str) -> None:
        for place, victim in enumerate(group):
            if victim.is_running:
                continue
            if not victim.is_doomed:
                self._report.crashes += 1
                victim.close()
            group[place] = self._spawn(kind)

    def _spawn(self, kind: str) -> Victim:
        storm = self._storm
        orders = {
            "kind": kind,
            "root": str(storm.root),
            "threads": storm.threads,
            "seed": self._rng.randrange(2**32),
        }
        return Victim(_CHILD, orders, folder=storm.root, log=self._log)

    def _finish(self, victim: Victim) -> None:
        """Wait for a process that was asked to stop to end by itself.

        Meanwhile the others are thawed when their time is up: one that was frozen while it wrote
        to SQLite locks everyone out of the file, which keeps this one from ending.
        """
        ends_at = SYSTEM_CLOCK.monotonic() + _END_SECS
        while not victim.wait(0.1):
            if SYSTEM_CLOCK.monotonic() > ends_at:
                victim.kill()
            self._thaw_due()
        # The signal itself ends a process that is still starting.
        self._report.crashes += victim.process.returncode not in (0, -signal.SIGTERM)
        victim.close()

    def _end(self, victims: list[Victim]) -> None:
        for victim in victims:
            if victim.is_running:
                victim.term()
        for victim in victims:
            self._finish(victim)

    def _wait_for_drain(self) -> bool:
        inspector = Inspector(self._runtime)
        ends_at = SYSTEM_CLOCK.monotonic() + _DRAIN_SECS
        while SYSTEM_CLOCK.monotonic() < ends_at:
            stats = inspector.stats()
            if not sum(one.waiting + one.running + one.parked for one in stats):
                return True
            SYSTEM_CLOCK.sleep(0.1)
        return False

    # ---- the ledger ---------------------------------------------------------------------

    def _account(self) -> None:
        events = read_history(self._storm.root / "history.ndjson")
        inspector = Inspector(self._runtime)
        final, wrong = {}, []
        before = None
        while page := inspector.page(before=before, limit=1000):
            for one in page:
                final[one.record.id] = str(one.status)
                if not self._is_right(inspector, one.record.id):
                    wrong.append(one.record.id)
            before = page[-1].record.id
        report = self._report
        report.jobs = sum(one["event"] == history.ENQUEUE_OK for one in events)
        report.starts = sum(one["event"] == history.START for one in events)
        report.fenced = sum(one["event"] == history.FENCED for one in events)
        faults = report.kills + report.freezes + report.terms
        report.most_cut_short = faults * self._storm.threads
        report.repeats = count_repeats(events)
        report.findings = check(events, final, wrong_results=wrong)
        report.integrity = self._integrity()

    def _is_right(self, inspector: Inspector, job_id: str) -> bool:
        whole = inspector.snapshot(job_id)
        args, _ = self._runtime.codec.decode_call(whole.record.args, whole.record.kwargs)
        return bool(inspector.result(whole) == answer(args[0]))

    def _integrity(self) -> str:
        path = self._runtime.settings.db_path
        if self._storm.backend != "sqlite" or not path.exists():  # no job was stored
            return "ok"
        import sqlite3  # noqa: PLC0415  # only if the store is SQLite

        self._runtime.stop()
        connection = sqlite3.connect(path)
        try:
            return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
        finally:
            connection.close()
