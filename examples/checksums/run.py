"""Checksums and counts of the whole standard library, by two workers, checked to the byte.

    python examples/checksums/run.py [FOLDER]

It makes a project in a temporary folder, discovers its tasks, queues two jobs for each ``.py``
file of a folder (by default the running Python's standard library), lets two separate worker
processes run them, and compares what they give with a direct computation. Exit code 0 only if
all of it is equal.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks import Counts

    from nuvom import Job

    Measured = list[tuple[str, str, Counts]]  # path, checksum, counts

HERE = Path(__file__).resolve().parent
WORKERS = 2
LIMIT_SECS = 600.0  # no machine needs as long; a run that hangs has to end
NOT_OURS = {"site-packages", "dist-packages", "__pycache__"}
SHOWN = 5


def main(place: str = "") -> int:
    """Run the example, on a folder if one is named; return the exit code."""
    library = Path(place or sysconfig.get_path("stdlib"))
    files = python_files(library)
    megabytes = sum(os.path.getsize(path) for path in files) / 1e6
    what = place or f"The standard library of Python {sys.version.split()[0]}"
    print(f"{what}, by {WORKERS} workers\n")
    say("files", f"{len(files):,} in {library}, {megabytes:.1f} MB")
    with tempfile.TemporaryDirectory(prefix="nuvom-checksums-") as folder:
        make_project(Path(folder))
        try:
            by_workers = through_the_queue(files)
            direct = directly(files)
        finally:
            leave_project()
    return compare(by_workers, direct, library)


def python_files(folder: Path) -> list[str]:
    """Return all ``.py`` files below ``folder``, sorted, installed packages left out."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in NOT_OURS]
        found += [os.path.join(place, name) for name in names if name.endswith(".py")]
    return sorted(found)


# ---- the project ----------------------------------------------------------------------------


def make_project(folder: Path) -> None:
    """Make ``folder`` a Nuvom project with our tasks, go there, and discover them."""
    for name in [name for name in os.environ if name.startswith("NUVOM_")]:
        del os.environ[name]  # nobody's own store is meant
    shutil.copy(HERE / "tasks.py", folder)
    (folder / "nuvom.toml").write_text('log_level = "WARNING"\n', encoding="utf-8")
    os.chdir(folder)
    # `import tasks` must find the copy: workers import tasks from below the project's root.
    sys.path.insert(0, str(folder))
    found = json.loads(nuvom("discover", "tasks", "--json"))
    say("discovered", f"{' and '.join(found['tasks'])}, by reading tasks.py, not importing it")


def leave_project() -> None:
    """Close the store and leave the folder, so that it can be removed on every system."""
    from nuvom.runtime import reset  # noqa: PLC0415  # Nuvom is to see the project first

    reset()
    os.chdir(HERE)


def nuvom(*arguments: str) -> str:
    """Run a command of Nuvom to its end; return what it printed."""
    command = [sys.executable, "-m", "nuvom", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def run_workers(count: int) -> None:
    """Run workers side by side until there is nothing left to do."""
    command = [sys.executable, "-m", "nuvom", "runworker", "--burst"]
    logs = [Path(f"worker-{number}.log") for number in range(count)]
    started = []
    try:
        for log in logs:
            with log.open("wb") as stream:
                started.append(subprocess.Popen(command, stdout=stream, stderr=stream))
        for worker, log in zip(started, logs, strict=True):
            if worker.wait(LIMIT_SECS) != 0:
                text = log.read_text(encoding="utf-8", errors="replace")
                sys.exit(f"A worker ended with exit code {worker.returncode}:\n{text}")
    finally:
        for worker in started:
            worker.kill()  # harmless where it has ended
            worker.wait()


# ---- the work -------------------------------------------------------------------------------


def through_the_queue(files: Sequence[str]) -> Measured:
    """Return path, checksum and counts of each file, computed by the workers."""
    from tasks import checksum, count  # noqa: PLC0415  # the project's copy, made a moment ago

    began = time.perf_counter()
    calls = [(path,) for path in files]
    checksums, counts = checksum.map(calls), count.map(calls)
    jobs: list[Job[Any]] = [*checksums, *counts]
    say("queued", f"{len(jobs):,} jobs with two calls of .map(), in {since(began)}")

    began = time.perf_counter()
    run_workers(WORKERS)
    results = zip(files, checksums.get(LIMIT_SECS), counts.get(LIMIT_SECS), strict=True)
    measured = list(results)
    secs = time.perf_counter() - began
    say("ran", f"{len(jobs):,} jobs in {secs:.2f} s, from the start of the workers to the results")
    say("", f"{len(jobs) / secs:,.0f} jobs per second; {shares(jobs)}")
    return measured


def directly(files: Sequence[str]) -> Measured:
    """Return the same by plain calls of the functions, without any queue."""
    from tasks import checksum, count  # noqa: PLC0415  # as above

    began = time.perf_counter()
    measured = [(path, checksum(path), count(path)) for path in files]
    say("directly", f"the same without a queue, in one process: {since(began)}")
    return measured


def shares(jobs: Sequence[Job[Any]]) -> str:
    """Say how many jobs each worker ran, as the store knows it."""
    ran = sorted(Counter(job.snapshot().worker for job in jobs).values(), reverse=True)
    return f"{len(ran)} workers ran {' and '.join(f'{number:,}' for number in ran)}"


# ---- the verdict ----------------------------------------------------------------------------


def compare(by_workers: Measured, direct: Measured, library: Path) -> int:
    """Print the totals and whether both reports are equal; return the exit code."""
    ours, theirs = report(by_workers, library), report(direct, library)
    print_totals([counts for _, _, counts in by_workers])
    say("report", f"{len(ours):,} bytes, SHA-256 {hashlib.sha256(ours).hexdigest()}")
    if ours == theirs:
        print("\nEqual to the byte: the workers' report and the one computed directly.")
        return 0
    pairs = zip(ours.splitlines(), theirs.splitlines(), strict=False)
    different = [pair for pair in pairs if pair[0] != pair[1]]
    print(f"\nNOT EQUAL: {len(different)} lines differ; {len(ours)} and {len(theirs)} bytes.")
    for by_worker, by_call in different[:SHOWN]:
        print(f"  worker  {by_worker.decode()}\n  direct  {by_call.decode()}")
    return 1


def print_totals(counts: Sequence[Counts]) -> None:
    """Print the sums over all files."""
    functions = [one.functions for one in counts if one.functions is not None]
    say("lines", f"{sum(one.lines for one in counts):,}")
    say("words", f"{sum(one.words for one in counts):,}")
    invalid = len(counts) - len(functions)
    say("functions", f"{sum(functions):,}; {invalid} files are invalid on purpose: test data")


def report(measured: Measured, library: Path) -> bytes:
    """Return one line for each file: checksum, lines, words, functions, path."""
    lines = (
        f"{checksum}  {counts.lines}  {counts.words}  {counts.functions}  "
        f"{Path(path).relative_to(library).as_posix()}\n"
        for path, checksum, counts in measured
    )
    return "".join(lines).encode("utf-8")


def say(word: str, text: str) -> None:
    """Print one line of what happens."""
    print(f"  {word:<12}{text}", flush=True)


def since(began: float) -> str:
    """Return how long it took, as text."""
    return f"{time.perf_counter() - began:.2f} s"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
