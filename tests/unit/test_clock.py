"""Time, the one source of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nuvom.core import clock as clock_module
from nuvom.core.clock import boot_id


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(clock_module, "_boot_id", None)
    return monkeypatch


def test_boot_is_the_same_for_all_processes(unread: pytest.MonkeyPatch) -> None:
    program = "from nuvom.core.clock import boot_id; print(boot_id())"
    others = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    }
    assert {boot_id()} == others
    assert boot_id() == boot_id()
