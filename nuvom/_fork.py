"""Lets objects give up what a forked child must not keep: locks, sockets, connections.

A child inherits the descriptors of its parent. Kept open, they hold the parent's lock after its
death and take datagrams meant for it.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Droppable(Protocol):
    """Something with a ``drop_in_child``; it must be hashable and weakly referable."""

    def drop_in_child(self) -> None:
        """Close inherited descriptors without any effect on the parent."""
        ...


# Hooks of ``register_at_fork`` cannot be removed, so one hook serves all objects that still live.
_droppables: WeakSet[Droppable] = WeakSet()


def drop_at_fork(thing: Droppable) -> None:
    """Have ``thing.drop_in_child()`` called in every forked child from now on."""
    _droppables.add(thing)


def _drop_all() -> None:
    for thing in tuple(_droppables):
        thing.drop_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_all)
