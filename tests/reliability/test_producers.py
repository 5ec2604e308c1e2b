"""R04: producers are killed inside ``.delay()`` and ``.map()``: accepted means stored."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.testing.faults import Victim
from nuvom.testing.history import read_history
from tests.reliability.producers import MAP_SIZE
from tests.reliability.workspace import Workspace

LIMIT_SECS = 250.0


def prove(workspace: Workspace, figures: Callable[[str], None], seed: int, kills: int) -> None:
    told = workspace.root / "told.ndjson"
    orders = {"root": str(workspace.root), "told": str(told), "seed": seed, "kills": kills}
    parent = Victim("tests.reliability.producers", orders, folder=workspace.root)
    try:
        assert parent.wait(LIMIT_SECS)
    finally:
        parent.close()
    assert parent.process.returncode == 0, workspace.errors()
    with workspace.open() as runtime:
        stored = workspace.snapshots(runtime)
        sizes = Counter(
            one.record.metadata["map"] for one in stored.values() if one.record.metadata
        )
        lines = read_history(told)
        ids = [job_id for one in lines for job_id in one["jobs"]]
        missing = set(ids) - stored.keys()
        halves = {key: size for key, size in sizes.items() if size != MAP_SIZE}
        gone = [one["map"] for one in lines if "map" in one and sizes[one["map"]] != MAP_SIZE]
        figures(
            f"{kills} kills, seed {seed}: {len(ids)} jobs told of, {len(stored)} stored, "
            f"{len(missing)} missing; {len(sizes)} maps, {len(halves)} of them in part"
        )
        assert not missing
        assert not halves
        assert not gone
        workspace.assert_sound(runtime)


at_length = (pytest.mark.slow, pytest.mark.timeout(300))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    ("backend", "kills"),
    [
        ("sqlite", 30),
        pytest.param("sqlite", 300, marks=at_length),
        pytest.param("file", 300, marks=at_length),
    ],
)
def test_r04_what_a_killed_producer_told_of_is_stored_and_a_map_is_whole(
    tmp_path: Path, seed: int, figures: Callable[[str], None], backend: str, kills: int
) -> None:
    prove(Workspace(tmp_path, backend), figures, seed, kills)
