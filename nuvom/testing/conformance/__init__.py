"""The laws that every backend, codec and plugin must keep, as pytest tests.

Subclass a kit in a test module and write ``make``, or call ``run`` on a class.
``docs/conformance.md`` explains both.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuvom.testing.conformance.laws.codec import CodecConformance
    from nuvom.testing.conformance.laws.plugin import PluginConformance
    from nuvom.testing.conformance.laws.queue import QueueConformance
    from nuvom.testing.conformance.laws.results import ResultConformance
    from nuvom.testing.conformance.trial import Finding, Report, run

_LAWS = "nuvom.testing.conformance.laws"
_HOMES = {
    "CodecConformance": f"{_LAWS}.codec",
    "Finding": "nuvom.testing.conformance.trial",
    "PluginConformance": f"{_LAWS}.plugin",
    "QueueConformance": f"{_LAWS}.queue",
    "Report": "nuvom.testing.conformance.trial",
    "ResultConformance": f"{_LAWS}.results",
    "run": "nuvom.testing.conformance.trial",
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
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    load = import_module("nuvom.testing.conformance.law").import_laws
    return getattr(load(home) if home.startswith(_LAWS) else import_module(home), name)
