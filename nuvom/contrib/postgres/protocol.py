"""Statements that are sent without waiting for their answers, in libpq's own terms.

``PGconn.get_result`` would wait too, but keeps Python's global lock while it does, so that no other
thread could run.
"""

from __future__ import annotations

import select
import sys
from functools import partial
from struct import Struct, iter_unpack
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from nuvom.contrib.postgres.arrays import Byteas, Floats, Int8s, Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.pq.abc import PGconn, PGresult

_ARRAY_HEAD = 20  # bytes; see ``arrays``
_ANSWERS = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.PIPELINE_SYNC)
_TYPES: dict[str, tuple[int, Callable[[Any], bytes]]] = {  # the server's numbers, and how to pack
    "bool": (16, Struct("!?").pack),
    "bytea": (17, bytes),
    "int4": (23, Struct("!i").pack),
    "text": (25, str.encode),
    "float8": (701, Struct("!d").pack),
    **{f"{kind.name}[]": (kind.oid, bytes) for kind in (Byteas, Floats, Int8s, Texts)},
}


class RawCall:
    """A call of a function of the server, prepared once on each connection.

    psycopg would look at each value first, which takes longer than a short call itself.

    Args:
        name: What it is prepared as.
        text: The statement.
        types: Names of the types of its values, with spaces between them.
    """

    def __init__(self, name: str, text: str, types: str) -> None:
        self._name = name.encode()
        self._text = text.encode()
        self._oids, self._packers = zip(*(_TYPES[one] for one in types.split()), strict=True)
        self._formats = [pq.Format.BINARY] * len(self._oids)

    def send(self, pg: PGconn, values: Sequence[Any], prepared: set[bytes] | None) -> None:
        """Send it.

        Args:
            prepared: The names of what is prepared on the connection; None where nothing can be.
        Raises: psycopg.Error.
        """
        packers = zip(self._packers, values, strict=True)
        packed = [None if value is None else pack(value) for pack, value in packers]
        binary = pq.Format.BINARY
        if prepared is None:
            pg.send_query_params(self._text, packed, self._oids, self._formats, binary)
        else:
            if self._name not in prepared:
                pg.send_prepare(self._name, self._text, self._oids)
                only_result(pg)
                prepared.add(self._name)
            pg.send_query_prepared(self._name, packed, self._formats, binary)
        pg.flush()


def only_result(pg: PGconn) -> PGresult:
    """Wait for the result of the statement that was sent. Raises: psycopg.Error."""
    try:
        *_, result = iter(partial(next_result, pg), None)
    except psycopg.Error:
        while pg.status == pq.ConnStatus.OK and next_result(pg) is not None:
            pass  # what follows an error belongs to it
        raise
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
