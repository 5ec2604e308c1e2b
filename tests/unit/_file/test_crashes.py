"""A process that dies, a call that fails and a power cut, at every point of a queue's life."""

from __future__ import annotations

import errno
import os
import sys
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from nuvom import _presence
from nuvom._file import store
from nuvom._file.log import Log
from nuvom.errors import NuvomError, StorageFull
from nuvom.record import JobStatus
from nuvom.testing.builders import make_job, make_settlement
from tests.unit._file import faults
from tests.unit._file.powercut import Recorder
from tests.unit._file.stories import check, live, open_queue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nuvom.queue_backends.file import FileJobQueue

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")

NEVER = 10**9
Done = list[Any]


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Log, "segment_bytes", 600)  # so that a short life has several


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


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_power_cut_leaves_all_that_was_flushed_and_of_the_rest_a_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: str
) -> None:
    monkeypatch.setattr(Log, "segment_bytes", 3000)
    lost = 0
    for seed in range(12):
        folder = tmp_path / str(seed)
        for image, done in images(folder, Random(seed), durability):
            with monkeypatch.context() as patch:
                for module in (store, _presence):  # the machine has started anew
                    patch.setattr(module, "boot_id", lambda: "the next boot")
                missing = missing_from(image, done)
            assert durability == "normal" or not missing
            assert missing == (done[-len(missing) :] if missing else []), "it is no beginning"
            lost += len(missing)
    # The images do tell a queue that flushes from one that does not.
    assert durability == "full" or lost > 0


def images(folder: Path, rng: Random, durability: str) -> list[tuple[Path, Done]]:
    """Use a queue, and return what a power cut might leave at some moments, and what was done."""
    root = folder / "store"
    root.mkdir(parents=True)
    found: list[tuple[Path, Done]] = []
    done: Done = []
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(root)
        recorder.install(patch)

        def maybe_cut() -> None:
            if rng.random() < 0.3:
                image = folder / f"image{len(found)}"
                image.mkdir()
                recorder.image(image, rng)
                found.append((image, list(done)))

        queue = open_queue(root, durability=durability)
        for number in range(9):
            size = rng.randint(0, 900)
            queue.enqueue(make_job("m.f", id=f"one{number}", kwargs={"x": "y" * size}))
            done.append((f"one{number}",))
            maybe_cut()
            if number % 4 == 1:
                ids = tuple(f"many{number}-{index}" for index in range(5))
                queue.enqueue_many([make_job("m.f", id=job_id) for job_id in ids])
                done.append(ids)
                maybe_cut()
            if number % 3 == 2:
                (job,) = queue.claim(1, "w")
                maybe_cut()
                queue.settle([make_settlement(job, value=number)])
                done.append(job.id)
                maybe_cut()
    queue.stop()
    return found


def missing_from(image: Path, done: Done) -> Done:
    queue = open_queue(image)
    queue.start()
    status = {one.record.id: one.status for one in queue.page(limit=1000)}
    missing = []
    for step in done:
        if isinstance(step, str):
            is_there = status.get(step) is JobStatus.SUCCESS
        else:
            present = [job_id in status for job_id in step]
            assert all(present) or not any(present), "half of a batch is there"
            is_there = all(present)
        if not is_there:
            missing.append(step)
    queue.reap()
    queue.enqueue(make_job("m.f", id="fresh"))
    queue.stop()
    other = open_queue(image)
    assert other.get("fresh") is not None
    other.stop()
    return missing
