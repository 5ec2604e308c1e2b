"""The same random history of calls on several stores, which must answer alike.

The laws say what a store has to do; a comparison finds what no law says. A history is a list of
numbers, one for each step, drawn from a seed. A step chooses its call and all its arguments from
its number and from what the history did before, so that any part of a history is one, too.
"""

from __future__ import annotations

from itertools import count
from random import Random
from typing import TYPE_CHECKING

from tests.lab.comparison.controls import look
from tests.lab.comparison.steps import STEPS
from tests.lab.comparison.stores import Difference, StoreGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.lab.comparison.stores import Make

TICK_SECS = 0.25  # passes before each step; sums of it are exact
_TRIES = 1000  # to find a shorter history


def draw(seed: int, steps: int) -> list[int]:
    """Return the history of a seed."""
    rng = Random(seed)  # tests want it foreseeable
    return [rng.getrandbits(48) for _ in range(steps)]


def play(makes: Mapping[str, Make], folder: Path, history: Sequence[int]) -> None:
    """Let stores live through a history, and look at all of them in the end.

    Raises: Difference: with the call at which they differ and the calls before it.
    """
    group = StoreGroup(makes, folder)
    try:
        for number in history:
            rng = Random(number)
            group.clock.advance(TICK_SECS)
            rng.choice(STEPS)(group, rng)
        look(group, Random(0))
    except Difference as difference:
        calls = "\n".join(f"  {line}" for line in group.trace)
        raise Difference(f"{difference}\nafter\n{calls}") from None
    finally:
        group.close()


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


def compare_stores(
    makes: Mapping[str, Make], folder: Path, seeds: Iterable[int], *, steps: int
) -> None:
    """Let stores live through many histories, each in stores of its own.

    Args:
        makes: How to make each store, by name; two at least. Each takes a clock.
        folder: Empty.
        seeds: One for each history.
        steps: How long each history is.
    Raises: Difference: with the shortest history found, and the seed.
    """
    places = (folder / f"history{number}" for number in count())
    for seed in seeds:
        _run(makes, places, seed, draw(seed, steps))


def _run(
    makes: Mapping[str, Make], places: Iterator[Path], seed: int, history: Sequence[int]
) -> None:
    def difference_of(part: Sequence[int]) -> Difference | None:
        try:
            play(makes, next(places), part)
        except Difference as difference:
            return difference
        return None

    if difference_of(history) is None:
        return
    short = shortest(history, lambda part: difference_of(part) is not None)
    raise Difference(f"seed {seed}, history {short}: {difference_of(short)}")
