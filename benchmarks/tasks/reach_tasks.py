"""Tasks that only Nuvom's own measures need; copied into the project's folder."""

from itertools import count

import body

from nuvom import task

CLOSED_SECS = 1.0


@task
def burn(secs: float) -> int:
    """Run pure Python for so long, in a slot beside the others."""
    return body.burn(secs)


@task
def count_to(limit: int) -> int:
    """Keep one core busy with work of fixed size; in a thread, so that a worker uses one core."""
    return body.count_to(limit)


@task
def never() -> None:
    """Only wait."""


@task(timeout_secs=CLOSED_SECS)
def sit_in_get(place: int) -> None:
    """Wait for a job until closed; write down the time at which the thread comes free."""
    try:
        never.options(delay=3600).delay().get(timeout=60)
    finally:
        body.mark(place)


@task(timeout_secs=CLOSED_SECS)
def sit_in_map(place: int) -> None:
    """Likewise, in one call that enqueues without end."""
    try:
        never.options(delay=3600).map(() for _ in count())
    finally:
        body.mark(place)
