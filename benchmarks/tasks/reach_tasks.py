"""Tasks that only Nuvom's own measures need; copied into the project's folder."""

import body

from nuvom import task


@task
def burn(secs: float) -> int:
    """Run pure Python for so long, in a slot beside the others."""
    return body.burn(secs)


@task
def count_to(limit: int) -> int:
    """Keep one core busy with work of fixed size; in a thread, so that a worker uses one core."""
    return body.count_to(limit)
