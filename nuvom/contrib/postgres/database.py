"""One PostgreSQL store as a process uses it: its connections, statements and errors.

Every statement may be repeated: after a cut connection nobody knows whether its commit happened. So
a call goes on trying, on new connections, for ``CONNECT_SECS``; then it fails and has done nothing
or all of its work.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from nuvom.contrib.postgres.arrays import register_arrays
from nuvom.contrib.postgres.migration import VERSION, migrate, qualified
from nuvom.contrib.postgres.protocol import only_result
from nuvom.core.clock import StoreClock
from nuvom.core.views import Migration
from nuvom.errors import BackendUnavailable, InvalidSetting, NuvomError, QueueFull, StorageFull
from nuvom.host.fork import drop_at_fork
from nuvom.queue_backends.server import CONNECT_SECS, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from psycopg.pq.abc import PGresult

    from nuvom.config.settings import Settings
    from nuvom.contrib.postgres.protocol import RawCall
    from nuvom.core.clock import Clock
    from nuvom.core.record import JobRecord

_IDLE = TransactionStatus.IDLE
_UNMIGRATED = (errors.InvalidSchemaName, errors.UndefinedTable, errors.UndefinedFunction)
# How long a link may lose everything until a connection over it counts as cut. Without them a call
# whose packets are lost waits for a quarter of an hour.
_LIMITS = {
    "connect_timeout": int(CONNECT_SECS),
    "tcp_user_timeout": int(CONNECT_SECS * 1000),
    "keepalives_idle": int(CONNECT_SECS),
    "keepalives_interval": 1,
    "keepalives_count": int(CONNECT_SECS),
}
_COMMIT = "SELECT set_config('synchronous_commit', %s, %s)"
_FULL = "NV001"  # what the server's ``enqueue`` raises
_VACUUM = """VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF, SKIP_LOCKED)
    nuvom.waiting, nuvom.running"""
_MIGRATE = "Run `nuvom migrate` with a role that may create tables in this schema."

Answer = TypeVar("Answer")
Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.Cursor[tuple[Any, ...]]


class PostgresDatabase:
    """A store: one schema of a database.

    Args:
        settings: ``postgres_dsn``, ``postgres_schema``, ``durability`` and ``lease_secs``.

    Attributes:
        schema: The name of the schema.
        commit: The value of ``synchronous_commit`` for jobs and their ends.
        is_pooled: Whether a pooler was between this process and the server at the last connection.
        clock: The server's, unless a test has given another.
        shared_channel: What all sleeping workers listen to, for those who store a job in a
            transaction of their own.
    Raises: InvalidSetting: there is no ``postgres_dsn``.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        if not settings.postgres_dsn:
            expected = "the address of a server, such as postgresql://user@host/database"
            raise InvalidSetting("postgres_dsn", None, expected, origin="not set")
        self.dsn = str(settings.postgres_dsn)
        given = psycopg.conninfo.conninfo_to_dict(self.dsn)
        self._limits: dict[str, Any] = {k: v for k, v in _LIMITS.items() if k not in given}
        self.schema = settings.postgres_schema
        self._lease_secs = settings.lease_secs
        self.shared_channel = f"nuvom_{self.schema}"
        self.commit = "on" if settings.durability == "full" else "off"
        self.clock = clock or StoreClock(self.control_version)
        self._has_test_clock = clock is not None
        self._statements: dict[tuple[str, int], Any] = {}
        self._prepared: WeakKeyDictionary[Connection, set[bytes]] = WeakKeyDictionary()
        self._store_id: str | None = None
        self._control_version = 0
        self.is_pooled = False
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Forget the parent's connections, which a child must neither use nor close."""
        self._idle: list[Connection] = []

    @property
    def test_now(self) -> float | None:
        """The time in a test, None where it is the server's."""
        return self.clock.now() if self._has_test_clock else None

    @property
    def commit_of_call(self) -> str | None:
        """The ``synchronous_commit`` to set for a call, None where the connection has it.

        Behind a pooler, a connection may be another client's the next time.
        """
        return self.commit if self.is_pooled else None

    @property
    def folder_name(self) -> str:
        """A name for what this machine keeps about the store."""
        text = f"{self.dsn} {self.schema}".encode()
        return f"postgres-{blake2b(text, digest_size=6).hexdigest()}"

    # ---- calls ------------------------------------------------------------------------------

    def rows(self, function: str, *values: Any) -> list[tuple[Any, ...]]:
        """Call a function of ``functions.sql`` in a transaction of its own; return its rows."""
        return self.attempt(lambda connection: self.rows_in(connection, function, *values))

    def call(self, function: str, *values: Any) -> Any:
        """Call a function that returns one value, and return that."""
        ((answer,),) = self.rows(function, *values)
        return answer

    def rows_in(self, connection: Connection, function: str, *values: Any) -> list[tuple[Any, ...]]:
        """Call a function in the caller's transaction and return its rows."""
        statement = self.statement(function, len(values))
        return connection.execute(statement, values, binary=True).fetchall()

    def each_in(
        self, connection: Connection, function: str, calls: Sequence[Sequence[Any]]
    ) -> list[Any]:
        """Call a function in the caller's transaction once for each of ``calls``, all at once."""
        if len(calls) == 1:
            return [self.rows_in(connection, function, *calls[0])[0][0]]
        statement = self.statement(function, len(calls[0]) if calls else 0)
        answers: list[Any] = []
        failures: list[psycopg.Error] = []
        try:
            with connection.pipeline(), _noting(failures):
                cursors = [connection.execute(statement, one, binary=True) for one in calls]
                answers = [cursor.fetchall()[0][0] for cursor in cursors]
        except psycopg.Error as error:
            failures.append(error)
        if failures:
            raise failures[0]
        return answers

    def run(self, call: RawCall, *values: Any) -> PGresult:
        """Do as ``call`` with a prepared call, which commits by itself if it is of a procedure."""
        return self.attempt(lambda connection: self._send_on(connection, call, values)())

    def transaction(self, work: Callable[[Connection], Answer]) -> Answer:
        """Do all of ``work`` or nothing, and return what it returns. It may be called again."""

        def run(connection: Connection) -> Answer:
            with connection.transaction():
                if self.is_pooled:
                    connection.execute(_COMMIT, (self.commit, True))
                return work(connection)

        return self.attempt(run)

    def statement(self, function: str, count: int) -> Any:
        """Return the statement that calls a function with so many values."""
        key = function, count
        if key not in self._statements:
            values = ", ".join(["%s"] * count)
            statement = f"SELECT * FROM nuvom.{function}({values})"  # noqa: S608  # names of ours
            self._statements[key] = qualified(statement, self.schema)
        return self._statements[key]

    def attempt(self, work: Callable[[Connection], Answer]) -> Answer:
        """Lend a connection to ``work``, again and again while the server cannot be reached.

        Raises: BackendUnavailable, StorageFull.
        """

        def run() -> Answer:
            with self._connection() as connection:
                return work(connection)

        return self.reach(run)

    @contextmanager
    def sent(self, call: RawCall, *values: Any) -> Iterator[Callable[[], PGresult]]:
        """Send a call that must not be repeated; the body waits for its result when it likes.

        Raises: BackendUnavailable, StorageFull: what it does may have been committed.
        """
        with self.translated(), self._connection() as connection:
            yield self._send_on(connection, call, values)

    def _send_on(
        self, connection: Connection, call: RawCall, values: Sequence[Any]
    ) -> Callable[[], PGresult]:
        """Send a call; return what waits for its result."""
        pg = connection.pgconn
        known = None if self.is_pooled else self._prepared.setdefault(connection, set())
        call.send(pg, values, known)
        return partial(only_result, pg)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise BackendUnavailable or StorageFull in place of errors of the library."""
        try:
            yield
        except psycopg.Error as error:
            raise self.failure(error) from error

    def reach(self, work: Callable[[], Answer]) -> Answer:
        """Call ``work`` again and again while the server cannot be reached.

        Raises: BackendUnavailable, StorageFull.
        """
        return reach(
            work,
            errors=(psycopg.Error,),
            may_pass=_may_pass,
            failure=self.failure,
            lease_secs=self._lease_secs,
        )

    # ---- connections ------------------------------------------------------------------------

    def connect(self) -> Connection:
        """Return a new connection, checked to be to the right store; the caller closes it.

        Raises: psycopg.Error, BackendUnavailable.
        """
        connection = psycopg.connect(
            self.dsn, autocommit=True, client_encoding="utf8", **self._limits
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close all connections that nobody uses. Safe to call twice."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Lend a connection; it is kept for the next call unless it is broken."""
        try:
            connection = self._idle.pop()
        except IndexError:  # all are in use
            connection = self.connect()
        try:
            yield connection
        except BaseException:
            if connection.broken or connection.info.transaction_status != _IDLE:
                connection.close()
                self.close()  # a restart of the server breaks all
            else:
                self._idle.append(connection)
            raise
        self._idle.append(connection)

    def _prepare(self, connection: Connection) -> None:
        """Make a new connection ready, unless it leads to another store than before."""
        register_arrays(connection)
        self.is_pooled = is_pooled(connection)
        # Behind a pooler, prepared statements may be another client's.
        connection.prepare_threshold = None if self.is_pooled else 0
        if not self.is_pooled:
            connection.execute(_COMMIT, (self.commit, False))
        seen = self._control_version  # before the answer, or a late one would look like an old copy
        try:
            row = connection.execute(self.statement("who", 0)).fetchone()
        except _UNMIGRATED as error:
            raise BackendUnavailable(self, "it has no tables yet", _MIGRATE) from error
        if row is None:
            raise BackendUnavailable(self, "its tables are empty", _MIGRATE)
        store_id, version, control, now = row
        if version != VERSION:
            raise BackendUnavailable(self, *_other_version(version))
        if self._store_id not in (None, store_id) or control < seen:
            raise BackendUnavailable(
                self,
                "this is not the store that this process has worked with, or an older copy of it",
                "Have the address lead to the right server. If the old store is gone for good, "
                "restart the workers: jobs that only it knew are lost.",
            )
        self._store_id = store_id
        self._saw(control, now)

    def migrate(self, *, dry_run: bool) -> Migration:
        """Bring the tables to the version of this code. Raises: BackendUnavailable."""
        with self.translated():
            before, statements = migrate(self.dsn, self.schema, dry_run=dry_run)
        return Migration(str(self), before, max(before, VERSION), tuple(statements))

    def control_version(self) -> int:
        """Return a number of the store that never goes back. Raises: BackendUnavailable."""
        ((_, _, version, now),) = self.rows("who")
        self._saw(version, now)
        return int(version)

    def _saw(self, version: int, now: float) -> None:
        self._control_version = max(self._control_version, version)
        self.saw_time(now)

    def saw_time(self, now: float) -> None:
        """Note the server's time."""
        if isinstance(self.clock, StoreClock):
            self.clock.set(now)

    def vacuum(self) -> None:
        """Remove what claims have left in the tables that jobs pass through.

        Every claim would read past it until autovacuum comes, which looks once a minute. Only the
        owner of the tables may do it, and from PostgreSQL 17 on who has been granted MAINTAIN.

        Raises: BackendUnavailable.
        """
        if self.call("may_vacuum"):
            statement = qualified(_VACUUM, self.schema)
            self.attempt(lambda connection: connection.execute(statement))

    def __str__(self) -> str:
        """Name the store without its password."""
        known = psycopg.conninfo.conninfo_to_dict(self.dsn)
        place = f"{known.get('host', 'localhost')}:{known.get('port', 5432)}"
        return f"postgresql://{place}/{known.get('dbname', '')}, schema {self.schema}"

    # ---- errors -----------------------------------------------------------------------------

    def failure(self, error: Exception) -> Exception:
        """Return the error that tells a caller what has happened, and what to do."""
        if isinstance(error, NuvomError):
            return error
        if isinstance(error, psycopg.OperationalError) and _is_cut(error):
            return self._unreachable(error)
        if isinstance(error, psycopg.Error) and error.sqlstate == _FULL:
            limit = int(error.diag.message_hint or 0)
            return QueueFull(error.diag.message_detail or "", limit, limit)
        if isinstance(error, errors.DiskFull):
            return StorageFull(str(self), _first_line(error))
        if isinstance(error, _UNMIGRATED):
            return BackendUnavailable(self, _first_line(error), _MIGRATE)
        if isinstance(error, errors.LockNotAvailable):
            reason = "another transaction has held a lock on its tables for too long"
            return BackendUnavailable(self, reason, "End what was left open, and try again.")
        return BackendUnavailable(self, _first_line(error))

    def _unreachable(self, error: Exception) -> BackendUnavailable:
        return BackendUnavailable(
            self,
            f"the server cannot be reached ({_first_line(error)})",
            "Start it, or correct postgres_dsn. Workers go on trying; a call that failed has to "
            "be repeated, and it then takes effect once.",
        )


