"""Helpers for tests of tasks, applications and plugins.

``nuvom.testing.pytest_plugin`` is loaded by pytest itself, so the other names are imported on first
use. ``nuvom.testing.conformance`` holds the laws that every backend must keep, and needs pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuvom.testing.assertions import assert_enqueued, refute_enqueued
    from nuvom.testing.builders import make_job, make_schedule, make_settlement
    from nuvom.testing.clock import FakeClock
    from nuvom.testing.direct_run import job_context, perform
    from nuvom.testing.isolated_store import IsolatedStore, StoreTime, StoreWorker

_HOMES = {
    "FakeClock": "clock",
    "IsolatedStore": "isolated_store",
    "StoreTime": "isolated_store",
    "StoreWorker": "isolated_store",
    "assert_enqueued": "assertions",
    "job_context": "direct_run",
    "make_job": "builders",
    "make_schedule": "builders",
    "make_settlement": "builders",
    "perform": "direct_run",
    "refute_enqueued": "assertions",
}

__all__ = [
    "FakeClock",
    "IsolatedStore",
    "StoreTime",
    "StoreWorker",
    "assert_enqueued",
    "job_context",
    "make_job",
    "make_schedule",
    "make_settlement",
    "perform",
    "refute_enqueued",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415  # only when a lazy name is first used

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
