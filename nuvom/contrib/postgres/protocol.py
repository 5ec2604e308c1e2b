"""Statements that are sent without waiting for their answers, in libpq's own terms.

``PGconn.get_result`` would wait too, but keeps Python's global lock while it does, so that no other
thread could run.
"""

from __future__ import annotations

import select
import sys
from functools import partial
from struct import iter_unpack
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import pq

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.pq.abc import PGconn, PGresult

_ARRAY_HEAD = 20  # bytes; see ``arrays``
_ANSWERS = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.PIPELINE_SYNC)


class RawCall(NamedTuple):
    """A call of a function of the server.

    Attributes:
        name: What it is prepared as.
        text: The statement.
        types: The server's numbers for the types of its values.
    """

    name: bytes
    text: bytes
    types: Sequence[int]

    def prepare(self, pg: PGconn) -> None:
        """Prepare the statement on a connection. Raises: psycopg.Error."""
        pg.send_prepare(self.name, self.text, self.types)
        only_result(pg)

    def send(self, pg: PGconn, values: Sequence[bytes | None], *, is_prepared: bool) -> None:
        """Send it, with values in the binary format. Raises: psycopg.Error."""
        formats = [pq.Format.BINARY] * len(values)
        if is_prepared:
            pg.send_query_prepared(self.name, values, formats, pq.Format.BINARY)
        else:
            pg.send_query_params(self.text, values, self.types, formats, pq.Format.BINARY)
        pg.flush()


def only_result(pg: PGconn) -> PGresult:
    """Wait for the result of the statement that was sent. Raises: psycopg.Error."""
    *_, result = iter(partial(next_result, pg), None)
    return result


def unpacked(array: bytes, code: str) -> list[Any]:
    """Return the elements of an array without NULLs; ``code`` is that of ``struct`` for one."""
    return [value for _, value in iter_unpack(f"!i{code}", array[_ARRAY_HEAD:])]


def next_result(pg: PGconn) -> PGresult | None:
    """Wait for the next result; None follows the last one of a statement.

    Raises: psycopg.Error: the statement failed, or the connection is cut.
    """
    while (has_more := pg.flush()) or pg.is_busy():
        _wait(pg.socket, writes=bool(has_more))
        pg.consume_input()
    result = pg.get_result()
    if result is None:
        if pg.status != pq.ConnStatus.OK:
            raise psycopg.OperationalError("the connection is cut")
    elif result.status not in _ANSWERS:
        raise psycopg.errors.error_from_result(result)
    return result


def _wait(socket: int, *, writes: bool) -> None:
    """Wait until there is something to read or, with ``writes``, room to write."""
    if sys.platform == "win32":
        select.select([socket], [socket] if writes else [], [])
    else:  # ``select`` takes no file numbers above 1023
        poll = select.poll()
        poll.register(socket, select.POLLIN | (select.POLLOUT if writes else 0))
        poll.poll()
