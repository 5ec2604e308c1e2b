"""R07, R08: a power cut at any moment. What was acknowledged is there; the rest is there or not,
in the order in which it was done, and never by half."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from nuvom import _presence
from nuvom._file import store as file_store
from nuvom._sqlite import store as sqlite_store
from nuvom.errors import NuvomError
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.record import JobStatus
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.faults import Victim
from nuvom.testing.iofaults import environment
from nuvom.testing.powercut import Record, power_cuts, read_record
from tests.reliability.recorded import Queue, open_queue, seen
from tests.reliability.site import children

PROGRAM = "tests.reliability.recorded"
LIMIT_SECS = 100
MEMORY = "/dev/shm"  # images are made and read there: nobody cuts the power once more


@dataclass
class Found:
    """What the images of one record showed.

    Attributes:
        images: How many were looked at.
        broken: Those that could not be read, were not sound, or mixed what belongs apart.
        lost: Those in which something acknowledged was missing.
        behind: Steps that were missing, at most.
    """

    images: int = 0
    broken: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    behind: int = 0

    def note(self, where: str, look: Callable[[], int]) -> None:
        """Look at one image, and keep what is wrong with it."""
        self.images += 1
        try:
            missing = look()
        except (AssertionError, NuvomError, sqlite3.Error) as error:
            self.broken.append(f"{where}: {error}")
            return
        self.behind = max(self.behind, missing)
        if missing:
            self.lost.append(f"{where}: {missing} steps")

    def add(self, other: Found) -> None:
        self.images += other.images
        self.broken += other.broken
        self.lost += other.lost
        self.behind = max(self.behind, other.behind)

    def __str__(self) -> str:
        return (
            f"{self.images} images, {len(self.broken)} broken or mixed, {len(self.lost)} without "
            f"something acknowledged (at most {self.behind} steps)"
        )


@dataclass
class Recording:
    """A child's doings at an empty store, and what of them is expected at each moment."""

    library: Path
    folder: Path
    backend: str
    mode: str = "full"

    def __post_init__(self) -> None:
        self.root = self.folder / "store"
        self.root.mkdir(parents=True)
        self.log = self.folder / "record"

    def record(self, part: str, count: int = 1, **orders: Any) -> list[Record]:
        """Have ``count`` children play a part; return what was recorded."""
        given = {"part": part, "root": str(self.root), "backend": self.backend, "mode": self.mode}
        env = environment(self.library, self.root, self.log)
        victims = [
            Victim(
                PROGRAM, {**given, "worker": f"w{number}", **orders}, folder=self.folder, env=env
            )
            for number in range(count)
        ]
        children.extend(victims)
        for victim in victims:
            assert victim.wait(LIMIT_SECS)
            assert victim.process.returncode == 0, (self.folder / "children.log").read_text()
        return read_record(self.log)


