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


@pytest.mark.parametrize(
    ("code", "text", "boot"),
    [(0, "0A1B\n", "0A1B"), (0, "\n", "boot-"), (1, "0A1B\n", "boot-")],
)
def test_boot_of_macos_is_asked_for(
    unread: pytest.MonkeyPatch, code: int, text: str, boot: str
) -> None:
    asked: list[list[str]] = []

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, text, "")

    unread.setattr(sys, "platform", "darwin")
    unread.setattr(subprocess, "run", answer)
    assert boot_id().startswith(boot)
    assert [["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]] == asked


def test_boot_elsewhere_is_its_time(unread: pytest.MonkeyPatch) -> None:
    unread.setattr(sys, "platform", "win32")
    assert boot_id().startswith("boot-")
