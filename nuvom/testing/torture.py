"""The kill storm: workers and producers that are killed and frozen at random, and the ledger.

``nuvom torture`` runs it on a store of its own, on any backend that lives on this machine. A
seed fixes victims and moments. When the faults are over the storm demands that everything
drains, and compares what was accepted with what the store holds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nuvom.clock import SYSTEM_CLOCK
from nuvom.config_sources import load
from nuvom.inspection import Inspector
from nuvom.runtime import Runtime, build_runtime
from nuvom.testing import history
from nuvom.testing.history import Findings, HistoryLog, check, read_history
from nuvom.testing.torture_tasks import answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FAULTS = {"kill": 7, "freeze": 1, "term": 1, "producer-kill": 1}  # how often, in comparison
_PAUSE_SECS = (0.1, 0.5)
_FREEZE_OF_LEASE = 1.6  # long enough for the lease to run out
_LEASE_SECS = 1.0
_DRAIN_SECS = 60.0
_END_SECS = 20.0
_CHILD = "nuvom.testing.torture_child"


@dataclass
class Report:
    """What a storm did and found.

    Attributes:
        jobs: Accepted jobs; ``starts`` of their code; ``fenced`` outcomes that were dropped.
        kills, freezes, terms: Faults by kind, of workers; ``producer_kills`` of producers.
        drained: Every job ended in time once the faults were over.
        findings: See ``nuvom.testing.history``.
    """

    backend: str
    seed: int
    secs: float = 0.0
    jobs: int = 0
    starts: int = 0
    fenced: int = 0
    kills: int = 0
    freezes: int = 0
    terms: int = 0
    producer_kills: int = 0
    drained: bool = False
    integrity: str = "ok"
    findings: Findings = field(default_factory=Findings)

    @property
    def is_balanced(self) -> bool:
        """Whether the ledger balances."""
        return self.drained and self.integrity == "ok" and self.findings.is_valid

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "findings": self.findings.counts(), "balanced": self.is_balanced}


@dataclass
class Storm:
    """How a storm is to be.

    Attributes:
        secs: How long faults are made; or until ``kills`` were made, whichever is later.
        jobs: Accepted jobs after which producers stop; None: when the faults end.
        job_secs: Each job's code takes at most so long, at random.
    """

    root: Path
    backend: str = "sqlite"
    secs: float = 15.0
    seed: int = 0
    workers: int = 3
    threads: int = 4
    producers: int = 2
    kills: int = 0
    jobs: int | None = None
    job_secs: float = 0.05
    tell: Callable[[str], None] = lambda _line: None

    def run(self) -> Report:
        """Make the storm, wait for the calm, and return the report."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "nuvom.toml").write_text(self._settings(), encoding="utf-8")
        return _Driver(self).run()

    def _settings(self) -> str:
        return (
            f'queue_backend = "{self.backend}"\nresult_backend = "{self.backend}"\n'
            f"lease_secs = {_LEASE_SECS}\nmax_deliveries = 1000\nshutdown_timeout_secs = 2.0\n"
        )


