"""Notices that files of a project have changed: Python files and those that configure it.

With the package ``watchfiles`` the system tells; without it times and sizes are compared
several times a second.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from nuvom.discovery.ignore import IgnoreRules
from nuvom.discovery.walker import Walker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nuvom.core.clock import Clock

_POLL_SECS = 0.3
_CONFIGURATION = ("nuvom.toml", "pyproject.toml", ".env", ".nuvomignore", ".nuvom_plugins.toml")

Snapshot = dict[str, tuple[int, int]]


def changes(
    root: Path, before: Snapshot, *, is_over: Callable[[], bool], clock: Clock
) -> Iterator[set[str]]:
    """Yield the files that changed, relative to ``root``; now and then an empty set.

    New and removed files count. What discovery leaves out does not.

    Args:
        before: The snapshot to start from, taken before the code was first read.
        is_over: Looked at several times a second; no event to wait for, since a signal handler
            that sets one may have interrupted this very thread inside the event's lock.
    """
    for _ in _ticks(root, is_over, clock):
        now = snapshot(root)
        yield {file for file in before.keys() | now.keys() if before.get(file) != now.get(file)}
        before = now


def snapshot(root: Path) -> Snapshot:
    """Return time and size of each file that matters."""
    base = os.path.realpath(root)
    found: Snapshot = {
        source.file: (source.mtime_ns, source.size)
        for source in Walker(base, IgnoreRules()).files()
    }
    for name in _CONFIGURATION:
        try:
            status = os.stat(os.path.join(base, name))
        except OSError:  # most projects have not all of them
            continue
        found[name] = (status.st_mtime_ns, status.st_size)
    return found


def _ticks(root: Path, is_over: Callable[[], bool], clock: Clock) -> Iterator[None]:
    """Yield whenever it is time to look again."""
    if find_spec("watchfiles") is None:
        clock.sleep(_POLL_SECS)
        while not is_over():
            yield
            clock.sleep(_POLL_SECS)
        return
    watchfiles: Any = import_module("watchfiles")
    stop_event = SimpleNamespace(is_set=is_over)
    told = watchfiles.watch(
        root, stop_event=stop_event, rust_timeout=500, yield_on_timeout=True, raise_interrupt=False
    )
    for _ in told:
        yield
