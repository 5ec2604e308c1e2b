"""The worker's end of a child: its process, its threads and its pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuvom.core.record import JobRecord
from nuvom.execution import child_process
from nuvom.execution.childhood import PROGRAM, is_child
from nuvom.execution.framing import AskStack, Ready
from nuvom.execution.running import RunningJob
from tests.engine import wait_until
from tests.unit.execution.children import LISTEN, Nest, make_work, nest

posix = pytest.mark.skipif(sys.platform == "win32", reason="it is about signals")

SPEAK = (
    "import os, sys; sys.stdin.buffer.raw.readline(); "
    "os.write(1, bytes.fromhex('0000000791a5') + b'ready'); sys.stdin.buffer.read()"
)


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nest]:
    with nest(monkeypatch) as found:
        yield found
    assert [] == found.crashes


def test_what_a_child_says_is_heard_before_it_is_gone(nursery: Nest) -> None:
    nursery.program(SPEAK)
    child = nursery.child()
    child.talk()
    wait_until(lambda: bool(nursery.heard))
    child.leave()
    wait_until(lambda: bool(nursery.gone))
    assert [Ready()] == nursery.heard
    assert [(child, "exit code 0")] == nursery.gone


def test_child_gets_the_path_before_all_frames(nursery: Nest, tmp_path: Path) -> None:
    nursery.program(
        f"import sys; line = sys.stdin.buffer.raw.readline(); "
        f"open({str(tmp_path / 'got')!r}, 'wb').write(line + sys.stdin.buffer.read())"
    )
    child = nursery.child()
    child.talk()
    child.leave()
    wait_until(lambda: bool(nursery.gone))
    line, _, frames = (tmp_path / "got").read_bytes().partition(b"\n")
    assert [os.fspath(entry) for entry in sys.path] == json.loads(line)
    assert b"hello" in frames


def test_order_is_made_when_its_turn_comes(nursery: Nest) -> None:
    nursery.program(LISTEN)
    child, made = nursery.child(), []

    def order() -> AskStack | None:
        made.append(1)
        return AskStack(1) if len(made) == 1 else None

    child.post(order)
    child.post(order)
    assert [] == made
    child.talk()
    child.leave()
    wait_until(lambda: bool(nursery.gone))
    assert [1, 1] == made


def test_fault_in_an_order_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def order() -> None:
        raise LookupError("a fault of the engine")

    with nest(monkeypatch) as nursery:
        nursery.program(LISTEN)
        child = nursery.child()
        child.post(order)
        child.talk()
        wait_until(lambda: bool(nursery.gone))
        assert ["a fault of the engine"] == [str(error) for error in nursery.crashes]


def test_fault_in_hearing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with nest(monkeypatch) as nursery:
        nursery.program(SPEAK)
        child = nursery.child()
        child._hear = lambda _child, _frame: 1 / 0  # type: ignore[assignment]  # a fault
        child.talk()
        wait_until(lambda: bool(nursery.crashes))
        assert isinstance(nursery.crashes[0], ZeroDivisionError)


def test_orders_to_a_child_that_is_gone_are_dropped(nursery: Nest) -> None:
    nursery.program("raise SystemExit(3)")
    child = nursery.child()
    child._process.wait()
    for _ in range(3):
        child.post(b"x" * 100_000)
    child.talk()
    wait_until(lambda: bool(nursery.gone))
    assert "exit code 3" == nursery.gone[0][1]
    child.kill()
    child.close()  # nobody else's process is told anything


def test_child_that_only_closes_its_pipe_is_ended(nursery: Nest) -> None:
    nursery.program("import os, time; os.close(1); time.sleep(60)")
    nursery.child().talk()
    wait_until(lambda: bool(nursery.gone))
    assert nursery.gone[0][1] != "exit code 0"


@posix
def test_child_that_is_asked_may_tidy_up(nursery: Nest, tmp_path: Path) -> None:
    tidied = tmp_path / "tidied"
    nursery.program(
        "import os, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(tidied)!r}, 'w'), sys.exit(5)))\n"
        "sys.stdin.buffer.raw.readline(); os.write(1, b'up.'); time.sleep(60)"
    )
    child = nursery.child()
    child.post(b"line\n")
    assert child._process.stdin is not None
    assert child._process.stdout is not None
    child._process.stdin.write(b"line\n")
    assert b"up." == child._process.stdout.read(3)
    child.close()
    child.talk()
    wait_until(lambda: bool(nursery.gone))
    assert "exit code 5" == nursery.gone[0][1]
    assert tidied.exists()


def test_new_attempt_knows_nothing_of_the_last_one(nursery: Nest) -> None:
    child = nursery.child()
    child.take(make_work())
    child.has_started, child.stack, child.asked_at = True, "there", 5.0
    child.take(make_work())
    found = vars(child)
    names = ("token", "has_started", "stack", "asked_at")
    assert [2, False, None, None] == [found[name] for name in names]


def test_hooks_that_are_never_called_do_not_pile_up(
    nursery: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "HOOKS_KEPT", 2)
    child, dues = nursery.child(), []
    for number in range(3):
        child.take(make_work())
        dues.append(child.owe_hooks(RunningJob(JobRecord(str(number), "f"), "w", None, 0.0)))
    assert [True, False, False] == [due.are_over.is_set() for due in dues]
    child.hooks_called(1)  # once more is harmless
    assert [2, 3] == list(child.hooks_due)


def test_child_knows_that_it_is_one() -> None:
    assert not is_child()
    program = "from nuvom.execution.childhood import is_child; print(is_child())"
    told = subprocess.run([sys.executable, "-c", program, PROGRAM], capture_output=True, check=True)
    assert b"True" == told.stdout.strip()


def test_missing_interpreter_is_an_error_of_the_system(
    nursery: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", None)
    with pytest.raises(OSError, match=r"No such file|denied"):
        nursery.child()
