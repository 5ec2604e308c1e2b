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
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement

import dev
from tools import environment, verbs
from tools.environment import Environment, SetupFailed
from tools.run import run

RUNNING = environment.version_of(sys.executable)
PARALLEL = f"--numprocesses={verbs.PROCESSES}"

if TYPE_CHECKING:
    import argparse

ROOT = Path(__file__).resolve().parent.parent


# ---- which Python -----------------------------------------------------------------------


def test_old_python_can_read_the_entry_point() -> None:
    ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_old_python_is_told_how_to_get_a_newer_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    monkeypatch.setattr(dev, "newer_python", lambda: None)
    assert 1 == dev.main(["test"])
    message = capsys.readouterr().err
    assert "needs Python 3.11 or newer; this is 3.8" in message
    assert "Fix: install one" in message


def test_old_python_hands_over_to_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    monkeypatch.setattr(dev, "newer_python", lambda: ["py", "-3"])

    def call(command: list[str]) -> int:
        calls.append(command)
        return 7

    monkeypatch.setattr(subprocess, "call", call)
    assert 7 == dev.main(["test", "-x"])
    assert [["py", "-3", str(ROOT / "dev.py"), "test", "-x"]] == calls


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="needs shell scripts")
def test_newer_python_is_one_that_starts_and_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path, "python3.13", "echo 'not installed' >&2; exit 127")
    script(tmp_path, "python3", f'exec {sys.executable} "$@"')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [str(tmp_path / "python3")] == dev.newer_python()
    assert dev.newer_python((3, 99)) is None
    script(tmp_path, "python3", "exit 1")
    assert dev.newer_python() is None


# ---- verbs ------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["tset"], ["lint", "--fxi"], ["demo", "x"], ["check", "-k"]])
def test_wrong_call_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        dev.main(argv)
    assert 2 == end.value.code
    assert "usage: dev.py" in capsys.readouterr().err


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        dev.main(["--help"])
    assert 0 == end.value.code
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in ("demo", "test", "lint", "check", "bench", "docs"))


class Stand:
    """Stands in for an environment: writes down what would run in it."""

    bin = Path("bin")

    def __init__(self, codes: dict[str, int] | None = None) -> None:
        self.codes = codes or {}
        self.prepared: list[tuple[list[str], str]] = []
        self.commands: list[str] = []

    def ready(self, files: list[str], package: str) -> Any:
        self.prepared.append((files, package))
        return open(os.devnull, encoding="utf-8")  # any context manager

    def variables(self) -> dict[str, str]:
        return {}

    def run(self, *command: object, **_where: object) -> int:
        self.commands.append(" ".join(str(part) for part in command))
        return next((code for key, code in self.codes.items() if key in self.commands[-1]), 0)


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    place = Stand()
    monkeypatch.setattr(verbs, "_environment", lambda: place)
    monkeypatch.setattr(verbs, "run", place.run)
    return place


def test_test_hands_paths_and_pytest_options_on(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "test_x.py").touch()
    assert 0 == dev.main(["test", "test_x.py::test_a", "-k", "a or b", "--slow", "-x"])
    named = f"{tmp_path / 'test_x.py'}::test_a"
    assert [f"-m pytest {named} -k a or b -x --slow"] == stand.commands
    assert [(["build.txt", "test.txt"], "editable")] == stand.prepared


def test_slow_tier_measures_once_all_else_is_done(stand: Stand) -> None:
    stand.codes = {"-m not alone": 1}
    assert 1 == dev.main(["test", "--slow"])
    assert [
        f"-m pytest --slow {PARALLEL} --maxschedchunk=1 -m not alone",
        "-m pytest --slow -m alone",
    ] == stand.commands


def test_slow_tier_and_coverage_say_how_long_they_take(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    dev.main(["test", "--slow"])
    first, last = capsys.readouterr().err.splitlines()
    assert first == "dev.py: test --slow: about 20 minutes on two quiet cores"
    assert re.fullmatch(r"dev\.py: test --slow: took \d+ min \d+ s", last)
    dev.main(["test"])
    assert "" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "day"), [(["--sample"], verbs._today()), (["--sample", "2026-11-29"], "2026-11-29")]
)
def test_sample_of_the_slow_tier_is_that_of_a_day(
    stand: Stand, options: list[str], day: str
) -> None:
    assert 0 == dev.main(["test", *options])
    assert [f"-m pytest --sample={day} {PARALLEL} --maxschedchunk=1"] == stand.commands


