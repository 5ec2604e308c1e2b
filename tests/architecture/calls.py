"""What must not be called or caught: other clocks, sleeps, code from bytes, every exception."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import TYPE_CHECKING

from tests.architecture.source import Module, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.architecture.source import Finding

CLOCKS = frozenset(
    [
        *(f"time.{name}" for name in ("time", "monotonic", "perf_counter", "sleep")),
        *(f"time.{name}_ns" for name in ("time", "monotonic", "perf_counter")),
        *(f"datetime.datetime.{name}" for name in ("now", "today", "utcnow")),
        "datetime.date.today",
    ]
)
SLEEPS = frozenset(["time.sleep", "asyncio.sleep"])
UNSAFE_MODULES = frozenset(["pickle", "_pickle", "marshal", "shelve"])
UNSAFE_CALLS = frozenset(["eval", "exec", "yaml.load"])
BROAD = frozenset(["Exception", "BaseException"])


def clock(modules: Sequence[Module]) -> Iterator[Finding]:
    """Uses of the system's time anywhere but in ``nuvom/core/clock.py``."""
    for module in modules:
        if module.place != "nuvom/core/clock.py":
            for node, scope, name in _uses(module):
                if name in CLOCKS:
                    yield module.report("clock", node, scope, f"{name}: take a Clock instead")


def sleeps(modules: Sequence[Module]) -> Iterator[Finding]:
    """Sleeps in unit tests: wait for an event, with a limit. ``asyncio.sleep(0)`` only yields."""
    for module in modules:
        for node, above in module.walk():
            name = _called(module, node)
            if name in SLEEPS and not _is_zero(node):
                yield module.report("sleeps", node, scope_of(above), f"{name}: wait for an event")


def data_safety(modules: Sequence[Module]) -> Iterator[Finding]:
    """Ways to run code that stored bytes choose."""
    for module in modules:
        for node, scope, name in _uses(module):
            if name in UNSAFE_CALLS or name.partition(".")[0] in UNSAFE_MODULES:
                yield module.report("data-safety", node, scope, f"{name}: stored bytes are data")


def broad_excepts(modules: Sequence[Module]) -> Iterator[Finding]:
    """Handlers of every exception. One that ends by raising again swallows nothing and may stay."""
    for module in modules:
        for node, above in module.walk():
            if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _reraises(node):
                missing = "" if _has_comment(module, node) else ", and has no comment"
                text = f"catches everything{missing}"
                yield module.report("broad-excepts", node, scope_of(above), text)
            elif _suppresses_all(module, node):
                text = "suppresses everything"
                yield module.report("broad-excepts", node, scope_of(above), text)


def uncommented_excepts(modules: Sequence[Module]) -> Iterator[Finding]:
    """Handlers of every exception that do not say why. No exception is granted from this."""
    for finding in broad_excepts(modules):
        if "comment" in finding.text:
            yield finding


def _uses(module: Module) -> Iterator[tuple[ast.AST, str, str]]:
    """Yield (node, scope, full name) of imported things, wherever they are imported or used."""
    names = _imported(module)
    for node, above in module.walk():
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, scope_of(above), alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node, scope_of(above), f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Attribute):
            yield node, scope_of(above), _full_name(node, names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"eval", "exec"}:
            yield node, scope_of(above), ast.unparse(node.func)


@cache
def _imported(module: Module) -> dict[str, str]:
    """Return what each imported name stands for: ``{"dt": "datetime", "sleep": "time.sleep"}``."""
    names: dict[str, str] = {}
    for node, _above in module.walk():
        if isinstance(node, ast.Import):
            for alias in node.names:
                short = alias.name.partition(".")[0]
                names[alias.asname or short] = alias.name if alias.asname else short
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _full_name(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    return names.get(node.id, "") if isinstance(node, ast.Name) else ""


def _called(module: Module, node: ast.AST) -> str:
    return _full_name(node.func, _imported(module)) if isinstance(node, ast.Call) else ""


def _is_zero(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or len(node.args) != 1:
        return False
    return isinstance(node.args[0], ast.Constant) and node.args[0].value == 0


def _is_broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in kinds)


def _reraises(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _has_comment(module: Module, handler: ast.ExceptHandler) -> bool:
    """Return whether the line of ``except`` or the next says why, apart from a lint directive."""
    both = module.lines[handler.lineno - 1 : handler.lineno + 1]
    return any(re.search(r"#\s*\w", re.sub(r"#\s*noqa[^#]*", "", line)) for line in both)


def _suppresses_all(module: Module, node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or _called(module, node) != "contextlib.suppress":
        return False
    return any(isinstance(kind, ast.Name) and kind.id in BROAD for kind in node.args)
