"""Nuvom's own limits: what no peer is asked. Each takes an adapter of ``peers/nuvom_here.py``.

Full counts take minutes. Figures that are ratios compare two things of the same process, one
right after the other.
"""

from __future__ import annotations

import ast
import shutil
import statistics
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import body
from measures import FIRST, START_LIMIT_SECS, fill, until_drained
from peers.base import FOLDER
from worker_process import Worker, peak_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from catalogue import Peer
    from peers.nuvom_here import NuvomAdapter

Figures = dict[str, float]
MILLION = 1_000_000
THREADS = 8
IDLE_SECS = 20.0
BURN_SECS = 60.0
MIB = 1 << 20
FLAT_BATCH, FLAT_ROUNDS = 50, 60
FILES = 5_000
STARTS = 9
AWAIT_SECS = 300.0
CPU_JOBS, CPU_JOB_STEPS, CPU_ROUNDS = 40, 4_000_000, 3  # 0.1 to 0.5 s each
INSTRUCTION_JOBS, INSTRUCTION_RUNS = (2_500, 8_500), 3
WORKER_ROUNDS = 2
QUEUE = "default"  # of the tasks
CLOSED_ATTEMPTS = 20
UNHURRIED = Path(__file__).with_name("tasks") / "unhurried.py"


def threads(adapter: NuvomAdapter, scale: float) -> Figures:
    """Single calls of eight threads together, beside those of one."""
    count = max(200, int(adapter.peer.enqueue * scale))

    def together(number: int) -> float:
        adapter.clear()
        crew = [threading.Thread(target=adapter.calls, args=(count,)) for _ in range(number)]
        began = time.perf_counter()
        for one in crew:
            one.start()
        for one in crew:
            one.join()
        return number * count / (time.perf_counter() - began)

    together(1)
    alone, crowd = together(1), together(THREADS)
    adapter.clear()
    return {"reach_enqueue_8_threads": crowd, "reach_enqueue_8_threads_over_one": crowd / alone}


def beside_a_loop(adapter: NuvomAdapter, scale: float) -> Figures:
    """A drain while one slot burns in pure Python, beside the same drain alone."""
    from reach_tasks import burn  # noqa: PLC0415  # of the project that was just made

    def drained(*, is_burning: bool) -> float:
        count = max(500, int(adapter.peer.drain * scale / 4))
        adapter.clear()
        with Worker(adapter):
            body.clear_marks()
            if is_burning:
                _ = burn.delay(BURN_SECS)
            fill(adapter, count)
            secs = until_drained(adapter, count)
        return count / secs

    alone = drained(is_burning=False)
    beside = drained(is_burning=True)
    return {"reach_drain_beside_a_loop": beside, "reach_drain_beside_a_loop_ratio": beside / alone}


def idle(adapter: NuvomAdapter, scale: float) -> Figures:
    """Share of a core that an idle worker uses, its start and end taken off."""

    def used(secs: float) -> float:
        adapter.clear()
        body.clear_marks()
        adapter.mark(FIRST)
        with Worker(adapter) as worker:
            body.await_moment(FIRST, START_LIMIT_SECS)
            time.sleep(secs)
        return worker.cpu_secs or 0.0

    short, long = 2.0, 2.0 + max(4.0, IDLE_SECS * scale)
    base = min(used(short) for _ in range(3))
    spent = min(used(long) for _ in range(2))
    return {"reach_idle_per_cent": max(0.0, 100 * (spent - base) / (long - short))}


def memory(adapter: NuvomAdapter, scale: float) -> Figures:
    """Peak memory of ``.map()`` with a generator, then of a worker with all that waiting."""
    count = int(MILLION * scale)
    adapter.clear()
    before = peak_bytes()
    began = time.perf_counter()
    adapter.bulk(count)
    secs = time.perf_counter() - began
    grown = peak_bytes() - before
    with Worker(adapter) as worker:
        time.sleep(5.0)
    figures = {"reach_map_mib": grown / MIB, "reach_map_million_secs": secs / scale}
    if worker.peak_bytes is not None:
        figures["reach_worker_peak_mib"] = worker.peak_bytes / MIB
    return figures


def flat(adapter: NuvomAdapter, scale: float) -> Figures:
    """Claim and settle in a store of a million finished and a million waiting jobs,
    beside one of a thousand each.
    """
    small = _claims_and_settles(adapter, 5_000, 1_000)
    large = _claims_and_settles(adapter, int(MILLION * scale), int(MILLION * scale))
    return {
        "reach_flat_claim_ratio": large[0] / small[0],
        "reach_flat_settle_ratio": large[1] / small[1],
    }


