"""The laws that every backend, codec and plugin must keep, as pytest tests.

Subclass a kit in a test module and write ``make``, or call ``run`` on a class.
``docs/conformance.md`` explains both.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nuvom.testing.conformance.trial import Finding, Report, run

if TYPE_CHECKING:
    from nuvom.testing.conformance.laws.codec import CodecConformance
    from nuvom.testing.conformance.laws.plugin import PluginConformance
    from nuvom.testing.conformance.laws.queue import QueueConformance
    from nuvom.testing.conformance.laws.results import ResultConformance

# Imported at first access: they need pytest, which rewrites their asserts.
_KITS = {
    "CodecConformance": "codec",
    "PluginConformance": "plugin",
    "QueueConformance": "queue",
    "ResultConformance": "results",
}

__all__ = [
    "CodecConformance",
    "Finding",
    "PluginConformance",
    "QueueConformance",
    "Report",
    "ResultConformance",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _KITS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    load = import_module("nuvom.testing.conformance.law").import_laws
    return getattr(load(f"nuvom.testing.conformance.laws.{_KITS[name]}"), name)
