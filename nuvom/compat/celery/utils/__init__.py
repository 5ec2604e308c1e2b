"""Helpers of ``celery.utils``."""

from __future__ import annotations

from nuvom.core.ids import new_id


def uuid() -> str:
    """Return a new id, to be passed as ``task_id``."""
    return new_id()


gen_unique_id = uuid
