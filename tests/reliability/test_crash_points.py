"""R06: a process ends at each crash point in turn, and the next one finds nothing missing.

The points themselves come from the source: one that no run passes is found out here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from nuvom.core.record import JobStatus
from nuvom.testing import history
from nuvom.testing.history import read_history
from tests.lab import crashing
from tests.reliability import tasks
from tests.reliability.workspace import Workspace

BACKENDS = ("sqlite", "file", "sqlite+file", "file+sqlite")
SWEEPS = [
    *((mode, backend) for mode in crashing.MODES for backend in ("sqlite", "file")),
    *(("kill", backend) for backend in ("sqlite+file", "file+sqlite")),
]
LIMIT_SECS = 60.0
_AT_ONCE = 6  # they wait more than they work


class Case(NamedTuple):
    backend: str
    part: str  # of program.py
    point: str


class CrashSetup:
    """Stores to start from: an empty one, and one in which a worker has died over a job."""

    def __init__(self, root: Path, backend: str) -> None:
        self.backend = backend
        self._template = root / "template"
        self._traces = root / "traces"
        self._root = root
        self._numbers = count()
        self._traces.mkdir()
        self.passed = {"found": self._trace("found"), "live": self._trace("live")}

    def workspace(self, part: str, name: str) -> Workspace:
        """Return a fresh workspace for a process that plays ``part``."""
        root = self._root / f"{next(self._numbers)}-{name}"
        if part == "live":
            shutil.copytree(self._template, root, symlinks=True, ignore=_sockets)
        settings = {"lease_secs": 0.6, "shutdown_timeout_secs": 0.1, "max_deliveries": 1000}
        return Workspace(root, self.backend, settings)

    def play(
        self,
        workspace: Workspace,
        part: str,
        env: dict[str, str] | None = None,
        *,
        traced: str = "",
    ) -> int:
        """Have a process play ``part`` to its end, whatever it is; return its exit code."""
        child = workspace.child(part, env, spare_bytes=self._spare_bytes, traced=traced)
        assert child.wait(LIMIT_SECS), f"it hangs\n{workspace.errors()}"
        child.close()
        workspace.log.write(history.KILL, pid=child.pid)
        return child.process.returncode

    @property
    def _spare_bytes(self) -> int | None:
        return 3000 if self.backend.startswith("file") else None

    def _trace(self, part: str) -> set[str]:
        workspace = self.workspace(part, f"trace-{part}")
        trace = self._traces / part
        code = self.play(workspace, part, traced=str(trace))
        assert code == (-9 if part == "found" else 0), workspace.errors()
        if part == "found":
            workspace.root.rename(self._template)
            _tear(self._template)
        return {one["name"] for one in read_history(trace)}


def _sockets(folder: str, names: list[str]) -> list[str]:
    """Return the names of sockets: they cannot be copied, and whoever listens next makes its own.

    A dead process leaves one behind where the path of its store is short enough for a socket.
    """
    return [name for name in names if (Path(folder) / name).is_socket()]


def _tear(root: Path) -> None:
    """Leave half an entry at the end of a file queue's log, as a death while writing would."""
    logs = sorted((root / ".nuvom" / "files" / "log").glob("*.log"))
    if logs:
        with open(logs[-1], "ab") as stream:
            stream.write(logs[-1].read_bytes()[:40])


@pytest.fixture(scope="module")
def setups(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CrashSetup]:
    made: dict[str, CrashSetup] = {}

    def setup(backend: str) -> CrashSetup:
        if backend not in made:
            made[backend] = CrashSetup(tmp_path_factory.mktemp(backend.replace("+", "-")), backend)
        return made[backend]

    return setup


def cases(setup: CrashSetup) -> Iterator[Case]:
    """Yield each point once, in the part that has more to lose."""
    for point in sorted(setup.passed["live"] | setup.passed["found"]):
        part = "live" if point in setup.passed["live"] else "found"
        yield Case(setup.backend, part, point)


def crash(setup: CrashSetup, mode: str, case: Case) -> str:
    """End a process at a crash point and let another one go on; return what is wrong then."""
    workspace = setup.workspace(case.part, f"{mode}-{case.point}")
    code = setup.play(workspace, case.part, {crashing.VARIABLE: f"{case.point}:{mode}"})
    expected = {"kill": {-9}, "exit": {crashing.EXIT_CODE}, "exception": {0, 1}}[mode]
    reached = [one for one in read_history(workspace.history) if one["event"] == "reached"]
    if len(reached) != 1 or (code not in expected and case.part == "live"):
        return f"exit code {code}, reached {len(reached)} times\n{workspace.errors()}"
    return _aftermath(workspace)


