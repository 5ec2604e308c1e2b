"""Nuvom as Django's task backend: the conformance kit, and Django's own tests of its tasks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.django_kit.suite import NOT_APPLICABLE

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12")

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / ".django").glob("django-*"))
KIT = "tests.integration.django_kit"
LEFT_OUT = {"Nuvom": 1, "Immediate": 17, "Dummy": 33}  # what each backend does not support
CASES = 50


def run(*args: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in the working directory with this checkout, and perhaps another Django."""
    path = os.pathsep.join([*([] if folder is None else [str(folder)]), str(ROOT)])
    command = [sys.executable, "-W", "error::DeprecationWarning:nuvom", *args]
    environ = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


versions = pytest.mark.parametrize(
    "django", [None, *SOURCES], ids=lambda one: one.name if one else "installed"
)


@pytest.mark.parametrize("backend", LEFT_OUT)
@versions
def test_the_backend_passes_the_conformance_kit(backend: str, django: Path | None) -> None:
    label = f"{KIT}.backends.{backend}"
    done = run("-m", "django", "test", "--settings", f"{KIT}.settings", label, folder=django)
    assert done.returncode == 0, done.stderr
    assert f"Ran {CASES} tests" in done.stderr, done.stderr
    skipped = re.search(r"^OK \(skipped=(\d+)\)$", done.stderr, re.MULTILINE)
    assert skipped, done.stderr
    assert int(skipped[1]) == LEFT_OUT[backend]


@pytest.mark.parametrize("own", ["Options", "Coroutines"])
@versions
def test_what_is_nuvoms_own_passes(own: str, django: Path | None) -> None:
    label = f"{KIT}.backends.{own}"
    done = run("-m", "django", "test", "--settings", f"{KIT}.settings", label, folder=django)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", ["6.0", "6.1"])
def test_django_passes_its_own_tests_with_nuvom(version: str) -> None:
    sources = next((one for one in SOURCES if one.name.startswith(f"django-{version}.")), None)
    if sources is None:
        pytest.skip(
            f"NOT PROVED HERE: the source of Django {version} is not there; "
            "python -m tools.django_sources fetches it"
        )
    done = run("-m", f"{KIT}.suite", str(sources))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["failed"], found["passed_although_listed"]) == ([], []), done.stderr
    assert found["not_applicable"] == sorted(NOT_APPLICABLE)
    assert found["passed"] >= {"6.0": 70, "6.1": 79}[version]