def test_second_python_is_handed_on(stand: Stand) -> None:
    assert 0 == dev.main(["test", "--second-python"])
    assert [f"-m pytest --second-python {PARALLEL}"] == stand.commands


def test_test_leaves_what_is_no_path_as_it_is(stand: Stand) -> None:
    dev.main(["test", "tests/unit", "-k", "x"])
    assert ["-m pytest tests/unit -k x"] == stand.commands


def test_code_of_pytest_is_the_code_of_test(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    stand.codes = {"pytest": 5}
    assert 5 == dev.main(["test"])
    assert "no test was collected" in capsys.readouterr().err


@pytest.mark.parametrize(("codes", "expected"), [({}, 0), ({"--fail-under": 2}, 2)])
def test_coverage_of_the_core_decides(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, codes: dict[str, int], expected: int
) -> None:
    monkeypatch.setattr(verbs, "ROOT", Path.cwd())
    Path(".coverage-core").write_text("nuvom/errors.py", encoding="utf-8")
    stand.codes = codes
    assert expected == dev.main(["test", "--coverage"])
    assert f"-m coverage run -m pytest {PARALLEL}" in stand.commands
    assert "-m coverage report --fail-under=95 --include=nuvom/errors.py" in stand.commands


def test_failing_test_is_not_hidden_by_good_coverage(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "ROOT", Path.cwd())
    Path(".coverage-core").touch()
    stand.codes = {"run -m pytest": 1}
    assert 1 == dev.main(["test", "--coverage"])


def test_lint_runs_every_check_and_names_those_that_fail(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    stand.codes = {"ruff check": 1, "mypy nuvom": 1}
    assert 1 == dev.main(["lint"])
    assert "-m ruff format --check ." in stand.commands
    assert "-m tests.architecture.pages" == stand.commands[-1]
    assert "lint failed: ruff, types (" in capsys.readouterr().err


def test_lint_changes_nothing_unless_asked(stand: Stand) -> None:
    assert 0 == dev.main(["lint"])
    assert not [command for command in stand.commands if "--fix" in command]
    assert 0 == dev.main(["lint", "--fix"])
    assert "-m ruff format ." in stand.commands
    assert "-m ruff check --quiet --fix ." in stand.commands


def test_check_tests_even_if_lint_fails(stand: Stand) -> None:
    stand.codes = {"codespell": 65}
    assert 1 == dev.main(["check"])
    assert f"-m pytest {PARALLEL}" == stand.commands[-1]


def test_demo_runs_the_tour_and_then_the_example_on_an_installed_copy(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == dev.main(["demo"])
    assert [(["build.txt", "runtime.txt"], "installed")] == stand.prepared
    tour, example = stand.commands
    assert tour == str(Path("bin") / "nuvom demo")
    assert example.endswith(str(Path("examples") / "checksums" / "run.py"))
    assert str(Path("bin") / "nuvom") in capsys.readouterr().err.splitlines()[-1]


def test_demo_stops_when_the_tour_fails(stand: Stand) -> None:
    stand.codes = {"nuvom demo": 1}
    assert 1 == dev.main(["demo"])
    assert 1 == len(stand.commands)


def test_comparison_of_two_checkouts_installs_no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Stand()
    monkeypatch.setattr(verbs, "Environment", lambda folder: place)
    assert 0 == verbs.main(["bench", "--against", "v1"])
    assert 0 == verbs.main(["bench", "--quick"])
    assert [False, True] == ["bench.txt" in files for files, _ in place.prepared]
    assert place.commands[0].endswith("run.py --against v1")


def test_docs_fails_when_a_link_is_broken(stand: Stand) -> None:
    stand.codes = {"pages": 1}
    assert 1 == dev.main(["docs"])


def test_failed_set_up_says_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: argparse.Namespace, rest: list[str]) -> int:
        raise SetupFailed("no room", "Make some.")

    monkeypatch.setattr(verbs, "demo", fail)
    fail.__name__ = "demo"
    assert 1 == dev.main(["demo"])
    assert "dev.py: no room\nFix: Make some.\n" == capsys.readouterr().err


def test_environment_variable_names_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ROOT / ".venv" == verbs._environment().folder
    monkeypatch.setenv("NUVOM_VENV", "elsewhere")
    assert tmp_path / "elsewhere" == verbs._environment().folder


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
    pinned = pins(name)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[requirement.name]), requirement


def test_pins_of_all_files_agree() -> None:
    most = pins("lint")
    for name in ("runtime", "build", "test"):
        assert [] == [one for one, pin in pins(name).items() if most.get(one, pin) != pin]


# ---- running ----------------------------------------------------------------------------


def test_exit_code_of_a_program_is_handed_on() -> None:
    assert 3 == run(sys.executable, "-c", "raise SystemExit(3)")


@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes without a signal")
def test_program_ended_by_a_signal_gives_128_and_its_number() -> None:
    text = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert 128 + signal.SIGKILL == run(sys.executable, "-c", text)


@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes without a signal")
def test_request_to_end_is_handed_on_to_the_program() -> None:
    child = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    program = (
        f"from tools.run import run; import sys; sys.exit(run(sys.executable, '-c', {child!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert 128 + signal.SIGTERM == ended.returncode


# ---- environments -----------------------------------------------------------------------


class Installer(Environment):
    """An environment whose pip only writes down what it was asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / ".venv", root=root)
        self.installed: list[str] = []
        self.code = 0

    def run(self, *arguments: str | Path, cwd: Path = ROOT) -> int:
        self.installed.append(" ".join(str(part) for part in arguments[2:]))
        return self.code

    def prepare(self, *files: str, package: str = "editable") -> list[str]:
        """Return what was installed."""
        self.installed = []
        with self.ready(files, package):
            return self.installed


def make(folder: Path) -> None:
    """Do what ``python -m venv`` does, as far as it is looked at."""
    place = Environment(folder)
    place.bin.mkdir(parents=True, exist_ok=True)
    place.python.touch()
    (folder / "pyvenv.cfg").write_text(f"version = {RUNNING}.0\n", encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    """Return an environment of a checkout of its own that has files to install."""
    root = tmp_path / "checkout"
    (root / "requirements").mkdir(parents=True)
    (root / "nuvom").mkdir()
    for name in ("requirements/a.txt", "requirements/b.txt", "pyproject.toml", "nuvom/x.py"):
        (root / name).write_text(name, encoding="utf-8")

    def venv(*command: object) -> int:
        assert [sys.executable, "-m", "venv"] == list(command[:3])
        make(Path(str(command[3])))
        return 0

    monkeypatch.setattr(environment, "run", venv)
    return Installer(root)


def test_first_call_installs_pinned_files_and_the_package(place: Installer) -> None:
    requirements, package = place.prepare("a.txt", "b.txt")
    assert "--require-hashes" in requirements
    assert requirements.endswith("b.txt")
    assert "--no-deps --no-build-isolation --editable" in package


def test_second_call_installs_nothing(place: Installer) -> None:
    place.prepare("a.txt")
    assert [] == place.prepare("a.txt")


def test_environment_of_a_peer_has_no_package(place: Installer) -> None:
    (requirements,) = place.prepare("a.txt", package="")
    assert requirements.endswith("a.txt")
    assert [] == place.prepare("a.txt", package="")


def test_other_verb_installs_only_what_is_missing(place: Installer) -> None:
    place.prepare("a.txt")
    (requirements,) = place.prepare("a.txt", "b.txt")
    assert "a.txt" not in requirements
    assert [] == place.prepare("a.txt")


@pytest.mark.parametrize("name", ["requirements/a.txt", "pyproject.toml"])
def test_changed_file_is_installed_again(place: Installer, name: str) -> None:
    place.prepare("a.txt")
    (place.folder.parent / name).write_text("changed", encoding="utf-8")
    assert place.prepare("a.txt")


def test_changed_code_is_installed_again_only_where_it_is_a_copy(place: Installer) -> None:
    code = place.folder.parent / "nuvom" / "x.py"
    place.prepare("a.txt", package="editable")
    code.write_text("changed", encoding="utf-8")
    assert [] == place.prepare("a.txt", package="editable")
    (copied,) = place.prepare("a.txt", package="installed")
    assert "--force-reinstall" in copied
    assert [] == place.prepare("a.txt", package="installed")
    code.write_text("changed again", encoding="utf-8")
    assert 1 == len(place.prepare("a.txt", package="installed"))


def test_failed_installation_is_tried_again_in_the_same_environment(place: Installer) -> None:
    place.code = 1
    with pytest.raises(SetupFailed, match="pip could not install"):
        place.prepare("a.txt")
    kept = place.folder / "kept"
    kept.touch()
    place.code = 0
    assert 2 == len(place.prepare("a.txt"))
    assert kept.exists()


def test_installation_that_was_cut_short_starts_from_nothing(
    place: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Installer, *arguments: object, cwd: Path = ROOT) -> int:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(Installer, "run", killed)
        with pytest.raises(RuntimeError):
            place.prepare("a.txt")
    left = place.folder / "half a package"
    left.touch()
    assert 2 == len(place.prepare("a.txt"))
    assert not left.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_damaged_stamp_makes_the_environment_anew(place: Installer, text: str) -> None:
    place.prepare("a.txt")
    (place.folder / environment.STAMP).write_text(text, encoding="utf-8")
    assert 2 == len(place.prepare("a.txt"))


def test_environment_of_another_python_is_made_anew(place: Installer) -> None:
    place.prepare("a.txt")
    (place.folder / "pyvenv.cfg").write_text("version_info = 3.4.1.final.0\n", encoding="utf-8")
    assert "3.4" == place.version()
    assert 2 == len(place.prepare("a.txt"))
    assert RUNNING == place.version()


def test_folder_that_somebody_else_made_is_never_removed(place: Installer) -> None:
    place.folder.mkdir()
    (place.folder / "thesis.txt").touch()
    with pytest.raises(SetupFailed, match="no environment of"):
        place.prepare("a.txt")
    assert (place.folder / "thesis.txt").exists()


def test_environment_that_somebody_else_made_for_this_python_is_used(place: Installer) -> None:
    make(place.folder)
    assert 2 == len(place.prepare("a.txt"))
    assert [] == place.prepare("a.txt")
    (place.folder / "pyvenv.cfg").write_text("version = 3.4.1\n", encoding="utf-8")
    with pytest.raises(SetupFailed, match="no environment of"):
        place.prepare("a.txt")


def test_environment_that_runs_this_program_is_not_pulled_from_under_it(
    place: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.prepare("a.txt")
    (place.folder / environment.STAMP).write_text("", encoding="utf-8")
    monkeypatch.setattr(sys, "prefix", str(place.folder))
    with pytest.raises(SetupFailed, match="runs in it"):
        place.prepare("a.txt")


@pytest.mark.skipif(os.name == "nt", reason="needs a shell script")
def test_python_without_venv_names_the_package_to_install(place: Installer, tmp_path: Path) -> None:
    script(tmp_path, "python", "echo 3.99")  # whatever it is asked
    place.base = str(tmp_path / "python")
    with pytest.raises(SetupFailed, match="has no venv") as failure:
        place.prepare("a.txt")
    assert "sudo apt install python3.99-venv" in failure.value.fix


def test_failure_of_venv_is_reported(place: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "run", lambda *command: 1)
    with pytest.raises(SetupFailed, match="could not be created"):
        place.prepare("a.txt")


def test_programs_find_the_environment_first(place: Installer) -> None:
    variables = place.variables()
    assert variables["PATH"].startswith(f"{place.bin}{os.pathsep}")
    assert str(place.folder) == variables["VIRTUAL_ENV"]
    assert "PYTHONHOME" not in variables


HOLD = """
import sys
from pathlib import Path
from tools.environment import locked
with locked(Path(sys.argv[1]), alone=sys.argv[2] == "alone"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(path: Path, how: str) -> subprocess.Popen[str]:
    """Start a process that holds the lock until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), how],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no shared form of the lock")
@pytest.mark.parametrize(("first", "second"), [("shared", "alone"), ("alone", "shared")])
def test_changing_waits_for_those_who_use_and_the_other_way_round(
    tmp_path: Path, first: str, second: str
) -> None:
    path = tmp_path / "lock"
    with hold(path, first) as early, hold_after(early, path, second) as late:
        assert late.stderr is not None
        assert "waiting for another dev.py" in late.stderr.readline()
        early.communicate("")
        assert late.stdout is not None
        assert "held\n" == late.stdout.readline()
        late.communicate("")


def test_many_may_use_an_environment_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path, "shared") as early, hold_after(early, path, "shared") as late:
        assert late.stdout is not None
        assert "held\n" == late.stdout.readline()
        late.communicate("")
        early.communicate("")


def hold_after(early: subprocess.Popen[str], path: Path, how: str) -> subprocess.Popen[str]:
    assert early.stdout is not None
    assert "held\n" == early.stdout.readline()
    return hold(path, how)
