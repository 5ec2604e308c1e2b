"""R10: each call fails in turn. It is reported, made again, and nothing acknowledged is lost by it.

After the failure of a flush the system takes the pages for clean; no later flush brings back
what was in them. What was acknowledged later has to be there all the same.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability.images import Nothing, Recording, after_each, check_sequence, missing_in
from tests.reliability.sweeps import KINDS, sweep

both = pytest.mark.parametrize("backend", ["sqlite", "file"])


def prove(one: Recording, figures: Callable[[str], None], kinds: str, **orders: int) -> None:
    told = sweep(one, figures, kinds, errno.EIO, **orders)
    assert told <= {"BackendUnavailable"}


@both
def test_r10_nothing_is_acknowledged_on_a_flush_that_failed(
    recording: Callable[..., Recording], seed: int, figures: Callable[[str], None], backend: str
) -> None:
    prove(recording(backend, on_disk=False), figures, "flushes", seed=seed, steps=8, every=1)


def test_r10_a_flush_that_fails_at_the_start_leaves_no_hole_before_what_others_acknowledge(
    recording: Callable[..., Recording], figures: Callable[[str], None]
) -> None:
    prove(recording("file", on_disk=False), figures, "flushes", seed=10400128, steps=8, every=1)


@both
def test_r10_what_had_no_flush_of_its_own_leaves_no_hole_when_that_of_another_fails(
    recording: Callable[..., Recording], tmp_path: Path, backend: str
) -> None:
    one = recording(backend)
    records = one.record("fail_after_claim", seed=1)
    (image := tmp_path / "image").mkdir()
    *_, (disk, moment) = after_each(records, one.root, Nothing())
    disk.image(image)
    told = [json.loads(each.text) for each in records[:moment] if each.kind == "A"]
    assert missing_in(image, backend, check_sequence(records), told) == 0


@both
@pytest.mark.parametrize("kinds", ["writes", "reads"])
def test_r10_a_call_that_fails_is_told_and_can_be_made_again(
    recording: Callable[..., Recording],
    seed: int,
    figures: Callable[[str], None],
    backend: str,
    kinds: str,
) -> None:
    one = recording(backend, on_disk=False)
    prove(one, figures, kinds, seed=seed, steps=8, every=13)


@pytest.mark.slow
@pytest.mark.timeout(400)
@both
@pytest.mark.parametrize("kinds", KINDS)
def test_r10_each_call_of_a_sequence_fails_in_turn(
    recording: Callable[..., Recording],
    seed: int,
    figures: Callable[[str], None],
    backend: str,
    kinds: str,
) -> None:
    for number in range(seed, seed + (5 if kinds == "flushes" else 2)):
        one = recording(backend, on_disk=False)
        prove(one, figures, kinds, seed=number, steps=20, every=1)
