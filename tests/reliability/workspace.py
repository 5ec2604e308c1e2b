"""A place for a fault test: a store on disk, its history, children at it, and the check after."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobSnapshot, JobStatus
from nuvom.events import EventBus
from nuvom.inspection.inspector import Inspector
from nuvom.job import Job
from nuvom.runtime import Runtime, build_runtime
from nuvom.testing import history
from nuvom.testing.faults import Victim
from nuvom.testing.history import Findings, HistoryLog, check, parse_event, read_history
from nuvom.testing.torture_child import note_events
from nuvom.worker import Worker
from tests.engine import LIMIT_SECS, in_use, wait_until
from tests.reliability import tasks

PROGRAM = "tests.reliability.program"


children: list[Victim] = []
"""All that were started; what a failing test leaves behind is ended after it."""


@dataclass
class Workspace:
    """A folder with a store.

    Attributes:
        backend: Of queue and results; ``queue+results`` where they differ.
        settings: As in nuvom.toml.
    """

    root: Path
    backend: str = "sqlite"
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        queue, _, results = self.backend.partition("+")
        given = {"queue_backend": queue, "result_backend": results or queue, **self.settings}
        text = "".join(f"{name} = {_toml(value)}\n" for name, value in given.items())
        (self.root / "nuvom.toml").write_text(text, encoding="utf-8")
        self.log = HistoryLog(self.history)
        self._seen = History(self.history)

    @property
    def history(self) -> Path:
        return self.root / "history.ndjson"

    def runtime(self) -> Runtime:
        """Return a runtime on this store, of which the history tells."""
        bus = EventBus()
        note_events(self.log, bus)
        return build_runtime(load(self.root, environ={}), bus=bus)

    def open(self) -> AbstractContextManager[Runtime]:
        """Use this store in this process: ``.delay()`` goes here."""
        return in_use(self.runtime())

    @contextmanager
    def processes(self, count: int, part: str = "work", **orders: Any) -> Iterator[Processes]:
        """Have ``count`` workers at this store, each a process; end all that live at last."""
        processes = Processes(self, part, orders)
        try:
            for _ in range(count):
                processes.start()
            yield processes
        finally:
            processes.close()

    def child(
        self,
        part: str,
        env: Mapping[str, str] | None = None,
        *,
        talks: bool = False,
        prefix: Sequence[str] = (),
        **orders: Any,
    ) -> Victim:
        """Start a process that plays ``part`` of ``program.py`` here."""
        child = Victim(
            PROGRAM,
            {"part": part, "root": str(self.root), **orders},
            folder=self.root,
            log=self.log,
            env={tasks.HISTORY_VARIABLE: str(self.history), **(env or {})},
            talks=talks,
            prefix=prefix,
        )
        children.append(child)
        return child

    def worker(self, runtime: Runtime, **options: Any) -> Worker:
        """Return a worker of this process whose tasks write into this workspace's history."""
        token = tasks.HISTORY.set(str(self.history))
        try:
            return Worker(runtime, **options)
        finally:
            tasks.HISTORY.reset(token)

    def enqueue(self, *jobs: Job[Any]) -> list[str]:
        """Note jobs that this process has just enqueued; return their ids."""
        for job in jobs:
            self.log.write(history.ENQUEUE_OK, job=job.id)
        return [job.id for job in jobs]

    def errors(self) -> str:
        """Return what children wrote to their standard error."""
        path = self.root / "children.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    # ---- afterwards ---------------------------------------------------------------------

    def drain(self, runtime: Runtime, *, threads: int = 2, limit_secs: float = LIMIT_SECS) -> None:
        """Run a worker here until nothing is left to do; fail when that takes too long."""
        worker = self.worker(runtime, threads=threads)
        worker.start()
        try:
            wait_for(lambda: not unfinished(runtime), limit_secs, "it never drained")
        finally:
            worker.stop()
            assert worker.join(LIMIT_SECS)

    def snapshots(self, runtime: Runtime) -> dict[str, JobSnapshot]:
        """Return all jobs, by id."""
        inspector = Inspector(runtime)
        found: dict[str, JobSnapshot] = {}
        before = None
        while page := inspector.page(before=before, limit=1000):
            found |= {one.record.id: one for one in page}
            before = page[-1].record.id
        return found

    def findings(self, runtime: Runtime, **limits: Any) -> Findings:
        """Check the history against the store."""
        final = {job_id: str(one.status) for job_id, one in self.snapshots(runtime).items()}
        wrong = [job_id for job_id in final if not self._is_right(runtime, job_id)]
        return check(read_history(self.history), final, wrong_results=wrong, **limits)

    def _is_right(self, runtime: Runtime, job_id: str) -> bool:
        """Whether the result of a successful job is what our tasks return: one more."""
        inspector = Inspector(runtime)
        whole = inspector.snapshot(job_id)
        if whole.status is not JobStatus.SUCCESS:
            return True
        args, _ = runtime.codec.decode_call(whole.record.args, whole.record.kwargs)
        return bool(inspector.result(whole) == args[0] + 1)

    def events(self, word: str) -> list[dict[str, Any]]:
        """Return the events of one kind so far, in order."""
        return self._seen.events(word)

    def starts(self) -> Counter[str]:
        """Return how often each job's code has started."""
        return Counter(one["job"] for one in self.events(history.START))

    def assert_sound(self, runtime: Runtime) -> None:
        """Fail when the store's files are damaged."""
        runtime.stop()
        if "sqlite" in self.backend:
            connection = sqlite3.connect(runtime.settings.db_path)
            try:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            finally:
                connection.close()


