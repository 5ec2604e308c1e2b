"""The entry point: which Python, which verb, what is installed when, and what is never removed.

Nothing is installed here from anywhere: pip and venv are replaced where a test gets that far.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from packaging.requirements import Requirement

import dev
from tools import environment, verbs
from tools.environment import Environment, SetupFailed
from tools.run import run, run_side_by_side

ROOT = Path(__file__).resolve().parent.parent
RUNNING = environment.version_of(sys.executable)
PARALLEL = f"--numprocesses={verbs.PROCESSES}"
posix = pytest.mark.skipif(os.name == "nt", reason="signals, locks and shell scripts of POSIX")


# ---- which Python -----------------------------------------------------------------------


def test_old_python_can_read_the_entry_point_and_hands_over_to_a_newer_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    monkeypatch.setattr(dev, "newer_python", lambda: None)
    assert dev.main(["test"]) == 1
    assert "needs Python 3.11 or newer; this is 3.8" in capsys.readouterr().err
    monkeypatch.setattr(dev, "newer_python", lambda: ["py", "-3"])
    handed_over = Mock(return_value=7)
    monkeypatch.setattr(subprocess, "call", handed_over)
    assert dev.main(["test", "-x"]) == 7
    handed_over.assert_called_once_with(["py", "-3", str(ROOT / "dev.py"), "test", "-x"])


@posix
def test_newer_python_is_one_that_starts_and_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(name: str, text: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)

    script("python3.13", "echo 'not installed' >&2; exit 127")
    script("python3", f'exec {sys.executable} "$@"')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dev.newer_python() == [str(tmp_path / "python3")]
    assert dev.newer_python((3, 99)) is None


# ---- verbs ------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["tset"], ["lint", "--fxi"]])
def test_wrong_call_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        dev.main(argv)
    assert (end.value.code, "usage: dev.py" in capsys.readouterr().err) == (2, True)


class Stand:
    """Stands in for an environment: writes down what would run in it."""

    bin = Path("bin")
    python = Path("python")

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.commands: list[str] = []

    def ready(self, *_: object) -> Any:
        return open(os.devnull, encoding="utf-8")  # any context manager

    def variables(self) -> dict[str, str]:
        return {}

    def run(self, *command: object, **_where: object) -> int:
        self.commands.append(" ".join(str(part) for part in command))
        return next((code for key, code in self.codes.items() if key in self.commands[-1]), 0)

    def run_side_by_side(
        self, commands: list[tuple[tuple[object, ...], Path]], *_: object
    ) -> list[tuple[int, str]]:
        return [(self.run(*words[1:]), "") for words, _ in commands]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    place = Stand()
    monkeypatch.setattr(verbs, "_environment", lambda: place)
    monkeypatch.setattr(verbs, "run", place.run)
    monkeypatch.setattr(verbs, "run_side_by_side", place.run_side_by_side)
    return place


@pytest.mark.parametrize(
    ("argv", "commands"),
    [
        (["tests/unit", "-k", "a or b", "-x"], ["-m pytest tests/unit -k a or b -x"]),
        (
            ["--second-python", "2026-11-30"],
            [f"-m pytest --second-python=2026-11-30 {PARALLEL}"],
        ),
        (
            ["--sample", "2026-11-29"],
            [f"-m pytest --sample=2026-11-29 {PARALLEL} --maxschedchunk=1"],
        ),
        (
            ["--slow"],
            [
                f"-m pytest --slow {PARALLEL} --maxschedchunk=1 -m not alone",
                "-m pytest --slow -m alone",
            ],
        ),
    ],
    ids=str,
)
def test_test_runs_what_it_was_asked_for_and_fails_with_it(
    argv: list[str], commands: list[str], stand: Stand
) -> None:
    stand.codes = {"pytest": 5}
    assert dev.main(["test", *argv]) != 0
    assert commands == stand.commands


@pytest.mark.parametrize("failing", ["", "--fail-under", "run -m pytest"])
def test_coverage_of_the_core_and_the_tests_both_decide(
    failing: str, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "ROOT", Path.cwd())
    Path(".coverage-core").write_text("nuvom/errors.py", encoding="utf-8")
    stand.codes = {failing: 2} if failing else {}
    assert bool(failing) == bool(dev.main(["test", "--coverage"]))
    assert "-m coverage report --fail-under=95 --include=nuvom/errors.py" in stand.commands


@pytest.mark.parametrize(
    "failing", ["", "tests.architecture.pages", "tools.reference", "tools.site"]
)
def test_docs_checks_the_pages_and_builds_the_site(failing: str, stand: Stand) -> None:
    stand.codes = {failing: 1} if failing else {}
    assert dev.main(["docs"]) == int(bool(failing))
    assert stand.commands == [
        "-m tests.architecture.pages",
        "-m tools.reference --check",
        "-m tools.site",
    ]


def test_docs_shows_the_site_when_asked(stand: Stand) -> None:
    dev.main(["docs", "--serve"])
    assert stand.commands == ["-m tools.site --serve"]


def test_check_runs_every_check_and_the_tests_and_names_what_fails(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    stand.codes = {"ruff check": 1, "mypy nuvom": 1}
    assert dev.main(["check"]) == 1
    assert "lint failed: ruff, types (" in capsys.readouterr().err
    assert stand.commands[-2:] == [
        "-m pytest -q tests/test_architecture.py",
        f"-m pytest {PARALLEL}",
    ]
    assert not [command for command in stand.commands if "--fix" in command]
    dev.main(["lint", "--fix"])
    assert "-m ruff check --quiet --fix ." in stand.commands


def test_demo_runs_the_tour_and_then_the_example(stand: Stand) -> None:
    assert dev.main(["demo"]) == 0
    tour, example = stand.commands
    assert tour == str(Path("bin") / "nuvom demo")
    assert example.endswith(str(Path("examples") / "checksums" / "run.py"))
    stand.codes = {"nuvom demo": 1}
    assert dev.main(["demo"]) == 1
    assert len(stand.commands) == 3


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "groups"),
    [("runtime", []), ("build", ["build"]), ("test", ["test", "typing"]), ("lint", ["lint"])],
)
def test_pins_fit_what_the_package_asks_for(name: str, groups: list[str]) -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [] if name == "build" else list(package["project"]["dependencies"])
    for group in groups:
        wanted += [line for line in package["dependency-groups"][group] if isinstance(line, str)]
    pinned, most = pins(name), pins("lint")
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[requirement.name]), requirement
    assert [] == [one for one, pin in pinned.items() if most.get(one, pin) != pin]


@posix
def test_the_end_of_a_program_is_handed_on_and_so_is_a_request_to_end() -> None:
    assert run(sys.executable, "-c", "raise SystemExit(3)") == 3
    child = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    program = (
        f"from tools.run import run; import sys; sys.exit(run(sys.executable, '-c', {child!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert ended.returncode == 128 + signal.SIGTERM


# ---- environments -----------------------------------------------------------------------


class Installer(Environment):
    """An environment whose pip only writes down what it was asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / ".venv", root=root)
        self.installed: list[str] = []
        self.fault: Exception | None = None
        self.code = 0

    def run(self, *arguments: str | Path, cwd: Path = ROOT) -> int:
        if self.fault is not None:
            raise self.fault
        self.installed.append(" ".join(str(part) for part in arguments[2:]))
        return self.code

    def prepare(self, *files: str, package: str = "editable") -> list[str]:
        """Return what was installed."""
        self.installed = []
        with self.ready(files, package):
            return self.installed


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    """Return an environment of a checkout of its own that has files to install."""
    root = tmp_path / "checkout"
    (root / "requirements").mkdir(parents=True)
    (root / "nuvom").mkdir()
    for name in ("requirements/a.txt", "requirements/b.txt", "pyproject.toml", "nuvom/x.py"):
        (root / name).write_text(name, encoding="utf-8")

    def venv(*command: object) -> int:
        """Do what ``python -m venv`` does, as far as it is looked at."""
        made = Environment(Path(str(command[3])))
        made.bin.mkdir(parents=True, exist_ok=True)
        made.python.touch()
        (made.folder / "pyvenv.cfg").write_text(f"version = {RUNNING}.0\n", encoding="utf-8")
        return 0

    monkeypatch.setattr(environment, "run", venv)
    return Installer(root)


