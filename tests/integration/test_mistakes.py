"""What the pytest plugin finds in a project: the eight mistakes of ``tests/lab/shop``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHOP = Path(__file__).resolve().parent.parent / "lab" / "shop"
FOUND = {
    "test_wrong_arguments": "shop.tasks.send_receipt: missing a required argument: 'to'",
    "test_argument_that_cannot_be_stored": "cannot be stored",
    "test_forgotten_delay": "called directly once",
    "test_wrong_queue": 'the queue is "default", not "mail"',
    "test_job_left_behind": "leaves jobs behind (nuvom_strict):\n  shop.tasks.charge(7)",
    "test_rolled_back_unit_of_work": "1 job of shop.tasks.charge enqueued, expected none",
    "test_endless_retry": "10,000 attempts ran, the last of shop.await_payment",
    "test_without_a_fixture": "EnqueueInTest: A test would use the store of the project",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    shutil.copytree(SHOP, project / "shop", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "shop" / "pytest.ini").rename(project / "pytest.ini")
    (project / "nuvom.toml").write_text('environment = "test"  # of a file: the guard stays\n')
    return project


def check(shop: Path, module: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *options],
        cwd=shop,
        env=os.environ | {"SHOP": module, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_each_mistake_fails_its_test_and_nothing_reaches_the_store(shop: Path) -> None:
    printed = check(shop, "mistaken")
    reports = dict(re.findall(r"(?ms)^_+ (test_\w+) _+\n(.*?)(?=^_+ test_|^=+)", printed))
    assert FOUND.keys() == reports.keys(), printed
    for test, reason in FOUND.items():
        assert reason in re.sub(r"(?m)^E +", "", reports[test])
    assert ["nuvom.toml", "pytest.ini", "shop"] == sorted(os.listdir(shop))


@pytest.mark.parametrize("processes", ["0", "2"])
def test_no_test_fails_once_the_mistakes_are_corrected(shop: Path, processes: str) -> None:
    printed = check(shop, "corrected", "-n", processes, "-o", "usefixtures=nuvom_inline")
    assert f"{len(FOUND)} passed" in printed
    assert ["nuvom.toml", "pytest.ini", "shop"] == sorted(os.listdir(shop))
