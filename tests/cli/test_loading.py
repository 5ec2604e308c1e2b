"""What help loads, what reading commands touch, and that no project's code runs unasked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nuvom.cli.cli import COMMANDS
from tests.cli.shell import ROOT, invoke, python
from tests.cli.test_frame import ALL

HEAVY = {
    "asyncio",
    "concurrent",
    "importlib.metadata",
    "multiprocessing",
    "rich",
    "sqlite3",
    "nuvom.worker",
    "nuvom.queue_backends.sqlite",
    "nuvom.queue_backends.memory",
    "nuvom.queue_backends.file",
}
PROGRAM = """
import json, os
out, calls = sys.stdout, {calls!r}
sys.stdout = open(os.devnull, "w")
for args in calls:
    before = set(sys.modules)
    from nuvom.cli.cli import main
    try:
        main(args)
    except SystemExit as end:
        assert (end.code or 0) in {codes!r}, (args, end.code)
    print(json.dumps([" ".join(args), sorted(set(sys.modules) - before)]), file=out)
"""


def loaded(
    calls: list[tuple[str, ...]], cwd: Path, codes: tuple[int, ...] = (0,)
) -> dict[str, set[str]]:
    """Make calls one after the other in one fresh process; return what each loads anew."""
    answer = python(PROGRAM.format(calls=[list(args) for args in calls], codes=codes), cwd=cwd)
    assert answer.code == 0, answer.err
    return {args: set(names) for args, names in map(json.loads, answer.out.splitlines())}


def test_help_and_the_like_load_nothing_heavy_and_make_no_file(tmp_path: Path) -> None:
    calls = [("--help",), ("version",), ("completion", "bash"), ("completion", "powershell")]
    calls += [(*path, "--help") for path in ALL if path[0] in COMMANDS]
    heavy = {args: HEAVY & names for args, names in loaded(calls, tmp_path).items()}
    assert {args: set() for args in heavy} == heavy
    assert len(calls) == len(heavy)
    assert [] == list(tmp_path.iterdir())


READING = [
    ("list", "tasks"),
    ("history", "recent"),
    ("status",),
    ("status", "01234567"),
    ("schedule", "list"),
    ("schedule", "next"),
    ("schedule", "show", "yearly"),
    ("inspect", "job", "01234567"),
    ("queues", "list"),
    ("schedule", "diff"),
    ("workers", "list"),
    ("errors", "list"),
    ("top", "--once"),
    ("errors", "show", "abc"),
    ("plugin", "list"),
    ("config", "show"),
    ("config", "check"),
    ("config", "explain", "threads"),
    ("doctor",),
    ("doctor", "--pending"),
    ("discover", "tasks", "--check"),
]


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_reading_makes_no_file(args: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "nuvom.toml").write_text("")
    (tmp_path / "tasks.py").write_text("from nuvom import task\n@task\ndef add(x): ...\n")
    before = sorted(tmp_path.rglob("*"))
    assert invoke(*args).code in (0, 3, 7)
    assert before == sorted(tmp_path.rglob("*"))


OF_A_PROJECT = [one for one in READING if one[0] not in {"discover", "plugin"}]


@pytest.mark.parametrize("args", OF_A_PROJECT, ids=" ".join)
def test_reading_outside_a_project_says_so(args: tuple[str, ...], tmp_path: Path) -> None:
    answer = invoke(*args)
    assert answer.code == 4
    assert "There is no Nuvom project here or above" in answer.err
    assert [] == list(tmp_path.iterdir())


# ---- a hostile checkout -----------------------------------------------------------------

MARKER = "import pathlib; pathlib.Path({path!r}).touch()\n"
HOSTILE = (
    "nuvom.py",
    "msgspec.py",
    "click.py",
    "rich.py",
    "sitecustomize.py",
    "usercustomize.py",
    "conftest.py",
    "typing.py",
    "tasks.py",
    "plug.py",
)
WRITING = [("run", "tasks.add", "1", "2"), ("queues", "pause", "default"), ("prune", "--yes")]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Make a project of which every Python file leaves a mark when it is run."""
    checkout, mark = tmp_path / "checkout", str(tmp_path / "executed")
    checkout.mkdir()
    for name in HOSTILE:
        (checkout / name).write_text(MARKER.format(path=mark))
    with open(checkout / "tasks.py", "a", encoding="utf-8") as stream:
        stream.write("from nuvom import task\n@task\ndef add(x, y): ...\n")
    (checkout / ".nuvom_plugins.toml").write_text('[plugins]\nmonitoring = ["plug:Plug"]\n')
    (checkout / ".nuvom_plugins.toml").chmod(0o600)
    (checkout / ".env").write_text(f"PYTHONSTARTUP=plug.py\nLD_PRELOAD=x\nA=$(touch {mark})\n")
    (checkout / "nuvom.toml").write_text("")
    return checkout


def test_a_hostile_checkout_is_read_and_never_run(hostile: Path) -> None:
    loaded([*READING, *WRITING], hostile, codes=(0, 3, 7))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "nuvom", "run", "tasks.add", "1", "2"],
        cwd=hostile,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0
    assert not (hostile.parent / "executed").exists()


def test_the_module_takes_the_working_directory_off_the_path(tmp_path: Path) -> None:
    program = "import nuvom.__main__, json; print(json.dumps(sys.path))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, ''); {program}"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert json.loads(done.stdout).count("") == 1  # two before: that of -c, and ours