def test_only_what_is_missing_or_has_changed_is_installed(place: Installer) -> None:
    requirements, package = place.prepare("a.txt")
    assert "--require-hashes" in requirements
    assert "--no-deps --no-build-isolation --editable" in package
    assert place.prepare("a.txt") == []
    (requirements,) = place.prepare("a.txt", "b.txt")
    assert "a.txt" not in requirements
    for name in ("requirements/a.txt", "pyproject.toml"):
        (place.folder.parent / name).write_text("changed", encoding="utf-8")
        assert place.prepare("a.txt")


def test_changed_code_is_installed_again_only_where_it_is_a_copy(place: Installer) -> None:
    code = place.folder.parent / "nuvom" / "x.py"
    place.prepare("a.txt")
    code.write_text("changed", encoding="utf-8")
    assert place.prepare("a.txt") == []
    (copied,) = place.prepare("a.txt", package="installed")
    assert "--force-reinstall" in copied
    code.write_text("changed again", encoding="utf-8")
    assert len(place.prepare("a.txt", package="installed")) == 1


def test_installation_that_failed_goes_on_and_one_cut_short_starts_from_nothing(
    place: Installer,
) -> None:
    place.code = 1
    with pytest.raises(SetupFailed, match="pip could not install"):
        place.prepare("a.txt")
    (place.folder / "half a package").touch()
    place.code = 0
    assert len(place.prepare("a.txt")) == 2
    assert (place.folder / "half a package").exists()
    place.fault = RuntimeError("killed")
    with pytest.raises(RuntimeError):
        place.prepare("a.txt", "b.txt")
    place.fault = None
    assert len(place.prepare("a.txt")) == 2
    assert not (place.folder / "half a package").exists()