def _claims_and_settles(adapter: NuvomAdapter, waiting: int, finished: int) -> tuple[float, float]:
    from nuvom.runtime import current_runtime  # noqa: PLC0415  # the package under test
    from nuvom.testing import make_settlement  # noqa: PLC0415  # likewise

    queue: Any = current_runtime().queue

    def one(size: int) -> tuple[float, float]:
        began = time.perf_counter()
        jobs = queue.claim(size, "bench-flat")
        claimed = time.perf_counter()
        settlements = [make_settlement(job, value=1) for job in jobs]
        made = time.perf_counter()
        queue.settle(settlements)
        return claimed - began, time.perf_counter() - made

    adapter.clear()
    adapter.bulk(finished + waiting)
    for _ in range(finished // 1_000):
        one(1_000)
    took = [one(FLAT_BATCH) for _ in range(FLAT_ROUNDS)]
    return statistics.median([a for a, _ in took]), statistics.median([b for _, b in took])


def discovery(adapter: NuvomAdapter, scale: float) -> Figures:
    """A scan, beside reading and parsing only the files that contain the word."""
    del adapter
    folder = FOLDER / "sources"
    count = _copy_sources(folder, int(FILES * scale))
    (folder / "nuvom.toml").touch()
    from nuvom.discovery.auto_register import refresh  # noqa: PLC0415  # the package under test

    def scanned() -> float:
        shutil.rmtree(folder / ".nuvom", ignore_errors=True)
        began = time.perf_counter()
        refresh(folder, folder / ".nuvom" / "manifest.json")
        return time.perf_counter() - began

    def parsed() -> float:
        began = time.perf_counter()
        for path in folder.rglob("*.py"):
            text = path.read_bytes()
            if b"task" in text:
                ast.parse(text)
        return time.perf_counter() - began

    parsed()
    base, ours = min(parsed() for _ in range(3)), min(scanned() for _ in range(3))
    return {"reach_discovery_files": float(count), "reach_discovery_speed_ratio": base / ours}


def _copy_sources(folder: Path, most: int) -> int:
    """Copy real files that parse: the standard library, then installed packages."""
    count = 0
    for name in ("stdlib", "purelib"):
        for path in sorted(Path(sysconfig.get_path(name)).rglob("*.py")):
            is_ours = "site-packages" in path.parts and name == "stdlib"
            if count >= most or is_ours or "lib2to3" in path.parts or "test" in path.parts[-2]:
                continue
            target = folder / f"part{count // 200}" / f"m{count}.py"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            count += 1
    return count


def help_text(adapter: NuvomAdapter, scale: float) -> Figures:
    """How much longer ``nuvom --help`` takes than importing what draws it."""
    del scale

    def took(command: list[str]) -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    base = [sys.executable, "-c", "import click"]
    ours = [adapter.worker()[0], "--help"]
    pairs = [(took(base), took(ours)) for _ in range(STARTS)]
    return {
        "reach_help_over_import_click": statistics.median([b for _, b in pairs])
        / statistics.median([a for a, _ in pairs])
    }


def processes(adapter: NuvomAdapter, scale: float) -> Figures:
    """CPU-bound jobs with two processes, beside one."""
    from reach_tasks import count_to  # noqa: PLC0415  # of the project that was just made

    count = max(24, int(CPU_JOBS * scale))

    def drained(number: int) -> float:
        adapter.clear()
        with _crew(adapter, number):
            began = time.perf_counter()
            # Waited for and not counted: to look again and again takes from the second process.
            count_to.map([(CPU_JOB_STEPS,)] * count).get(timeout=AWAIT_SECS)
            secs = time.perf_counter() - began
        return count / secs

    pairs = [(drained(1), drained(2)) for _ in range(CPU_ROUNDS)]
    return {"reach_two_processes_over_one": statistics.median([two / one for one, two in pairs])}


def two_workers(adapter: NuvomAdapter, scale: float) -> Figures:
    """What two workers drain together from a full queue on a server, beside one."""
    count = max(500, int(adapter.peer.drain * scale))
    pairs = []
    for number in range(WORKER_ROUNDS):
        order = (1, 2) if number % 2 else (2, 1)  # what slows a machine down hits both
        pairs.append({crew: _drained_by(adapter, crew, count) for crew in order})
    return {
        "reach_drain_by_two_workers": statistics.median([one[2] for one in pairs]),
        "reach_two_workers_over_one": statistics.median([one[2] / one[1] for one in pairs]),
    }


def _drained_by(adapter: NuvomAdapter, number: int, count: int) -> float:
    """Return the jobs for each second that so many workers drain, all of them up at the start."""
    from nuvom.runtime import current_runtime  # noqa: PLC0415  # the package under test

    queue: Any = current_runtime().queue
    adapter.clear()
    queue.pause(QUEUE, "benchmark")
    fill(adapter, count)
    with _crew(adapter, number):
        queue.resume(QUEUE)
        secs = until_drained(adapter, count)
    adapter.clear()
    return count / secs


@contextmanager
def _crew(adapter: NuvomAdapter, number: int) -> Iterator[None]:
    """For its block, so many worker processes are up."""
    adapter.worker_options = ("--processes", str(number))
    with Worker(adapter):
        ends_at = time.perf_counter() + AWAIT_SECS
        while adapter.workers() != number:
            if time.perf_counter() > ends_at:
                raise TimeoutError(f"{adapter.workers()} of {number} workers came up")
            time.sleep(0.01)
        yield
    adapter.worker_options = ()


def closing(adapter: NuvomAdapter, scale: float) -> Figures:
    """Milliseconds from the deadline of an attempt inside a call of Nuvom's until it is closed,
    for a caller who waits for it, and until its thread is free.
    """
    from reach_tasks import sit_in_get, sit_in_map  # noqa: PLC0415  # of the project that was just made

    figures: Figures = {}
    adapter.clear()
    with Worker(adapter):
        for name, task in (("get", sit_in_get), ("map", sit_in_map)):
            found = [_closed(task) for _ in range(1 + max(5, int(CLOSED_ATTEMPTS * scale)))][1:]
            figures[f"reach_closed_in_{name}_ms"] = statistics.median([one for one, _ in found])
            figures[f"reach_freed_in_{name}_ms"] = statistics.median([one for _, one in found])
    adapter.clear()
    return figures


def _closed(task: Any) -> tuple[float, float]:  # noqa: ANN401  # a Task
    from reach_tasks import CLOSED_SECS  # noqa: PLC0415  # of the project that was just made

    from nuvom import JobFailed  # noqa: PLC0415  # the package under test

    body.clear_marks()
    job = task.delay(FIRST)
    try:
        job.get(timeout=START_LIMIT_SECS)
    except JobFailed:
        closed_at = time.time()
    freed = body.await_moment(FIRST, START_LIMIT_SECS)
    freed_at = time.time() - (time.perf_counter_ns() - freed) / 1e9
    due_at = job.snapshot().started_at + CLOSED_SECS
    return 1e3 * (closed_at - due_at), 1e3 * (freed_at - due_at)


def instructions(adapter: NuvomAdapter, scale: float) -> Figures:
    """Machine instructions of the worker for each job: the same on a busy machine."""
    del scale
    if adapter.in_process:
        return {}
    # On a busy machine some batches are smaller than they could be: the fewest are the job's own.
    counts = [
        min(_instructions(adapter, jobs) for _ in range(INSTRUCTION_RUNS))
        for jobs in INSTRUCTION_JOBS
    ]
    each = (counts[1] - counts[0]) / (INSTRUCTION_JOBS[1] - INSTRUCTION_JOBS[0])
    return {"instructions_per_job": each}


def _instructions(adapter: NuvomAdapter, jobs: int) -> int:
    out = FOLDER / f"callgrind.{jobs}"
    tool = shutil.which("valgrind")
    if tool is None:
        raise RuntimeError("valgrind is not installed")
    adapter.clear()
    adapter.bulk(jobs)
    options = (f"--callgrind-out-file={out}", "--quiet", "--tool=callgrind", "--trace-children=no")
    command = [tool, *options, sys.executable, str(UNHURRIED), "-q", "runworker", "--burst"]
    with Worker(adapter, command=command) as worker:
        worker.wait(START_LIMIT_SECS * 5)
    if adapter.finished() != jobs:
        raise RuntimeError(f"{adapter.finished()} of {jobs} jobs were done under valgrind")
    for line in out.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(("summary:", "totals:")):
            return int(line.split()[1])
    raise RuntimeError("valgrind has counted nothing")


MEASURES: dict[str, Callable[[Any, float], Figures]] = {
    "threads": threads,
    "beside_a_loop": beside_a_loop,
    "idle": idle,
    "memory": memory,
    "flat": flat,
    "discovery": discovery,
    "help": help_text,
    "processes": processes,
    "two_workers": two_workers,
    "closing": closing,
    "instructions": instructions,
}


def is_for(peer: Peer, measure: str) -> bool:
    """Return whether a row is measured by one of these."""
    measured = {"instructions"} if peer.kind == "nuvom" else set()
    name = peer.name.partition("@")[0]
    if peer.server and peer.kind == "nuvom":
        measured |= {"two_workers"}
    elif name == "nuvom-sqlite-full":
        measured = set(MEASURES) - {"two_workers"}
    elif name == "nuvom-sqlite-normal":
        measured |= {"threads", "idle"}
    return measure in measured
