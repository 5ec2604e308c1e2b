"""A process that dies, a call that fails and a power cut, at every point of a queue's life."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.errors import NuvomError, StorageFull
from nuvom.queue_backends.file_log import Log
from nuvom.testing.builders import make_job
from tests.unit.queue_backends import faults
from tests.unit.queue_backends.stories import check, live, open_queue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nuvom.queue_backends.file import FileJobQueue

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")

NEVER = 10**9
Done = list[Any]


@pytest.fixture(autouse=True)
def little_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Log, "spare_bytes", 600)  # so that the log of a short life is rewritten


def die_at(root: Path, number: int, fault: Callable[..., Any]) -> list[str]:
    """Live in a child that dies at a call; return what it had done until then."""
    root.mkdir()
    said = os.open(root / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    say = os.write
    with faults.in_child() as is_child:
        if is_child:
            fault_at = faults.Faults(number, fault)
            fault_at.install(pytest.MonkeyPatch())
            live(open_queue(root, durability="normal"), lambda step: _say(say, said, step))
            _say(say, said, f"calls {fault_at.count}")
    os.close(said)
    return (root / "said").read_text().splitlines()


def _say(write: Callable[[int, bytes], int], file: int, text: str) -> None:
    write(file, f"{text}\n".encode())


@pytest.mark.parametrize("fault", [faults.die_before, faults.die_within])
def test_a_death_at_any_call_loses_nothing_accepted_and_leaves_nothing_by_half(
    tmp_path: Path, fault: Callable[..., Any]
) -> None:
    calls = int(die_at(tmp_path / "all", NEVER, fault)[-1].removeprefix("calls "))
    assert calls > 30
    for number in range(calls):
        root = tmp_path / str(number)
        done = die_at(root, number, fault)
        assert len(done) < 17, "it did not die"
        queue = open_queue(root)
        check(queue, done)
        queue.reap()
        queue.enqueue(make_job("shop.send", id="fresh"))
        assert "fresh" in [job.id for job in queue.claim(100, "w2")]
        queue.stop()


class Stubborn:
    """A queue whose every call is made once more when it failed."""

    def __init__(self, queue: FileJobQueue) -> None:
        self.queue = queue
        self.errors: list[NuvomError] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.queue, name)

        def call(*args: Any, **options: Any) -> Any:
            try:
                return method(*args, **options)
            except NuvomError as error:
                self.errors.append(error)
                return method(*args, **options)

        return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_call_that_fails_raises_one_error_of_ours_and_works_when_made_again(
    tmp_path: Path, code: int
) -> None:
    kinds: set[tuple[str, type[NuvomError]]] = set()
    number = 0
    while True:
        root = tmp_path / str(number)
        root.mkdir()
        done: list[str] = []
        queue = Stubborn(open_queue(root))
        with pytest.MonkeyPatch.context() as patch:
            fault = faults.Faults(number, faults.fail(code))
            fault.install(patch)
            live(queue, done.append)  # type: ignore[arg-type]  # it answers like a queue
        check(queue.queue, done)
        queue.queue.stop()
        other = open_queue(root)
        check(other, done)
        other.stop()
        if not fault.reached:
            break
        kinds.update((fault.reached, type(error)) for error in queue.errors)
        number += 1
    assert number > 40
    if code == errno.ENOSPC:
        assert ("write", StorageFull) in kinds
