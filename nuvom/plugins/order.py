"""In which order plugins start: each after those that it requires. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class Requiring(Protocol):
    """What the order depends on."""

    @property
    def words(self) -> frozenset[str]:
        """Its name and what it provides."""
        ...

    @property
    def requires(self) -> Sequence[str]:
        """Words of plugins that come before it."""
        ...


P = TypeVar("P", bound=Requiring)


def start_order(
    plugins: Sequence[P], started: Sequence[P] = ()
) -> tuple[list[P], list[tuple[P, str]]]:
    """Return the plugins in an order that honours ``requires``, and those that have none.

    Where several provide a required word, all of them come first. Otherwise the given order
    is kept.

    Args:
        started: Plugins that are there already.
    Returns: the order; and each plugin that cannot start, with the reason.
    """
    waiting = list(plugins)
    placed: list[P] = []
    while True:
        ready = [one for one in waiting if not _missing(one, [*started, *placed], waiting)]
        if not ready:
            break
        placed.append(ready[0])
        waiting.remove(ready[0])
    return placed, [(one, _reason(one, [*started, *placed], waiting)) for one in waiting]


def _missing(plugin: P, before: Sequence[P], waiting: Sequence[P]) -> list[str]:
    """Return the required words that nobody has brought yet, or not everybody who will."""
    others = [one for one in waiting if one is not plugin]
    return [
        word
        for word in plugin.requires
        if word not in plugin.words and (not _offer(word, before) or _offer(word, others))
    ]


def _offer(word: str, plugins: Sequence[P]) -> bool:
    return any(word in plugin.words for plugin in plugins)


def _reason(plugin: P, before: Sequence[P], waiting: Sequence[P]) -> str:
    word = _missing(plugin, before, waiting)[0]
    if _offer(word, waiting):
        return f'it requires "{word}", which cannot start before it'
    return f'it requires "{word}", which no plugin provides'
