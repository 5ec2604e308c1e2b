"""Sleeps on a connection of its own until somebody has stored a job, or a result.

Who goes to sleep notes its name in the set ``sleepers``; whoever has stored a job takes one name
away and publishes to it alone: see ``ring`` in ``scripts.lua``. The end of a job is published to
everyone who waits for results, an earlier fire of a schedule to all schedulers.
"""

from __future__ import annotations

import selectors
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from nuvom.contrib.redis.store import ask
from nuvom.core.ids import new_id
from nuvom.errors import BackendUnavailable
from nuvom.host.sleepers import WORK, SleeperPool

if TYPE_CHECKING:
    from nuvom.contrib.redis.store import RedisStore


class Subscriber:
    """One thread's place to sleep. Only ``poke`` may be called by others.

    Args:
        kind: ``work``, ``results`` or ``schedules``.
    """

    def __init__(self, store: RedisStore, kind: str) -> None:
        self._store = store
        self._name = new_id().encode()
        self._waits_for_work = kind == WORK
        self._is_armed = False
        self._channel = store.tag + (b"wake:" + self._name if kind == WORK else kind.encode())
        self._open = ExitStack()
        try:
            self._near, self._far = map(self._open.enter_context, socket.socketpair())
            self._selector = self._open.enter_context(selectors.DefaultSelector())
            self._near.setblocking(False)
            self._far.setblocking(False)
            self._connection = store.connect()
            self._open.callback(self._connection.disconnect)
            if self._waits_for_work:
                ask(self._connection, b"SUBSCRIBE", self._channel)
            self._selector.register(self._near, selectors.EVENT_READ)
            # redis has no public name for it, and only a socket can be waited for with another one.
            self._selector.register(self._connection._sock, selectors.EVENT_READ)  # noqa: SLF001
        except BaseException:
            self.close()
            raise

    def is_usable(self) -> bool:
        """Whether its connection is still there."""
        try:
            self._hear()
        except BackendUnavailable:
            return False
        return True

    def arm(self) -> None:
        """Have others wake this one from now on. Raises: BackendUnavailable."""
        if self._waits_for_work:
            self._is_armed = True  # first: who is not sure is armed
            self._store.run("sleep", self._name)
            return
        with self._store.translated():  # only while it is lent: else nobody reads what is published
            ask(self._connection, b"SUBSCRIBE", self._channel)

    def disarm(self) -> None:
        """Have nobody wake it. Raises: BackendUnavailable."""
        if self._waits_for_work:
            if self._is_armed:
                self._store.run("wake", self._name)
                self._hear()
            return
        with self._store.translated():
            self._connection.send_command(b"UNSUBSCRIBE", self._channel)
            while self._connection.read_response()[0] != b"unsubscribe":
                pass

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until woken or poked, at most ``timeout`` seconds.

        Returns: True when there may be news.
        Raises: BackendUnavailable: the connection is cut.
        """
        if self._hear():
            return True
        ready = [key.fileobj for key, _ in self._selector.select(timeout)]
        if self._near in ready:
            with suppress(BlockingIOError):
                self._near.recv(4096)
        if ready:
            self._hear()
        return bool(ready)

    def poke(self) -> None:
        """End its sleep."""
        with suppress(OSError):  # it is full, so it will wake anyway, or closed
            self._far.send(b"\0")

    def close(self) -> None:
        """Give everything back."""
        self._open.close()

    def _hear(self) -> bool:
        """Whether anything was published to this one since it was last asked."""
        has_heard = False
        with self._store.translated():
            while self._connection.can_read(timeout=0):
                self._connection.read_response()
                has_heard = True
        if has_heard:  # whoever published it has taken the name away
            self._is_armed = False
        return has_heard


def subscribers(store: RedisStore) -> SleeperPool[Subscriber]:
    """Return where threads of this process sleep until a store has news."""
    return SleeperPool(lambda kind: store.reach(lambda: Subscriber(store, kind)))
