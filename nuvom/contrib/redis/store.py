"""One Redis store as a process uses it: its connections, scripts and errors.

Every script may be repeated: after a cut connection nobody knows whether it ran. So a call goes on
trying, on new connections, for ``CONNECT_SECS``; then it fails and has done nothing or all of its
work.
"""

from __future__ import annotations

import re
from collections import deque
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b, sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from hiredis import pack_command
from redis import exceptions as errors
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.retry import Retry

from nuvom.contrib.redis.rows import mark_of, seq_of
from nuvom.core.clock import StoreClock
from nuvom.core.ids import new_id
from nuvom.errors import BackendUnavailable, InvalidSetting, NuvomError, StorageFull
from nuvom.host.fork import drop_at_fork
from nuvom.queue_backends.server import CONNECT_SECS, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock

VERSION = 1
"""The version of the keys that this code works with."""

_HEADING = re.compile(r"^--@ (\w+)\n", re.MULTILINE)
_DEFINITION = re.compile(r"^(?=local )", re.MULTILINE)
_DEFINED = re.compile(r"local (?:function )?([\w, ]+)")
_WORD = re.compile(r"\w+")
# What a server answers while it starts, or while another one takes its place. Redis 6 says so of a
# script within a longer text.
_PASSING = (errors.ReadOnlyError, errors.ClusterDownError, errors.TryAgainError)
_PASSING_WORDS = ("READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY Redis", "NOREPLICAS")
_CUT = (errors.ConnectionError, errors.TimeoutError, OSError)
_REFUSED = (errors.AuthenticationError, errors.AuthorizationError)

Answer = TypeVar("Answer")
Connection = Any
"""One of redis, which declares no types for it."""


@cache
def scripts() -> Mapping[str, tuple[bytes, bytes]]:
    """Return the scripts of ``scripts.lua`` by name, each with the server's digest of it."""
    text = files(__package__).joinpath("scripts.lua").read_text(encoding="utf-8")
    _, _, common, *parts = _HEADING.split(text)
    found = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        whole = _with_definitions(body, common).encode()
        found[name] = whole, sha1(whole, usedforsecurity=False).hexdigest().encode()
    return found


def _with_definitions(body: str, common: str) -> str:
    """Return a script with those of the common definitions that it uses.

    The server makes each function of a script anew at every call.
    """
    used = set(_WORD.findall(body))
    for definition in reversed(_DEFINITION.split(common)):  # a later one may use an earlier one
        names = _DEFINED.match(definition)
        if names and not used.isdisjoint(_WORD.findall(names[1])):
            used.update(_WORD.findall(definition))
            body = definition + body
    return body


