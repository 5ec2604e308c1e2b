"""The tasks of a program whose disk is full."""

from __future__ import annotations

import threading

from nuvom import task

PADDING = "x" * 9000

started = threading.Semaphore(0)
may_end = threading.Event()


@task(name="full.plain")
def plain(number: int, padding: str = "") -> int:
    return number + 1


@task(name="full.held")
def held() -> str:
    """Run until the disk is full; return what does not fit into a page that is there already."""
    started.release()
    may_end.wait()
    return PADDING
