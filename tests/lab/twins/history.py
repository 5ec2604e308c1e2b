"""Twins: the same random history of calls on several stores, which must answer alike.

The laws say what a store has to do; twins find what no law says. A history is a list of numbers,
one for each step, drawn from a seed. A step chooses its call and all its arguments from its
number and from what the history did before, so that any part of a history is a history, too.
"""

from __future__ import annotations

from itertools import count
from random import Random
from typing import TYPE_CHECKING

from tests.lab.twins.controls import look
from tests.lab.twins.steps import STEPS
from tests.lab.twins.stores import Drift, Twins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.lab.twins.stores import Make

TICK_SECS = 0.25  # passes before each step; sums of it are exact
_TRIES = 1000  # to find a shorter history


def draw(seed: int, steps: int) -> list[int]:
    """Return the history of a seed."""
    rng = Random(seed)  # tests want it foreseeable
    return [rng.getrandbits(48) for _ in range(steps)]


def play(makes: Mapping[str, Make], folder: Path, history: Sequence[int]) -> None:
    """Let stores live through a history, and look at all of them in the end.

    Raises: Drift: with the call at which they differ and the calls before it.
    """
    twins = Twins(makes, folder)
    try:
        for number in history:
            rng = Random(number)
            twins.clock.advance(TICK_SECS)
            rng.choice(STEPS)(twins, rng)
        look(twins, Random(0))
    except Drift as drift:
        calls = "\n".join(f"  {line}" for line in twins.trace)
        raise Drift(f"{drift}\nafter\n{calls}") from None
    finally:
        twins.close()


def shortest(history: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """Return a part of a history that fails still, and of which little can be left out."""
    kept, size, tries = list(history), len(history) // 2, 0
    while size and tries < _TRIES:
        start, before = 0, len(kept)
        while start < len(kept) and tries < _TRIES:
            tries += 1
            part = kept[:start] + kept[start + size :]
            if fails(part):
                kept = part
            else:
                start += size
        size = size // 2 if size > 1 or len(kept) == before else 1
    return kept


def run_twins(makes: Mapping[str, Make], folder: Path, seeds: Iterable[int], *, steps: int) -> None:
    """Let stores live through many histories, each in stores of its own.

    Args:
        makes: How to make each store, by name; two at least. Each takes a clock.
        folder: Empty.
        seeds: One for each history.
        steps: How long each history is.
    Raises: Drift: with the shortest history found, and the seed.
    """
    places = (folder / f"history{number}" for number in count())
    for seed in seeds:
        _run(makes, places, seed, draw(seed, steps))


def _run(
    makes: Mapping[str, Make], places: Iterator[Path], seed: int, history: Sequence[int]
) -> None:
    def drift_of(part: Sequence[int]) -> Drift | None:
        try:
            play(makes, next(places), part)
        except Drift as drift:
            return drift
        return None

    if drift_of(history) is None:
        return
    short = shortest(history, lambda part: drift_of(part) is not None)
    raise Drift(f"seed {seed}, history {short}: {drift_of(short)}")
