"""The connections that are of one purpose: to be woken, and to tell which jobs are about to start.

Who goes to sleep says so in the table ``sleepers``; whoever has stored something notifies those who
sleep, and nobody else: see ``ring`` in ``functions.sql``. Behind a pooler that keeps no connection
for us, LISTEN hears nothing, so that sleepers look themselves, every ``POLL_SECS``, and schedulers
every ``SCHEDULE_POLL_SECS``.
"""

from __future__ import annotations

import selectors
import socket
from collections import deque
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

from psycopg import pq

from nuvom.contrib.postgres.arrays import int8s
from nuvom.contrib.postgres.database import is_pooled
from nuvom.contrib.postgres.migration import qualified
from nuvom.contrib.postgres.protocol import next_result
from nuvom.core.ids import new_id
from nuvom.host.sleepers import SCHEDULES, WORK, SleeperPool

if TYPE_CHECKING:
    from collections.abc import Container

    from nuvom.contrib.postgres.database import PostgresDatabase

POLL_SECS = 0.25
SCHEDULE_POLL_SECS = 5.0  # a scheduler knows when to wake; it only looks for schedules that are new
_CLEAN_EVERY = 16  # marks, after which those of ended jobs are removed
_MARK = "SELECT nuvom.mark($1, $2, $3)"
_UNMARK = "SELECT nuvom.unmark($1, $2)"


class PostgresListener:
    """One thread's place to sleep. Only ``poke`` may be called by others.

    Args:
        kind: ``work``, ``results`` or ``schedules``.
    """

    def __init__(self, database: PostgresDatabase, kind: str) -> None:
        self._database = database
        self._kind = kind
        self._channel = f"nuvom_{new_id().replace('-', '')}"
        self._is_armed = False
        self._open = ExitStack()
        try:
            self._connection = self._open.enter_context(closing(database.connect()))
            self._near, self._far = map(self._open.enter_context, socket.socketpair())
            self._selector = self._open.enter_context(selectors.DefaultSelector())
            self._near.setblocking(False)
            self._far.setblocking(False)
            self._selector.register(self._near, selectors.EVENT_READ)
            self._is_deaf = is_pooled(self._connection)
            if not self._is_deaf:
                self._selector.register(self._connection.fileno(), selectors.EVENT_READ)
                shared = (database.shared_channel,) if kind == WORK else ()
                for channel in (self._channel, *shared):
                    self._connection.execute(f'LISTEN "{channel}"')
        except BaseException:
            self.close()
            raise

    def is_usable(self) -> bool:
        """Whether its connection is still there, as far as is known."""
        return not self._connection.closed

    def arm(self) -> None:
        """Have others notify this listener from now on. Raises: psycopg.Error."""
        if not self._is_armed and not self._is_deaf:
            self._call("fall_asleep", self._channel, self._kind)
            self._is_armed = True

    def disarm(self) -> None:
        """Have nobody notify it. Raises: psycopg.Error."""
        if self._is_armed:
            self._call("wake_up", self._channel)
            self._hear()
            self._is_armed = False

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until notified or poked, at most ``timeout`` seconds; armed again afterwards.

        Returns: True when there may be news.
        Raises: psycopg.Error: the connection is cut.
        """
        if self._is_deaf:
            poll_secs = SCHEDULE_POLL_SECS if self._kind == SCHEDULES else POLL_SECS
            timeout = poll_secs if timeout is None else min(timeout, poll_secs)
        ready = [key.fileobj for key, _ in self._selector.select(timeout)]
        if self._near in ready:
            with suppress(BlockingIOError):
                self._near.recv(4096)
        is_rung = bool(ready) and self._hear()
        if is_rung:
            self._is_armed = False  # by whoever has notified it
            if self._kind != WORK:
                self.arm()
        return self._is_deaf or bool(ready)

    def poke(self) -> None:
        """End its sleep."""
        with suppress(OSError):  # it is full, so the listener will wake anyway, or closed
            self._far.send(b"\0")

    def close(self) -> None:
        """Give everything back."""
        self._open.close()

    def _hear(self) -> bool:
        """Whether this listener was notified since it was last asked."""
        heard = [one.channel for one in self._connection.notifies(timeout=0)]
        return self._channel in heard

    def _call(self, function: str, *values: str) -> None:
        self._database.rows_in(self._connection, function, *values)


def listeners(database: PostgresDatabase) -> SleeperPool[PostgresListener]:
    """Return the listeners of one process at a store."""
    return SleeperPool(lambda kind: database.reach(lambda: PostgresListener(database, kind)))


class PostgresMarkSender:
    """A connection that carries the marks of one worker and never waits to send.

    Attributes:
        sent: What is on its way.
    """

    def __init__(self, database: PostgresDatabase, owner: str) -> None:
        self._connection = database.connect()
        try:
            ((self._number,),) = database.rows_in(self._connection, "last_mark", owner)
            self._pg = self._connection.pgconn
            self._mark, self._unmark = (
                qualified(one, database.schema).encode() for one in (_MARK, _UNMARK)
            )
            self._owner = owner.encode()
            self._open: deque[tuple[int, list[int]]] = deque()
            self._flying: deque[list[int]] = deque()
            self.sent: set[int] = set()
            self._pg.enter_pipeline_mode()
        except BaseException:
            self.close()
            raise

    def send(self, refs: list[int], running: Container[int]) -> None:
        """Send one mark for these jobs; now and then, remove those that only ended jobs need."""
        self._number += 1
        self._open.append((self._number, refs))
        self.sent.update(refs)
        self._query(self._mark, [self._owner, _int8(self._number), int8s(refs)], refs)
        if self._number % _CLEAN_EVERY == 0:
            while self._open and not any(ref in running for ref in self._open[0][1]):
                self._open.popleft()
            least = self._open[0][0] if self._open else self._number + 1
            self._query(self._unmark, [self._owner, _int8(least)], [])
        self._pg.flush()

    def acknowledged_until(self, ref: int) -> list[int]:
        """Wait until a job that was sent is acknowledged; return all that are by then."""
        known: list[int] = []
        while ref in self.sent:
            refs = self._answer()
            self.sent.difference_update(refs)
            known += refs
        return known

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _query(self, statement: bytes, values: list[bytes], refs: list[int]) -> None:
        self._flying.append(refs)
        self._pg.send_query_params(
            statement,
            values,
            param_types=[25, 20, 1016][: len(values)],
            param_formats=[1] * len(values),
        )
        self._pg.pipeline_sync()

    def _answer(self) -> list[int]:
        """Wait for the answer to the earliest statement in flight; return its jobs."""
        while True:
            result = next_result(self._pg)
            if result is not None and result.status == pq.ExecStatus.PIPELINE_SYNC:
                return self._flying.popleft()


def _int8(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)