@pytest.fixture
def next_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has started anew since the store was used."""
    for module in (sqlite_store, file_store, _presence):
        monkeypatch.setattr(module, "boot_id", lambda: "the next boot")


@pytest.fixture
def recording(iofaults: Path, tmp_path: Path, next_boot: None) -> Callable[..., Recording]:
    numbers = iter(range(1000))

    def make(backend: str, mode: str = "full") -> Recording:
        return Recording(iofaults, tmp_path / f"recording{next(numbers)}", backend, mode)

    return make


Check = Callable[[Queue, list[dict[str, Any]]], int]


def look(recording: Recording, records: list[Record], check: Check, seed: int, count: int) -> Found:
    """Make images, open the store in each, and compare it with what was told until then.

    Args:
        check: Returns how many acknowledged steps are missing; raises for what may never be.
    """
    found = Found()
    told: list[dict[str, Any]] = []
    passed = 0
    with TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as images:
        for moment, disk in power_cuts(records, recording.root, random.Random(seed), count=count):
            told += [json.loads(one.text) for one in records[passed:moment] if one.kind == "A"]
            passed = moment
            folder = Path(images) / str(found.images)
            folder.mkdir()
            disk.image(folder)
            found.note(
                f"seed {seed}, after {moment} records",
                partial(missing_in, folder, recording.backend, check, told),
            )
            shutil.rmtree(folder)
    return found


def missing_in(folder: Path, backend: str, check: Check, told: list[dict[str, Any]]) -> int:
    """Open a store after a power cut, check it, and see that it goes on."""
    queue = open_queue(backend, folder)
    try:
        missing = check(queue, told)
        queue.reap()
        queue.enqueue(make_job("m.f", queue="fresh"))
        (claimed,) = queue.claim(1, "fresh", ["fresh"])
        assert queue.settle([make_settlement(claimed)]) == [True]
        if isinstance(queue, SQLiteJobQueue):
            assert queue.store.db.read("PRAGMA integrity_check") == [("ok",)]
    finally:
        queue.stop()
    return missing


def follow_story(records: list[Record]) -> Check:
    """Expect a store as it was after some step, and count those that are missing of it."""
    whole = [json.loads(one.text) for one in records if one.kind == "A"]
    states = ["[[], []]", *(one["state"] for one in whole if "ended" in one)]

    def check(queue: Queue, told: list[dict[str, Any]]) -> int:
        begun = sum("begins" in one for one in told)
        durable = max((one["ended"] for one in told if one.get("durable")), default=0)
        now = seen(queue)
        matching = [number for number in range(begun + 1) if states[number] == now]
        assert matching, "it is as it never was"
        return max(0, durable - matching[-1])

    return check


def follow_crowd(queue: Queue, told: list[dict[str, Any]]) -> int:
    """Expect every job that was accepted, and the result of each that was settled."""
    there = {one.record.id: one.status for one in queue.page(limit=10_000)}
    gone = [one["accepted"] for one in told if one.get("accepted", "") not in {"", *there}]
    settled = [one["settled"] for one in told if "settled" in one]
    return len(gone) + sum(there.get(one) is not JobStatus.SUCCESS for one in settled)


def stories(make: Callable[..., Recording], mode: str, seeds: range, images: int) -> Found:
    """Tell a story for each seed; return what ``images`` of all of them showed together."""
    total = Found()
    for seed in seeds:
        one = make(mode)
        records = one.record("tell", seed=seed, steps=60)
        total.add(look(one, records, follow_story(records), seed, images // len(seeds)))
    return total


def prove(
    make: Callable[..., Recording], figures: Callable[[str], None], seeds: range, images: int
) -> None:
    """Cut the power ``images`` times: half of them with each durability."""
    full = stories(make, "full", seeds, images // 2)
    normal = stories(make, "normal", seeds, images // 2)
    figures(f"full, seed {seeds[0]}: {full}")
    figures(f"normal, seed {seeds[0]}: {normal}")
    assert not full.broken
    assert not full.lost
    assert not normal.broken


def prove_crowd(
    make: Callable[..., Recording], figures: Callable[[str], None], seed: int, images: int
) -> None:
    """Cut the power of two processes whose threads share commits."""
    one = make("full")
    found = look(one, one.record("crowd", 2, seed=seed, steps=15), follow_crowd, seed, images)
    figures(f"two processes, seed {seed}: {found}")
    assert not found.broken
    assert not found.lost


def prove_it_tells(
    make: Callable[..., Recording], figures: Callable[[str], None], seed: int, breaks: str
) -> None:
    """See that a store whose flushes were removed is found out."""
    one = make("full")
    records = one.record("tell", seed=seed, steps=40, breaks=breaks)
    found = look(one, records, follow_story(records), seed, 40)
    figures(f"without flushes of the {breaks}, seed {seed}: {found}")
    assert found.broken or found.lost


# ---- SQLite -----------------------------------------------------------------------------


@pytest.fixture
def sqlite(recording: Callable[..., Recording]) -> Callable[..., Recording]:
    return partial(recording, "sqlite")


def test_r07_a_power_cut_leaves_sqlite_all_that_was_acknowledged(
    sqlite: Callable[..., Recording], seed: int, figures: Callable[[str], None]
) -> None:
    prove(sqlite, figures, range(seed, seed + 1), images=200)


def test_r07_a_power_cut_leaves_sqlite_what_threads_of_two_processes_committed_together(
    sqlite: Callable[..., Recording], seed: int, figures: Callable[[str], None]
) -> None:
    prove_crowd(sqlite, figures, seed, images=40)


@pytest.mark.parametrize("breaks", ["data", "names"])
def test_r07_a_power_cut_finds_out_sqlite_without_flushes(
    sqlite: Callable[..., Recording], seed: int, figures: Callable[[str], None], breaks: str
) -> None:
    prove_it_tells(sqlite, figures, seed, breaks)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_r07_thousands_of_power_cuts_leave_sqlite_all_that_was_acknowledged(
    sqlite: Callable[..., Recording], seed: int, figures: Callable[[str], None]
) -> None:
    prove(sqlite, figures, range(seed, seed + 20), images=4000)
    for number in range(5):
        prove_crowd(sqlite, figures, seed + number, images=200)


# ---- file -------------------------------------------------------------------------------


@pytest.fixture
def file(recording: Callable[..., Recording]) -> Callable[..., Recording]:
    return partial(recording, "file")


def test_r08_a_power_cut_leaves_the_file_queue_all_that_was_acknowledged(
    file: Callable[..., Recording], seed: int, figures: Callable[[str], None]
) -> None:
    prove(file, figures, range(seed, seed + 1), images=100)


@pytest.mark.parametrize("breaks", ["data", "names"])
def test_r08_a_power_cut_finds_out_a_file_queue_without_flushes(
    file: Callable[..., Recording], seed: int, figures: Callable[[str], None], breaks: str
) -> None:
    prove_it_tells(file, figures, seed, breaks)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_r08_thousands_of_power_cuts_leave_the_file_queue_all_that_was_acknowledged(
    file: Callable[..., Recording], seed: int, figures: Callable[[str], None]
) -> None:
    prove(file, figures, range(seed, seed + 20), images=4000)
    for number in range(5):
        prove_crowd(file, figures, seed + number, images=200)
