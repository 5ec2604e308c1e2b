"""R21, F16: stored bytes are flipped, cut or overwritten. What is damaged is kept and named,
what is not goes on, and nothing is taken for something else."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobStatus
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.file_log import HEADER_BYTES, place, scan
from nuvom.queue_backends.rows import Added
from nuvom.testing.builders import make_job, make_settlement

JOBS = 24
BLOCK = 64


class Damage(NamedTuple):
    """What a trial did to the log, and the ids of the jobs whose entries it touched."""

    what: str
    touched: set[str]


def template(root: Path) -> dict[str, tuple[int, int]]:
    """Make a store with waiting jobs; return where in its log each one's entry stands."""
    queue = FileJobQueue(Settings(root=root, durability="normal"))
    for number in range(JOBS // 2):
        queue.enqueue(make_job("tests.one", number))
    queue.enqueue_many(make_job("tests.many", number) for number in range(JOBS // 2))
    for number in range(2):  # a damaged batch at the very end counts as half written
        queue.enqueue(make_job("tests.last", number))
    queue.stop()
    found = scan(log_of(root).read_bytes(), place(1, 0))
    return {
        msgspec.msgpack.decode(body, type=Added).records[0].id: (
            stands - place(1, 0),
            HEADER_BYTES + len(body),
        )
        for _, stands, body in found.entries[1:]  # the first tells of the boot
    }


def log_of(root: Path) -> Path:
    (path,) = (root / ".nuvom" / "files" / "log").glob("*.log")
    return path


def damage(path: Path, entries: dict[str, tuple[int, int]], rng: random.Random) -> Damage:
    data = bytearray(path.read_bytes())
    at = rng.randrange(min(start for start, _ in entries.values()), len(data))
    what = rng.choice(("flip", "zero", "noise", "cut"))
    size = 1 if what == "flip" else BLOCK
    if what == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif what == "cut":
        size = len(data) - at
        del data[at:]
    else:
        new = bytes(BLOCK) if what == "zero" else rng.randbytes(BLOCK)
        data[at : at + BLOCK] = new[: len(data) - at]
    path.write_bytes(data)
    hit = {job for job, (start, long) in entries.items() if start < at + size and at < start + long}
    return Damage(f"{what} at {at}", hit)


def work_off(root: Path) -> set[str]:
    """Do all jobs that the store still has; return their ids."""
    queue = FileJobQueue(Settings(root=root, durability="normal"))
    try:
        done: set[str] = set()
        while claimed := queue.claim(8, "worker"):
            accepted = queue.settle([make_settlement(one, value=one.id) for one in claimed])
            assert all(accepted)
            done |= {one.id for one in claimed}
        assert queue.qsize() == 0
        assert {one.status for one in queue.page(limit=1000)} <= {JobStatus.SUCCESS}
        return done
    finally:
        queue.stop()


def prove(root: Path, figures: Callable[[str], None], seed: int, trials: int) -> None:
    rng = random.Random(seed)
    (root / "template").mkdir()
    entries = template(root / "template")
    lost = neighbours = kept = 0
    logging.getLogger("nuvom.files").setLevel(logging.ERROR)  # each damage is a warning
    try:
        for number in range(trials):
            trial = root / f"trial-{number}"
            shutil.copytree(root / "template", trial)
            before = log_of(trial).read_bytes()
            done = damage(log_of(trial), entries, rng)
            survivors = work_off(trial)
            missing = entries.keys() - survivors
            # A batch that is cut in the middle counts as half written: all of it goes.
            if not done.what.startswith("cut"):
                assert missing <= done.touched, (done, missing)
            assert survivors <= entries.keys(), done
            quarantined = list((trial / ".nuvom" / "files" / "quarantine").glob("*.reason"))
            if missing and not done.what.startswith("cut"):
                assert quarantined, (done, len(before))
            lost, kept = lost + len(missing), kept + len(quarantined)
            neighbours += len(survivors)
            shutil.rmtree(trial)
    finally:
        logging.getLogger("nuvom.files").setLevel(logging.NOTSET)
    figures(
        f"{trials} flips, blocks and cuts, seed {seed}: {neighbours} neighbours done, {lost} "
        f"damaged jobs set aside in {kept} pieces"
    )


@pytest.mark.parametrize(
    "trials", [100, pytest.param(1000, marks=(pytest.mark.slow, pytest.mark.timeout(300)))]
)
def test_r21_damage_to_the_file_queue_is_set_aside_and_the_rest_is_done(
    tmp_path: Path, seed: int, figures: Callable[[str], None], trials: int
) -> None:
    prove(tmp_path, figures, seed, trials)
