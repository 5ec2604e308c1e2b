"""Records of children at a store, and what the store shows in images of power cuts."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nuvom.core.record import JobStatus
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.faults import Victim
from tests.lab.iofaults import environment
from tests.lab.powercut import Disk, Record, power_cuts, read_record
from tests.reliability.recorded import Queue, open_queue, seen
from tests.reliability.workspace import children

PROGRAM = "tests.reliability.recorded"
LIMIT_SECS = 100
_MEMORY = "/dev/shm"


def in_memory() -> TemporaryDirectory[str]:
    """Return a folder for what no real power cut has to spare: nothing waits for a disk."""
    return TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)


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
        """Look at one image, and keep what is wrong with it: anything that is raised is."""
        self.images += 1
        try:
            missing = look()
        except Exception as error:  # noqa: BLE001  # a damaged file may raise anything
            self.broken.append(f"{where}: {type(error).__name__}: {error}")
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
    """Children's doings at an empty store.

    Attributes:
        folder: Where the store, the record and what the children say are.
    """

    library: Path
    folder: Path
    backend: str
    mode: str = "full"

    @property
    def root(self) -> Path:
        """Of the project."""
        return self.folder / "store"

    def record(self, part: str, count: int = 1, **orders: Any) -> list[Record]:
        """Have ``count`` children play a part of ``recorded.py``; return what was recorded."""
        self.root.mkdir()
        given = {"part": part, "root": str(self.root), "backend": self.backend, "mode": self.mode}
        env = environment(self.library, self.root, self.folder / "record")
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
        return read_record(self.folder / "record")


Check = Callable[[Queue, list[dict[str, Any]]], int]


def look(recording: Recording, records: list[Record], check: Check, seed: int, count: int) -> Found:
    """Make images, open the store in each, and compare it with what was told until then.

    Args:
        check: Returns how many acknowledged steps are missing; raises for what may never be.
    """
    found = Found()
    told: list[dict[str, Any]] = []
    passed = 0
    with in_memory() as images:
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


def check_sequence(records: list[Record]) -> Check:
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


class Nothing(random.Random):
    """Decides that nothing reaches the device that does not have to."""

    def random(self) -> float:
        return 0.0

    def choice(self, seq: Any) -> Any:
        return seq[0]


def after_each(records: list[Record], root: Path, rng: random.Random) -> Iterator[tuple[Disk, int]]:
    """Yield the disk, and the number of records, after each thing that was acknowledged."""
    disk = Disk(root, rng)
    for number, record in enumerate(records):
        disk.apply(record)
        if record.kind == "A" and json.loads(record.text).get("durable"):
            yield disk, number + 1


def check_shared_commits(queue: Queue, told: list[dict[str, Any]]) -> int:
    """Expect every job that was accepted, and the result of each that was settled."""
    there = {one.record.id: one.status for one in queue.page(limit=10_000)}
    gone = [one["accepted"] for one in told if one.get("accepted", "") not in {"", *there}]
    settled = [one["settled"] for one in told if "settled" in one]
    return len(gone) + sum(there.get(one) is not JobStatus.SUCCESS for one in settled)
