"""Celery's interface on Nuvom: change ``from celery import ...``, and start Nuvom's worker.

What runs, what differs and what is refused is in ``docs/celery-shim.md``.
"""

from __future__ import annotations

from nuvom.compat.celery import exceptions, result, schedules, signals, states
from nuvom.compat.celery.app import (
    Celery,
    current_app,
    current_task,
    get_current_task,
    shared_task,
)
from nuvom.compat.celery.canvas import (
    Signature,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
    subtask,
    xmap,
    xstarmap,
)
from nuvom.compat.celery.context import Context
from nuvom.compat.celery.exceptions import CeleryWarning, NotSupported
from nuvom.compat.celery.task import Task
from nuvom.core.ids import new_id as uuid

__all__ = [
    "Celery",
    "CeleryWarning",
    "Context",
    "NotSupported",
    "Signature",
    "Task",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "exceptions",
    "get_current_task",
    "group",
    "maybe_signature",
    "result",
    "schedules",
    "shared_task",
    "signals",
    "signature",
    "states",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]
