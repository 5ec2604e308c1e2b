"""The same operations are run again and again; each time another call of the system fails."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab.iofaults import CUTS, FLUSHES, READS, WRITES
from tests.lab.powercut import Record
from tests.reliability.images import (
    Found,
    Nothing,
    Recording,
    after_each,
    check_sequence,
    in_memory,
    missing_in,
)

KINDS = {"writes": WRITES, "flushes": FLUSHES, "reads": READS, "cuts": CUTS}


def runs_of(records: list[Record]) -> dict[int, list[Record]]:
    """Return what was recorded of each run, by the number of the call that failed in it."""
    runs: dict[int, list[Record]] = {}
    current: list[Record] = []
    for record in records:
        told = json.loads(record.text) if record.kind == "A" else {}
        if "run" in told:
            current = runs[told["run"]] = []
        else:
            current.append(record)
    return runs


def look_at_run(recording: Recording, number: int, run: list[Record], images: int) -> Found:
    """Cut the power after some of what was acknowledged in a run, and see what is left."""
    found = Found()
    rng = random.Random(number)
    check = check_sequence(run)
    acknowledged = sum('"durable": true' in one.text for one in run if one.kind == "A")
    chosen = set(rng.sample(range(acknowledged), min(images, acknowledged)))
    root = recording.root / str(number)
    loser = Nothing() if number % 2 else rng  # what need not be there is not, or may be
    with in_memory() as folder:
        for index, (disk, moment) in enumerate(after_each(run, root, loser)):
            if index in chosen:
                image = Path(folder) / str(index)
                image.mkdir()
                disk.image(image)
                told = [json.loads(one.text) for one in run[:moment] if one.kind == "A"]
                where = f"call {number}, step {told[-1]['ended']}"
                found.note(where, partial(missing_in, image, recording.backend, check, told))
                shutil.rmtree(image)
    return found


def sweep(
    recording: Recording, figures: Callable[[str], None], kinds: str, error: int, **orders: Any
) -> set[str]:
    """Let each call of the kinds fail in a run of its own; return which errors were raised.

    Args:
        orders: The ``seed`` and the ``steps`` of the sequence; ``every`` how many calls one fails;
            whether the trouble ``lasts`` until it was raised.
    """
    given = {"lasts": False, **orders, "kinds": KINDS[kinds], "error": error}
    records = recording.record("fail", **given)
    summary = json.loads(records.pop().text)
    runs = runs_of(records)
    total = Found()
    for number, run in runs.items():
        total.add(look_at_run(recording, number, run, images=3))
    told = summary["errors"]
    figures(
        f"seed {orders['seed']}: {len(runs) - 1} of {summary['calls']} {kinds} failed, one in each "
        f"run; {sum(told.values())} were raised; {total}"
    )
    assert not total.broken
    assert not total.lost
    return set(told)
