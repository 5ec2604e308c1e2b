"""The tasks of a project, for Nuvom and for its release 0.11; copied into the project's folder."""

import body

from nuvom.task import task


@task(store_result=True)
def noop(number: int) -> int:
    """Return the argument."""
    return number


@task(store_result=True)
def mark(place: int, pause_secs: float) -> int:
    """Write down the time."""
    return body.mark(place, pause_secs)
