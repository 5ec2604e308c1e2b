"""A clean set of tasks, applications and hooks for each test of the Celery shim."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nuvom.compat.celery import Celery, app, signals, task
from nuvom.compat.celery.context import applications
from nuvom.hooks import (
    after_each_job,
    default_hooks,
    on_each_error,
    on_worker_start,
    on_worker_stop,
)
from nuvom.registry.registry import Registry
from nuvom.testing.isolated_store import IsolatedStore


@pytest.fixture(autouse=True)
def only_own_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("nuvom.registry.registry._default", Registry())
    monkeypatch.setattr(applications, "tasks", {})
    monkeypatch.setattr(applications, "current", None)
    monkeypatch.setattr(applications, "made", [])
    default_hooks.clear()  # other tests may have cleared what the shim has added at its import
    after_each_job(task.task_returned)
    on_each_error(task.task_raised)
    on_worker_start(signals.worker_starts)
    on_worker_stop(signals.worker_stops)
    for one in vars(signals).values():
        if isinstance(one, signals.Signal):
            monkeypatch.setattr(one, "receivers", {})
    yield
    default_hooks.clear()


@pytest.fixture
def celery(nuvom_inline: IsolatedStore) -> Celery:
    """Return an application whose jobs run as soon as they are stored."""
    return app.Celery("tests")