@pytest.mark.parametrize("damage", ["stamp", "version"])
def test_damaged_or_old_environment_is_made_anew(place: Installer, damage: str) -> None:
    place.prepare("a.txt")
    if damage == "stamp":
        (place.folder / environment.STAMP).write_text("[]", encoding="utf-8")
    else:
        (place.folder / "pyvenv.cfg").write_text("version_info = 3.4.1\n", encoding="utf-8")
    assert len(place.prepare("a.txt")) == 2
    assert place.version() == RUNNING


def test_folder_that_somebody_else_made_or_that_runs_this_is_never_removed(
    place: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.folder.mkdir()
    (place.folder / "thesis.txt").touch()
    with pytest.raises(SetupFailed, match="no environment of"):
        place.prepare("a.txt")
    (place.folder / "thesis.txt").unlink()
    place.folder.rmdir()
    place.prepare("a.txt")
    (place.folder / environment.STAMP).write_text("", encoding="utf-8")
    monkeypatch.setattr(sys, "prefix", str(place.folder))
    with pytest.raises(SetupFailed, match="runs in it"):
        place.prepare("a.txt")


HOLD = """
import sys
from pathlib import Path
from tools.environment import locked
with locked(Path(sys.argv[1]), alone=sys.argv[2] == "alone"):
    print("held", flush=True)
    sys.stdin.read()
"""


@posix
@pytest.mark.parametrize(("first", "second"), [("shared", "alone"), ("alone", "shared")])
def test_changing_waits_for_those_who_use_and_the_other_way_round(
    tmp_path: Path, first: str, second: str
) -> None:
    def hold(how: str) -> subprocess.Popen[str]:
        """Start a process that holds the lock until its input ends."""
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", HOLD, str(tmp_path / "lock"), how]
        return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    with hold(first) as early:
        assert early.stdout is not None
        assert early.stdout.readline() == "held\n"
        with hold(second) as late:
            assert late.stderr is not None
            assert "waiting for another dev.py" in late.stderr.readline()
            early.communicate("")
            assert late.stdout is not None
            assert late.stdout.readline() == "held\n"
            late.communicate("")


def test_programs_run_side_by_side_and_their_output_comes_in_order() -> None:
    """The first waits for what the second makes: one after the other, they would hang."""
    wait = """
import pathlib, time
while not pathlib.Path("gate").exists():
    time.sleep(0.01)
print("first")
"""
    make = "import pathlib, sys; pathlib.Path('gate').touch(); print('second'); sys.exit(3)"
    commands = [((sys.executable, "-c", code), Path.cwd()) for code in (wait, make)]
    answers = list(run_side_by_side(commands, dict(os.environ), 2))
    assert [(0, "first"), (3, "second")] == [(code, output.strip()) for code, output in answers]
