"""The laws that every backend, codec and plugin has to keep, as tests.

Subclass a kit in a test module and write ``make``; or call ``run`` on a class. How to use both
is in ``docs/conformance.md``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuvom.testing.conformance.codec import CodecConformance
    from nuvom.testing.conformance.law import Law, LawBroken, laws_of
    from nuvom.testing.conformance.plugin import PluginConformance
    from nuvom.testing.conformance.queue import QueueConformance
    from nuvom.testing.conformance.results import ResultConformance
    from nuvom.testing.conformance.runner import Finding, Report
    from nuvom.testing.conformance.trial import run

_HOMES = {
    "CodecConformance": "nuvom.testing.conformance.codec",
    "Finding": "nuvom.testing.conformance.runner",
    "Law": "nuvom.testing.conformance.law",
    "LawBroken": "nuvom.testing.conformance.law",
    "PluginConformance": "nuvom.testing.conformance.plugin",
    "QueueConformance": "nuvom.testing.conformance.queue",
    "Report": "nuvom.testing.conformance.runner",
    "ResultConformance": "nuvom.testing.conformance.results",
    "laws_of": "nuvom.testing.conformance.law",
    "run": "nuvom.testing.conformance.trial",
}

__all__ = [
    "CodecConformance",
    "Finding",
    "Law",
    "LawBroken",
    "PluginConformance",
    "QueueConformance",
    "Report",
    "ResultConformance",
    "laws_of",
    "run",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
