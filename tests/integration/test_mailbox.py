"""The mailbox example: installed like any package of a third party, tested, and worked with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "plugin-mailbox"
TASKS = """
import nuvom

@nuvom.task
def add(x: int, y: int) -> int:
    return x + y
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the package was installed into, from the checkout alone."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"),
            *("--no-build-isolation", "--disable-pip-version-check", "--target", str(folder)),
            str(EXAMPLE),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert 0 == done.returncode, done.stderr
    return folder


def run(site: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "PYTHONPATH": str(site), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_it_is_found_and_keeps_all_laws(project: Path, site: Path) -> None:
    listed = run(site, "nuvom", "--plain", "plugin", "list")
    assert "nuvom_mailbox:MailboxPlugin" in listed.stdout, listed.stderr
    status = run(site, "nuvom", "plugin", "status", "mailbox")
    assert 0 == status.returncode, status.stdout + status.stderr
    by_class = ("nuvom_mailbox:MailboxQueue", "--only", "five_methods")
    for target in (["mailbox"], by_class):
        tested = run(site, "nuvom", "plugin", "test", *target)
        assert 0 == tested.returncode, tested.stdout + tested.stderr
        assert "0 broken" in tested.stdout + tested.stderr


@pytest.mark.slow
def test_its_own_tests_pass(site: Path) -> None:
    done = run(site, "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "tests"))
    assert 0 == done.returncode, done.stdout


def test_jobs_go_through_it_from_end_to_end(project: Path, site: Path) -> None:
    (project / "tasks.py").write_text(TASKS)
    chosen = {"NUVOM_QUEUE_BACKEND": "mailbox"}
    enqueued = run(site, "nuvom", "--plain", "run", "tasks.add", "5", "7", **chosen)
    assert 0 == enqueued.returncode, enqueued.stderr
    assert 1 == len(list((project / ".nuvom" / "mailbox" / "new").iterdir()))
    worked = run(site, "nuvom", "runworker", "--burst", **chosen)
    assert 0 == worked.returncode, worked.stderr
    # It says once what it cannot promise, and who named it.
    assert 1 == worked.stderr.count(
        "at most once: jobs that are running when a worker dies are lost"
    )
    assert re.search("plugin +mailbox .* named by", worked.stderr)
    assert [] == list((project / ".nuvom" / "mailbox" / "new").iterdir())
    job_id = enqueued.stdout.split()[0]
    read = run(site, "nuvom", "--json", "inspect", "job", job_id, **chosen)
    assert 0 == read.returncode, read.stdout + read.stderr
    assert "SUCCESS" in read.stdout
    assert "12" in read.stdout