class _Driver:
    """Runs one storm."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._rng = random.Random(storm.seed)  # noqa: S311  # to be replayed, not to be secret
        self._log = HistoryLog(storm.root / "history.ndjson")
        self._report = Report(storm.backend, storm.seed)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._producers: list[subprocess.Popen[bytes]] = []
        self._frozen: dict[int, float] = {}
        self._runtime: Runtime = build_runtime(load(storm.root, environ={}))

    def run(self) -> Report:
        began = SYSTEM_CLOCK.monotonic()
        try:
            self._workers = [self._spawn("worker") for _ in range(self._storm.workers)]
            self._producers = [self._spawn("producer") for _ in range(self._storm.producers)]
            self._make_faults(began + self._storm.secs)
            self._end_producers()
            self._report.drained = self._wait_for_drain()
        finally:
            self._end_all()
        self._report.secs = round(SYSTEM_CLOCK.monotonic() - began, 1)
        self._account()
        self._runtime.stop()
        return self._report

    # ---- faults -------------------------------------------------------------------------

    def _make_faults(self, until: float) -> None:
        while SYSTEM_CLOCK.monotonic() < until or self._report.kills < self._storm.kills:
            SYSTEM_CLOCK.sleep(self._rng.uniform(*_PAUSE_SECS))
            self._thaw(all_of_them=False)
            self._one_fault()
            self._storm.tell(
                f"{self._report.kills} kills, {self._report.freezes} freezes, "
                f"{self._report.terms} stops"
            )
        self._thaw(all_of_them=True)

    def _one_fault(self) -> None:
        kind = self._rng.choices(list(_FAULTS), list(_FAULTS.values()))[0]
        if kind == "producer-kill" and self._producers:
            self._replace(self._producers, "producer", signal.SIGKILL)
            self._report.producer_kills += 1
        elif kind == "freeze" and hasattr(signal, "SIGSTOP"):
            self._freeze()
        elif kind == "term":
            self._replace(self._workers, "worker", signal.SIGTERM)
            self._report.terms += 1
        else:
            self._replace(self._workers, "worker", signal.SIGKILL)
            self._report.kills += 1

    def _replace(
        self, group: list[subprocess.Popen[bytes]], kind: str, number: signal.Signals
    ) -> None:
        place = self._rng.randrange(len(group))
        victim = group[place]
        self._frozen.pop(victim.pid, None)
        if number == signal.SIGKILL:
            self._kill(victim)
        else:
            self._log.write(history.TERM, pid=victim.pid)
            victim.send_signal(number)
            if hasattr(signal, "SIGCONT"):
                victim.send_signal(signal.SIGCONT)
            self._finish(victim)
        group[place] = self._spawn(kind)

    def _kill(self, victim: subprocess.Popen[bytes]) -> None:
        sent_at = SYSTEM_CLOCK.monotonic()
        victim.kill()
        victim.wait()
        self._log.write(history.KILL, pid=victim.pid, at=sent_at, dead=SYSTEM_CLOCK.monotonic())

    def _freeze(self) -> None:
        victim = self._rng.choice(self._workers)
        if victim.pid in self._frozen:
            return
        self._log.write(history.FREEZE, pid=victim.pid)
        victim.send_signal(signal.SIGSTOP)
        self._frozen[victim.pid] = SYSTEM_CLOCK.monotonic() + _LEASE_SECS * _FREEZE_OF_LEASE
        self._report.freezes += 1

    def _thaw(self, *, all_of_them: bool) -> None:
        now = SYSTEM_CLOCK.monotonic()
        for process in self._workers:
            if process.pid in self._frozen and (all_of_them or self._frozen[process.pid] <= now):
                del self._frozen[process.pid]
                process.send_signal(signal.SIGCONT)
                self._log.write(history.THAW, pid=process.pid)

    # ---- processes ----------------------------------------------------------------------

    def _spawn(self, kind: str) -> subprocess.Popen[bytes]:
        storm = self._storm
        orders = {
            "kind": kind,
            "root": str(storm.root),
            "threads": storm.threads,
            "seed": self._rng.randrange(2**32),
            "job_secs": storm.job_secs,
            "jobs": None if storm.jobs is None else storm.jobs // max(1, storm.producers),
        }
        return subprocess.Popen(
            [sys.executable, "-m", _CHILD, json.dumps(orders)],
            cwd=storm.root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=open(storm.root / "children.log", "ab"),  # the child's from now on
        )

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        """Let a process end by itself; it has been asked to.

        The others are thawed meanwhile when their time is over: one that was stopped while it
        wrote to SQLite keeps everybody out of the file, and so this one from ending.
        """
        ends_at = SYSTEM_CLOCK.monotonic() + _END_SECS
        while process.poll() is None:
            if SYSTEM_CLOCK.monotonic() > ends_at:
                self._kill(process)
                return
            self._thaw(all_of_them=False)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.1)

    def _end_producers(self) -> None:
        for process in self._producers:
            process.send_signal(signal.SIGTERM)
        for process in self._producers:
            self._finish(process)

    def _wait_for_drain(self) -> bool:
        ends_at = SYSTEM_CLOCK.monotonic() + _DRAIN_SECS
        while SYSTEM_CLOCK.monotonic() < ends_at:
            stats = Inspector(self._runtime).stats()
            if not sum(one.waiting + one.running + one.parked for one in stats):
                return True
            SYSTEM_CLOCK.sleep(0.1)
        return False

    def _end_all(self) -> None:
        for process in (*self._workers, *self._producers):
            if process.poll() is None:
                if hasattr(signal, "SIGCONT"):
                    process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in (*self._workers, *self._producers):
            self._finish(process)

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
        report.findings = check(events, final, wrong_results=wrong)
        report.integrity = self._integrity()

    def _is_right(self, inspector: Inspector, job_id: str) -> bool:
        whole = inspector.snapshot(job_id)
        args, _ = self._runtime.codec.decode_call(whole.record.args, whole.record.kwargs)
        return bool(inspector.result(whole) == answer(args[0]))

    def _integrity(self) -> str:
        if self._storm.backend != "sqlite":
            return "ok"
        import sqlite3  # noqa: PLC0415  # only where the store is SQLite

        self._runtime.stop()
        connection = sqlite3.connect(self._runtime.settings.db_path)
        try:
            return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
        finally:
            connection.close()
