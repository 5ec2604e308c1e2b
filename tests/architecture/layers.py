"""The layers, as the block in ``docs/architecture.md`` draws them, and who may import whom.

``python -m tests.architecture.layers FILE`` writes the paths of the core, layers 0 to 4, for
the coverage report.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from tests.architecture.source import Finding, Module, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.architecture.imports import Edge

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "architecture.md"
CONTRACTS, ADAPTERS, ENGINE = 2, 3, 4
# Not plugins: they run workers or read jobs, as cli/ does.
FRAMEWORKS = (
    "nuvom/contrib/asgi.py",
    "nuvom/contrib/dashboard/",
    "nuvom/contrib/django/",
    "nuvom/contrib/flask.py",
    "nuvom/contrib/top/",
)
ADAPTER_FOLDERS = ("queue_backends/", "result_backends/", "scheduler/")


@dataclass(frozen=True)
class Entry:
    """One place in the block. ``planned`` (a ``?`` behind it) keeps it for later."""

    layer: int
    pattern: str
    planned: bool

    @property
    def exact(self) -> bool:
        return not self.pattern.endswith("/") and "*" not in self.pattern

    def fits(self, place: str) -> bool:
        if self.pattern.endswith("/"):
            return place.startswith(self.pattern)
        return fnmatchcase(place, self.pattern)


class Layers:
    """The block, read: which layer a module is in."""

    def __init__(self, text: str) -> None:
        self.entries = list(_read(_block(text)))

    def of(self, place: str) -> list[int]:
        """Return the layers that the block names for ``nuvom/...``: one, if all is well.

        A name of its own counts more than the folder's.
        """
        inner = place.removeprefix("nuvom/")
        fitting = [entry for entry in self.entries if entry.fits(inner)]
        exact = [entry for entry in fitting if entry.exact]
        return [entry.layer for entry in exact or fitting]

    def number(self, place: str) -> int | None:
        found = self.of(place)
        return found[0] if len(found) == 1 else None


def _block(text: str) -> str:
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if re.search(r"^0 \w+ ", block, re.MULTILINE):
            return str(block)
    raise ValueError("the page has no block of layers, with a line that begins with '0 '")


def _read(block: str) -> Iterator[Entry]:
    layer = -1
    for line in block.splitlines():
        words = line.split()
        if words and words[0].isdigit():
            layer, words = int(words[0]), words[2:]
        for word in words:
            planned = word.endswith("?")
            for pattern in _spread(word.rstrip("?")):
                yield Entry(layer, pattern, planned)


def _spread(word: str) -> Iterator[str]:
    """Yield ``a/b.py`` and ``a/c.py`` for ``a/{b,c}.py``."""
    match = re.fullmatch(r"(.*)\{(.*)\}(.*)", word)
    if not match:
        yield word
        return
    before, inner, after = match.groups()
    for part in inner.split(","):
        yield f"{before}{part}{after}"


def placing(
    modules: Sequence[Module], layers: Layers, *, building: bool = False
) -> Iterator[Finding]:
    """Modules that are in no layer or in two, and entries that fit nothing.

    ``building`` tolerates entries whose module does not exist yet.
    """
    places = [module.place for module in modules]
    for place in places:
        count = len(layers.of(place))
        if count == 0 and not place.endswith("__init__.py"):
            yield Finding("placing", place, 1, "is in no layer of docs/architecture.md")
        if count > 1:
            yield Finding("placing", place, 1, "is in more than one layer")
    for entry in layers.entries:
        exists = any(entry.fits(place.removeprefix("nuvom/")) for place in places)
        if exists and entry.planned:
            yield Finding("placing", entry.pattern, 1, "exists: drop the ? in docs/architecture.md")
        if not exists and not entry.planned and not building:
            yield Finding("placing", entry.pattern, 1, "is in docs/architecture.md only")


def directions(
    modules: Sequence[Module], found: Sequence[Edge], layers: Layers
) -> Iterator[Finding]:
    """Imports that the layers forbid."""
    places = {module.name: module.place for module in modules}
    for edge in found:
        if edge.external:
            yield from _sql_in_shell(edge)
            continue
        if edge.module.is_facade and edge.for_types:
            continue  # what it offers is imported when it is first named
        own = layers.number(edge.module.place)
        target = places.get(edge.target, f"{edge.target.replace('.', '/')}.py")
        other = layers.number(target)
        if own is None or other is None:
            continue
        text = _breach(edge.module.place, own, target, other)
        if text:
            yield edge.report("layers", text)


def _breach(place: str, own: int, target: str, other: int) -> str:
    if other > own:
        return f"layer {own} imports layer {other}"
    if own == ENGINE and other == ADAPTERS:
        return "the engine sees contracts, never an adapter"
    if own == ADAPTERS and _is_adapter(target, other) and _store(place) != _store(target):
        return "adapters never import each other"
    is_for_plugins = other <= CONTRACTS or target == "nuvom/serialization/msgpack_codec.py"
    if place.startswith(FRAMEWORKS) and other != ADAPTERS:
        is_for_plugins = True
    if place.startswith("nuvom/contrib/") and not is_for_plugins and not _siblings(place, target):
        return "contrib imports layers 0 to 2 only"
    if place.startswith("nuvom/cli/") and other == ADAPTERS:
        return "the command line reads through inspection and writes through runtime"
    if target.startswith("nuvom/testing/") and not place.startswith("nuvom/testing/"):
        return "nothing else imports nuvom.testing"
    return ""


def _sql_in_shell(edge: Edge) -> Iterator[Finding]:
    if edge.module.place.startswith("nuvom/cli/") and edge.target == "sqlite3":
        yield edge.report("layers", "the command line holds no SQL")


def _is_adapter(target: str, layer: int) -> bool:
    inner = target.removeprefix("nuvom/")
    private = inner.rpartition("/")[2].startswith("_")
    return layer == ADAPTERS and inner.startswith(ADAPTER_FOLDERS) and not private


def _store(place: str) -> str:
    """Return what ``nuvom/queue_backends/NAME/...`` and ``nuvom/result_backends/NAME.py`` share."""
    return place.split("/")[2].removesuffix(".py")


def _siblings(place: str, target: str) -> bool:
    return place.split("/")[:3] == target.split("/")[:3]


def core(modules: Sequence[Module], layers: Layers) -> list[str]:
    """Return the places of layers 0 to 4."""
    numbers = ((module.place, layers.number(module.place)) for module in modules)
    return [place for place, number in numbers if number is not None and number <= ENGINE]


def main(out: str) -> None:
    """Write the core's paths, joined by commas."""
    layers = Layers(PAGE.read_text(encoding="utf-8"))
    Path(out).write_text(",".join(core(load(ROOT, "nuvom"), layers)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
