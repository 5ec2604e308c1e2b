"""Test a backend, a codec or a plugin from a program: what ``nuvom plugin test`` calls."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nuvom.config.settings import Settings
from nuvom.events import EventBus
from nuvom.plugins.lifecycle import make_extras
from nuvom.plugins.registry import BackendKind, PluginRegistry, use_plugin_registry
from nuvom.testing.conformance.plugin import PluginConformance
from nuvom.testing.conformance.runner import BROKEN, Report, hold
from nuvom.testing.conformance.targets import kit_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nuvom.testing.conformance.runner import Finding


def run(
    target: object,
    kind: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    only: Iterable[str] = ("*",),
    told: Callable[[Finding], object] = lambda _: None,
) -> Report:
    """Hold all laws that apply to ``target`` and report how they came out.

    A plugin is tested with all queue and result backends that it registers.

    Args:
        target: The class of a backend, codec or plugin; a codec or plugin; or a kit, where
            the backend cannot be built as ``cls(settings)``.
        kind: ``queue_backend``, ``result_backend``, ``codec`` or ``plugin``; None: as the
            target looks.
        settings: What the target needs, such as ``{"redis_url": ...}``; the kit adds its own.
        only: Patterns of the names of laws or chapters.
        told: Called with each finding as it comes.

    Raises:
        MissingExtra: the packages that the kit needs are not installed.
        TypeError: no kit fits the target.
    """
    given = dict(settings or {})
    patterns = tuple(only)
    kit = kit_for(target, kind, given)
    findings = hold(kit, only=patterns, told=told).findings
    is_broken = any(finding.outcome == BROKEN for finding in findings)
    if isinstance(kit, PluginConformance) and not is_broken:  # else it may not even start
        for backend_kind, cls in _backends_of(kit, given):
            backend_kit = kit_for(cls, backend_kind.key, given)
            findings += hold(backend_kit, only=patterns, told=told).findings
    return Report(_name_of(target), findings)


def _backends_of(
    kit: PluginConformance, settings: Mapping[str, Any]
) -> list[tuple[BackendKind, type]]:
    """Return the backends that a plugin registers, each once."""
    plugin = kit.make()
    registry = PluginRegistry()
    before = use_plugin_registry(registry)
    try:
        with TemporaryDirectory(prefix="nuvom-law-", ignore_cleanup_errors=True) as folder:
            plugin.start(Settings(root=Path(folder), **settings), make_extras(EventBus()))
            plugin.stop()
    finally:
        use_plugin_registry(before)
    found = ((kind, cls) for (kind, _), cls in registry.entries().items())
    return [pair for pair in dict.fromkeys(found) if pair[0] is not BackendKind.SCHEDULE]


def _name_of(target: object) -> str:
    cls = target if isinstance(target, type) else type(target)
    return f"{cls.__module__}:{cls.__qualname__}"
