"""Time, the one source of it."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

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


def test_boot_time_serves_where_the_system_hides_the_boot(unread: pytest.MonkeyPatch) -> None:
    def hidden(*_: object, **__: object) -> Any:
        raise FileNotFoundError

    unread.setattr(sys, "platform", "linux")
    unread.setattr(builtins, "open", hidden)
    assert boot_id().startswith("boot-1")
