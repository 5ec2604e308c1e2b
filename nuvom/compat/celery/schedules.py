"""The schedules of ``celery.schedules``: kept as data, since Nuvom has no scheduler yet."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuvom.compat.celery.exceptions import CeleryWarning

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True)
class crontab:  # noqa: N801  # Celery's name
    """Times as in a crontab."""

    minute: Any = "*"
    hour: Any = "*"
    day_of_week: Any = "*"
    day_of_month: Any = "*"
    month_of_year: Any = "*"
    nowfun: Any = None
    app: Any = None


@dataclass(frozen=True)
class schedule:  # noqa: N801  # Celery's name
    """A fixed interval: seconds, or a ``timedelta``."""

    run_every: float | timedelta | None = None
    relative: bool = False
    nowfun: Any = None
    app: Any = None


@dataclass(frozen=True)
class solar:  # noqa: N801  # Celery's name
    """An event of the sun at a place."""

    event: str
    lat: float
    lon: float


def warn_of_entry(name: str, task: str, stacklevel: int = 3) -> None:
    """Say that an entry of a schedule does not run."""
    warnings.warn(
        f"The periodic task {name!r} ({task}) will not run: Nuvom has no scheduler yet. "
        f"Until then, let cron or a systemd timer call `nuvom run {task}`.",
        CeleryWarning,
        stacklevel=stacklevel,
    )
