"""Names that hold a word which means something else elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.architecture.source import SCOPES, Finding, Module, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORBIDDEN = frozenset(
    ["actor", "addon", "broker", "consumer", "helper", "manager", "message", "nack", "util"]
)
FORBIDDEN_FOR_MODULES = FORBIDDEN | {"common"}


def words(modules: Sequence[Module]) -> Iterator[Finding]:
    """Names of modules, classes and functions that hold a forbidden word."""
    for module in modules:
        stem = module.name.rpartition(".")[2]
        for word in _words_of(stem, FORBIDDEN_FOR_MODULES):
            yield Finding("words", module.place, 1, f"the module's name says {word!r}")
        for node, above in module.walk():
            if isinstance(node, SCOPES):
                for word in _words_of(node.name, FORBIDDEN):
                    yield module.report("words", node, scope_of((*above, node)), f"says {word!r}")


def _words_of(name: str, forbidden: frozenset[str]) -> list[str]:
    """Return the forbidden words in a snake_case or CamelCase name, plurals included."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return [part for part in parts if part.lower().removesuffix("s") in forbidden]