class RedisStore:
    """A store: all keys of a server that begin with one tag.

    Args:
        settings: ``redis_url``, ``redis_prefix`` and ``lease_secs``.

    Attributes:
        clock: The server's, unless a test has given another.
        tag: What every key begins with. A cluster keeps all keys with one tag on one server.
    Raises: InvalidSetting: there is no ``redis_url``, or it is none.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._url = settings.redis_url or ""
        self._prefix = settings.redis_prefix
        self._lease_secs = settings.lease_secs
        self.tag = f"{{{self._prefix}}}:".encode()
        try:
            pool = ConnectionPool.from_url(self._url, socket_timeout=CONNECT_SECS)
        except ValueError as error:
            expected = "the address of a server, such as redis://host:6379/0"
            origin = "set" if self._url else "not set"
            raise InvalidSetting("redis_url", None, expected, origin=origin) from error
        options = {
            **pool.connection_kwargs,
            "socket_connect_timeout": CONNECT_SECS,
            "protocol": 2,
            "decode_responses": False,
            "retry": Retry(NoBackoff(), 0),  # ``reach`` does it
        }
        host, port = options.get("host") or "localhost", options.get("port") or 6379
        where = options.get("path") or f"{host}:{port}"
        self._text = f"redis://{where}/{options.get('db') or 0}, prefix {self._prefix}"
        self._make: Callable[[], Connection] = lambda: pool.connection_class(**options)
        self.clock = clock or StoreClock(self.control_version)
        self._has_test_clock = clock is not None
        self._store_id: bytes | None = None
        self._control_version = 0
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Forget the parent's connections, which a child must neither use nor close."""
        self._idle: list[Connection] = []

    @property
    def test_now(self) -> bytes:
        """The time in a test, empty where it is the server's."""
        return repr(self.clock.now()).encode() if self._has_test_clock else b""

    def saw_time(self, secs: bytes, micros: bytes) -> None:
        """Note the server's time."""
        if isinstance(self.clock, StoreClock):
            self.clock.set(int(secs) + int(micros) / 1e6)

    @property
    def folder_name(self) -> str:
        """A name for what this machine keeps about the store, the same for the same store."""
        text = f"{self._url} {self._prefix}".encode()
        return f"redis-{blake2b(text, digest_size=6).hexdigest()}"

    # ---- calls ------------------------------------------------------------------------------

    def run(self, name: str, *values: bytes) -> Any:
        """Run a script, again and again while the server cannot be reached; return its answer.

        Raises: BackendUnavailable, StorageFull.
        """
        return self.reach(lambda: self._run(name, values))

    @contextmanager
    def sent(self, name: str, *values: bytes) -> Iterator[Callable[[], Any]]:
        """Send a script that must not be repeated; the body waits for its answer when it likes.

        Raises: BackendUnavailable, StorageFull: it may have run.
        """
        with self.translated(), self._connection() as connection:
            yield self._send_on(connection, name, values)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise BackendUnavailable or StorageFull in place of errors of the library."""
        try:
            yield
        except (errors.RedisError, OSError) as error:
            raise self.failure(error) from error

    def command(self, *values: bytes) -> Any:
        """Do as ``run`` with a command of the server."""
        return self.reach(lambda: self._ask(values))

    def _ask(self, values: Iterable[bytes]) -> Any:
        with self._connection() as connection:
            return ask(connection, *values)

    def _run(self, name: str, values: tuple[bytes, ...]) -> Any:
        with self._connection() as connection:
            return self._run_on(connection, name, values)

    def _run_on(self, connection: Connection, name: str, values: Iterable[bytes]) -> Any:
        return self._send_on(connection, name, values)()

    def _send_on(
        self, connection: Connection, name: str, values: Iterable[bytes]
    ) -> Callable[[], Any]:
        """Send a script; return what waits for its answer."""
        text, digest = scripts()[name]
        given = (b"1", self.tag, self.test_now, *values)
        send(connection, b"EVALSHA", digest, *given)

        def receive() -> Any:
            try:
                return connection.read_response()
            except errors.NoScriptError:  # the server has been started since, or is new to it
                return ask(connection, b"EVAL", text, *given)

        return receive

    def reach(self, work: Callable[[], Answer]) -> Answer:
        """Call ``work`` again and again while the server cannot be reached.

        Raises: BackendUnavailable, StorageFull.
        """
        return reach(
            work,
            errors=(errors.RedisError, OSError),
            may_pass=_may_pass,
            failure=self.failure,
            lease_secs=self._lease_secs,
        )

    # ---- connections ------------------------------------------------------------------------

    def connect(self) -> Connection:
        """Return a new connection, checked to be to the right store; the caller closes it.

        Raises: redis.RedisError, OSError, BackendUnavailable.
        """
        connection = self._make()
        try:
            connection.connect()
            self._check(connection)
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def close(self) -> None:
        """Close all connections that nobody uses. Safe to call twice."""
        while self._idle:
            self._idle.pop().disconnect()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Lend a connection; it is kept for the next call unless it is broken."""
        try:
            connection = self._idle.pop()
        except IndexError:  # all are in use
            connection = self.connect()
        try:
            yield connection
        except errors.ResponseError:  # it was read to its end
            self._idle.append(connection)
            raise
        except BaseException as error:
            connection.disconnect()
            if isinstance(error, _CUT):
                self.close()  # a restart of the server breaks all
            raise
        self._idle.append(connection)

    def _check(self, connection: Connection) -> None:
        """Look who the store is, and what time it has."""
        known = self._store_id, self._control_version  # before: other threads may see later ones
        new = new_id().encode() if known[0] is None else b""
        store_id, version, control, *time = self._run_on(connection, "open", (new,))
        self._compare(known, (store_id, control))
        if version != VERSION:
            reason = f"its keys are of another version ({version}, not {VERSION})"
            repair = "Use a version of Nuvom that knows them: pip install --upgrade nuvom"
            raise BackendUnavailable(self, reason, repair)
        self.saw_time(*time)

    def id_of(self, ref: int) -> str:
        """Return the id of the job that a ``ref`` belongs to."""
        seq = str(seq_of(ref)).encode()
        ids = self.command(b"ZRANGEBYSCORE", self.tag + b"all", seq, seq)
        return ids[0].decode() if ids else ""

    def control_version(self) -> int:
        """Return a number of the store that never goes back. Raises: BackendUnavailable."""
        known = self._store_id, self._control_version
        store_id, control = self.command(b"HMGET", self.tag + b"store", b"id", b"control")
        self._compare(known, (store_id, int(control or 0)))
        return int(control or 0)

    def _compare(self, known: tuple[bytes | None, int], found: tuple[bytes | None, int]) -> None:
        """Note who the store is, unless it is another one than was known."""
        if known[0] in (None, found[0]) and found[1] >= known[1]:
            self._store_id = found[0]
            self._control_version = max(self._control_version, found[1])
            return
        raise BackendUnavailable(
            self,
            "this is not the store that this process has worked with, or an older copy of it",
            "Have redis_url lead to the right server. If the old store is gone for good, restart "
            "the workers: jobs that only it knew are lost.",
        )

    def __str__(self) -> str:
        """Name the store without its password."""
        return self._text

    # ---- errors -----------------------------------------------------------------------------

    def failure(self, error: Exception) -> Exception:
        """Return the error that tells a caller what has happened, and what to do."""
        if isinstance(error, NuvomError):
            return error
        if isinstance(error, errors.OutOfMemoryError) or "OOM command" in str(error):
            return StorageFull(str(self), "the server has reached its maxmemory")
        if isinstance(error, (*_REFUSED, errors.NoPermissionError)):
            repair = "Correct redis_url, or the rights of its user: docs/redis.md lists them."
            return BackendUnavailable(self, _first_line(error), repair)
        if not _may_pass(error):
            return BackendUnavailable(self, _first_line(error))
        return BackendUnavailable(
            self,
            f"the server cannot be reached ({_first_line(error)})",
            "Start it, or correct redis_url. Workers go on trying; a call that failed has to be "
            "repeated, and it then takes effect once.",
        )