@contextmanager
def _noting(failures: list[psycopg.Error]) -> Iterator[None]:
    """Keep an error from leaving a pipeline, which would log a warning about it."""
    try:
        yield
    except psycopg.Error as error:
        failures.append(error)


def is_pooled(connection: Connection) -> bool:
    """Whether a pooler such as PgBouncer is between this process and the server.

    A pooler makes up the process id that it gives to its clients.
    """
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] != connection.info.backend_pid


def lock_keys(
    connection: Connection, jobs: Iterable[JobRecord], queues: Iterable[str] = ()
) -> None:
    """Lock what several jobs have to be alone with, in one order, or two callers would deadlock."""
    keys = {key_number(one) for one in jobs if one.unique_key is not None}
    names = sorted(queues)
    if keys:
        statement = "SELECT pg_advisory_xact_lock(k) FROM unnest(%s::bigint[]) AS k"
        connection.execute(statement, (sorted(keys),))
    if names:
        statement = """SELECT pg_advisory_xact_lock(hashtextextended('nuvom queue ' || q, 0))
            FROM unnest(%s::text[]) AS q"""
        connection.execute(statement, (names,))


def key_number(job: JobRecord) -> int:
    """Return a number that stands for a job's unique key, for an advisory lock."""
    text = f"{job.func_name}\0{job.unique_key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


def _may_pass(error: psycopg.Error) -> bool:
    is_collision = isinstance(error, errors.DeadlockDetected | errors.SerializationFailure)
    return is_collision or (isinstance(error, psycopg.OperationalError) and _is_cut(error))


def _is_cut(error: psycopg.OperationalError) -> bool:
    """Whether the connection is gone, or could not be made, for a reason that may pass."""
    state = error.sqlstate or "08000"  # without one the server was not reached at all
    return state[:2] in ("08", "57", "53") and not isinstance(error, errors.DiskFull)


def _other_version(version: int) -> tuple[str, str]:
    if version < VERSION:
        return f"its tables are of an earlier version ({version}, not {VERSION})", _MIGRATE
    return (
        f"its tables are of a later version ({version}, not {VERSION})",
        "Use a version of Nuvom that knows them: pip install --upgrade nuvom",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