def _aftermath(workspace: Workspace) -> str:
    runtime = workspace.runtime()
    try:
        for job_id, one in workspace.snapshots(runtime).items():
            is_late = one.record.run_at > runtime.clock.now() + 600
            if is_late or one.record.func_name == tasks.FORMER_NAME:  # it was to be cancelled
                runtime.control.cancel(job_id)
        workspace.drain(runtime)
        findings = workspace.findings(runtime)
        wrong = "" if findings.is_valid else f"{findings}"
        return wrong + _wrong_statuses(workspace) + _children(workspace)
    except AssertionError as error:
        return f"{error}"
    finally:
        workspace.assert_sound(runtime)
        workspace.log.close()


def _wrong_statuses(workspace: Workspace) -> str:
    runtime = workspace.runtime()
    snapshots = workspace.snapshots(runtime).values()
    wrong = [
        (one.record.func_name, str(one.status))
        for one in snapshots
        if (one.status is JobStatus.FAILED) != (one.record.func_name == tasks.failing.name)
        or one.status is JobStatus.DEAD
    ]
    runtime.stop()
    return f"wrong statuses {wrong}" if wrong else ""


def _children(workspace: Workspace) -> str:
    """Each job that enqueues another with its success has exactly one child.

    Or none, with two stores: a death after the result was written and before the attempt was
    closed costs the child, as docs/guarantees.md says under 5.
    """
    runtime = workspace.runtime()
    numbers = []
    for one in workspace.snapshots(runtime).values():
        args, _ = runtime.codec.decode_call(one.record.args, one.record.kwargs)
        numbers.append((one.record.func_name, args[0]))
    runtime.stop()
    parents = numbers.count((tasks.parent.name, 20))
    born = numbers.count((tasks.plain.name, 20 + tasks.CHILD_OFFSET))
    is_one_store = workspace.backend in ("sqlite", "file")
    is_right = born == parents if is_one_store else born <= parents
    return "" if is_right else f"{parents} parents have {born} children"


def sweep(setup: CrashSetup, mode: str, figures: Callable[[str], None]) -> None:
    todo = list(cases(setup))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = dict(zip(todo, pool.map(partial(crash, setup, mode), todo), strict=True))
    figures(f"{setup.backend}, {mode}: {len(todo)} points, {sum(map(bool, found.values()))} bad")
    bad = {case.point: text for case, text in found.items() if text}
    assert not bad, "\n".join(f"{point}: {text}" for point, text in bad.items())


def test_r06_a_kill_at_every_crash_point_of_sqlite_loses_nothing(
    setups: Callable[[str], CrashSetup], figures: Callable[[str], None]
) -> None:
    sweep(setups("sqlite"), "kill", figures)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mode", "backend"), SWEEPS)
def test_r06_an_end_at_any_crash_point_loses_nothing(
    setups: Callable[[str], CrashSetup], figures: Callable[[str], None], mode: str, backend: str
) -> None:
    sweep(setups(backend), mode, figures)


def test_r06_every_crash_point_is_passed(setups: Callable[[str], CrashSetup]) -> None:
    passed = set().union(*(one for name in BACKENDS for one in setups(name).passed.values()))
    known = crashing.known_points()
    assert len(known) >= 20
    assert passed == set(known), "points that no run passes, or that the source does not have"


def test_r06_no_two_places_share_the_name_of_a_crash_point() -> None:
    assert {name: places for name, places in crashing.known_points().items() if places[1:]} == {}


def test_f10_a_client_that_died_before_the_answer_enqueues_again_with_the_same_key(
    tmp_path: Path,
) -> None:
    """The commit arrived, the answer did not; with a key the second try finds the first job."""
    workspace = Workspace(tmp_path)
    env = {crashing.VARIABLE: "sqlite.enqueue.after_commit:kill"}
    child = workspace.child("enqueue_unique", env)
    assert child.wait(LIMIT_SECS)
    child.close()
    assert child.process.returncode == -9
    with workspace.open() as runtime:
        (stored,) = workspace.snapshots(runtime)
        again = workspace.child("enqueue_unique", talks=True)
        said = list(again.said())
        again.close()
        assert said == [stored]
        assert set(workspace.snapshots(runtime)) == {stored}
