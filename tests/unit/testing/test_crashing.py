"""Crash points do nothing unless a fault test arms them, and then end the process as asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from nuvom.host import crashpoint
from tests.lab import crashing

POINT = "worker.claimed"


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    crashpoint.arm(None)


def test_the_variable_alone_does_nothing() -> None:
    code = (
        f"import nuvom.worker; from nuvom.host.crashpoint import crashpoint; crashpoint({POINT!r})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={crashing.VARIABLE: f"{POINT}:exit", "PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert ended.returncode == 0


def test_an_armed_point_is_told_and_raises_at_the_pass_that_was_asked_for() -> None:
    told: list[str] = []
    crashing.arm_from({crashing.VARIABLE: f"{POINT}:exception:2"}, reached=told.append)
    crashpoint.crashpoint("worker.settled")
    crashpoint.crashpoint(POINT)
    assert told == []
    with pytest.raises(crashing.CrashPointReached, match=POINT):
        crashpoint.crashpoint(POINT)
    assert told == [POINT]
    crashpoint.crashpoint(POINT)


@pytest.mark.parametrize(("mode", "code"), [("exit", crashing.EXIT_CODE), ("kill", -9)])
def test_an_armed_point_ends_the_process(mode: str, code: int) -> None:
    program = (
        "from tests.lab.crashing import arm_from\n"
        "from nuvom.host.crashpoint import crashpoint\n"
        f"arm_from({{{crashing.VARIABLE!r}: '{POINT}:{mode}'}})\n"
        f"try: crashpoint({POINT!r})\nfinally: print('cleaned up')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert ended.stdout == b""
    if sys.platform != "win32":
        assert ended.returncode == code


@pytest.mark.parametrize(
    "text", ["nowhere:exit", f"{POINT}", f"{POINT}:pop", f"{POINT}:exit:x", ":", f"{POINT}:exit:-1"]
)
def test_a_point_or_a_mode_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=crashing.VARIABLE):
        crashing.arm_from({crashing.VARIABLE: text})


def test_the_points_of_the_source_are_known_with_their_places() -> None:
    known = crashing.known_points()
    assert known[POINT][0].startswith("nuvom/execution/worker_loop.py:")
    assert "no.such.point" not in known