class MarkSender:
    """A connection that carries the start marks of one worker and never waits to send.

    Attributes:
        sent: What is on its way.
    """

    def __init__(self, store: RedisStore, owner: str) -> None:
        self._key = store.tag + b"started:" + owner.encode()
        self._flying: deque[list[int]] = deque()
        self.sent: set[int] = set()
        self._connection = store.connect()

    def send(self, refs: list[int], running: Container[int]) -> None:
        """Send one mark for each of these deliveries. Raises: redis.RedisError, OSError."""
        del running  # whatever ends a delivery removes its mark
        self.sent.update(refs)
        self._flying.append(refs)
        send(self._connection, b"SADD", self._key, *map(mark_of, refs))

    def acknowledged_until(self, ref: int) -> list[int]:
        """Wait until a delivery that was sent is acknowledged; return all that are by then."""
        known: list[int] = []
        while ref in self.sent:
            self._connection.read_response()
            refs = self._flying.popleft()
            self.sent.difference_update(refs)
            known += refs
        return known

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


def ask(connection: Connection, *values: bytes) -> Any:
    """Send a command and return the answer. Raises: redis.RedisError, OSError."""
    send(connection, *values)
    return connection.read_response()


def send(connection: Connection, *values: bytes) -> None:
    """Send a command without waiting for the answer. Raises: redis.RedisError, OSError."""
    # The library would look at each value first, which takes longer than the rest.
    packed = pack_command(values)  # type: ignore[arg-type]  # its stub knows a single value only
    connection.send_packed_command([packed])


def _may_pass(error: Exception) -> bool:
    """Whether the server could not be reached for a reason that may pass."""
    if isinstance(error, errors.ResponseError):
        text = str(error)
        return isinstance(error, _PASSING) or any(word in text for word in _PASSING_WORDS)
    return isinstance(error, _CUT) and not isinstance(error, _REFUSED)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
