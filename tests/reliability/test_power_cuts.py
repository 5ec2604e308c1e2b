"""R07, R08: a power cut at any moment. What was acknowledged is there; the rest is there or not,
in the order in which it was done, and never by half."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.reliability.images import Found, Recording, check_sequence, check_shared_commits, look


def run_sequences(make: Callable[..., Recording], mode: str, seeds: range, images: int) -> Found:
    """Run a sequence for each seed; return what ``images`` of all of them showed together."""
    total = Found()
    for seed in seeds:
        one = make(mode)
        records = one.record("sequence", seed=seed, steps=60)
        total.add(look(one, records, check_sequence(records), seed, images // len(seeds)))
    return total


def prove(
    make: Callable[..., Recording], figures: Callable[[str], None], seeds: range, images: int
) -> None:
    """Cut the power ``images`` times: half of them with each durability."""
    full = run_sequences(make, "full", seeds, images // 2)
    normal = run_sequences(make, "normal", seeds, images // 2)
    figures(f"full, seed {seeds[0]}: {full}")
    figures(f"normal, seed {seeds[0]}: {normal}")
    assert not full.broken
    assert not full.lost
    assert not normal.broken


def prove_shared_commits(
    make: Callable[..., Recording], figures: Callable[[str], None], seed: int, images: int
) -> None:
    """Cut the power of two processes whose threads share commits."""
    one = make("full")
    found = look(
        one, one.record("share_commits", 2, seed=seed, steps=15), check_shared_commits, seed, images
    )
    figures(f"two processes, seed {seed}: {found}")
    assert not found.broken
    assert not found.lost


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
    prove_shared_commits(sqlite, figures, seed, images=40)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_r07_thousands_of_power_cuts_leave_sqlite_all_that_was_acknowledged(
    sqlite: Callable[..., Recording], seed: int, figures: Callable[[str], None]
) -> None:
    prove(sqlite, figures, range(seed, seed + 20), images=4000)
    for number in range(5):
        prove_shared_commits(sqlite, figures, seed + number, images=200)


# ---- file -------------------------------------------------------------------------------


@pytest.fixture
def file(recording: Callable[..., Recording]) -> Callable[..., Recording]:
    return partial(recording, "file")


def test_r08_a_power_cut_leaves_the_file_queue_all_that_was_acknowledged(
    file: Callable[..., Recording], seed: int, figures: Callable[[str], None]
) -> None:
    prove(file, figures, range(seed, seed + 1), images=100)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_r08_thousands_of_power_cuts_leave_the_file_queue_all_that_was_acknowledged(
    file: Callable[..., Recording], seed: int, figures: Callable[[str], None]
) -> None:
    prove(file, figures, range(seed, seed + 20), images=4000)
    for number in range(5):
        prove_shared_commits(file, figures, seed + number, images=200)
