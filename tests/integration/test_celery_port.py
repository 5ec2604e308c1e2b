"""The ported Celery project, as a user would run it: discovery, calls, one worker."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cli.shell import call
from tests.engine import LIMIT_SECS

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "celery_port"


def test_ported_project_runs_as_its_page_says(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "port", ignore=shutil.ignore_patterns(".nuvom"))
    found = call("discover", "tasks", cwd=folder)
    assert (0, 32) == (found.code, found.out.count("+ shop."))
    assert "Warning" not in found.err
    program = [sys.executable, "run.py"]
    done = subprocess.run(
        program, cwd=folder, capture_output=True, text=True, timeout=2 * LIMIT_SECS, check=False
    )
    assert 0 == done.returncode, done.stderr
    (page,) = re.findall(r"```text\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert sorted(page.splitlines()) == sorted(done.stdout.splitlines())
    told = (folder / "outbox.txt").read_text().splitlines()
    expected = ["receipt 38378d3a9701 for order 1", "receipt 4244438e2ac7 for order 2"]
    assert expected == sorted(one.partition(": ")[2] for one in told if "receipt" in one)
    assert 5 == sum(one.endswith(": news") for one in told)
    assert 2 == sum("paid by" in one for one in told)


def test_port_differs_from_celery_code_in_its_imports_alone(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE / "shop", tmp_path / "port" / "shop")
    ported = {path.name: path.read_text() for path in folder.glob("*.py")}
    for path in folder.glob("*.py"):
        path.write_text(path.read_text().replace("from nuvom.compat.celery", "from celery"))
    report = call("--json", "migrate-from", "celery", ".", "--write", cwd=folder.parent).json
    assert 32 == report["counts"]["definition"]["maps"]
    levels = [one["level"] for one in report["remarks"] if one["kind"] != "canvas"]
    assert [] == levels
    assert ported == {path.name: path.read_text() for path in folder.glob("*.py")}