class History:
    """The events of a history that grows; each look at them reads no more than what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_to = 0
        self._events: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def events(self, word: str) -> list[dict[str, Any]]:
        """Return the events of one kind so far, in order of time."""
        with open(self._path, "rb") as stream:
            stream.seek(self._read_to)
            whole, newline, _ = stream.read().rpartition(b"\n")
        for event in filter(None, map(parse_event, whole.splitlines())):
            self._events[event["event"]].append(event)
        self._read_to += len(whole) + len(newline)
        return sorted(self._events[word], key=lambda one: float(one["at"]))


class Processes:
    """Processes that play one part at a workspace.

    Attributes:
        members: By pid.
    """

    def __init__(self, workspace: Workspace, part: str, orders: dict[str, Any]) -> None:
        self._workspace = workspace
        self._part = part
        self._orders = orders
        self.running: dict[int, Victim] = {}

    def start(self) -> Victim:
        """Start another one; it is up when this returns."""
        process = self._workspace.child(self._part, talks=True, **self._orders)
        self.running[process.pid] = process
        assert next(process.said(), "") == "up", self._workspace.errors()
        return process

    def kill(self, pid: int) -> float:
        """Kill one; return when the signal was sent (monotonic seconds)."""
        sent_at = SYSTEM_CLOCK.monotonic()
        self.running.pop(pid).kill()
        return sent_at

    def close(self) -> None:
        """Ask all to stop, and see that they do."""
        for process in self.running.values():
            if process.is_running:
                process.term()
        stopped = [process.wait(LIMIT_SECS) for process in self.running.values()]
        for process in self.running.values():
            process.close()
        assert all(stopped), "a worker does not stop"


def unfinished(runtime: Runtime) -> int:
    """Return how many jobs are not final."""
    return sum(one.waiting + one.running + one.parked for one in Inspector(runtime).stats())


def wait_for(is_so: Callable[[], bool], limit_secs: float, otherwise: str) -> None:
    """Wait until something is so; look every few milliseconds."""
    if limit_secs == LIMIT_SECS:
        wait_until(is_so)
        return
    deadline = SYSTEM_CLOCK.monotonic() + limit_secs
    while not is_so():
        assert SYSTEM_CLOCK.monotonic() < deadline, otherwise
        SYSTEM_CLOCK.sleep(0.005)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else f'"{value}"'
