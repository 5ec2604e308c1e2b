"""A queue on PostgreSQL: a check that ``StoreQueue`` is enough for a backend on a server.

It is complete, and knows no rule of a job's life; it is not tuned. Leases end by the clock that the
queue is given, so that laws can let time pass; a backend for production would ask the server's.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import msgspec
import psycopg
from msgspec import UNSET
from psycopg.rows import dict_row

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.ids import new_id, valid_name
from nuvom.core.outcome import Settlement
from nuvom.core.record import FINAL, Attempt, JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.core.transitions import Change, LostDelivery, Recovery
from nuvom.core.views import ErrorGroup, QueueStats, WorkerInfo
from nuvom.errors import BackendUnavailable, QueueFull, StorageFull
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.queue_backends.store import StoreQueue

SCHEMA = """
CREATE TABLE IF NOT EXISTS nuvom_jobs (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL UNIQUE,
    status text NOT NULL, queue text NOT NULL, priority int NOT NULL, task text NOT NULL,
    created_at float8 NOT NULL, run_at float8 NOT NULL, attempt int NOT NULL DEFAULT 0,
    deliveries int NOT NULL DEFAULT 0, lease_epoch bigint NOT NULL DEFAULT 0,
    suspect bool NOT NULL DEFAULT false, started bool NOT NULL DEFAULT false,
    settled bool NOT NULL DEFAULT false, owner text, lease_until float8, started_at float8,
    finished_at float8, keep_secs float8, unique_key text, unique_until float8, error_fp text,
    progress json, record bytea NOT NULL, result bytea, error bytea);
CREATE INDEX IF NOT EXISTS nuvom_ready ON nuvom_jobs (queue, suspect, priority, seq)
    WHERE status = 'PENDING';
CREATE INDEX IF NOT EXISTS nuvom_running ON nuvom_jobs (owner) WHERE status = 'RUNNING';
CREATE INDEX IF NOT EXISTS nuvom_parked ON nuvom_jobs (task) WHERE status = 'PARKED';
CREATE INDEX IF NOT EXISTS nuvom_failed ON nuvom_jobs (error_fp, seq) WHERE error_fp IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS nuvom_unique ON nuvom_jobs (task, unique_key)
    WHERE unique_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS nuvom_attempts (number bigserial PRIMARY KEY,
    job bigint NOT NULL REFERENCES nuvom_jobs (seq) ON DELETE CASCADE, body bytea NOT NULL);
CREATE INDEX IF NOT EXISTS nuvom_attempts_of ON nuvom_attempts (job);
CREATE TABLE IF NOT EXISTS nuvom_queues (name text PRIMARY KEY, paused_by text);
CREATE TABLE IF NOT EXISTS nuvom_workers (
    id text PRIMARY KEY, info bytea NOT NULL, beat float8 NOT NULL);
CREATE TABLE IF NOT EXISTS nuvom_commands (
    number bigserial PRIMARY KEY, worker text NOT NULL, word text NOT NULL);
CREATE SEQUENCE IF NOT EXISTS nuvom_control"""
SCHEMA_LOCK = "SELECT pg_advisory_xact_lock(7854301)"

FREE_KEY = """UPDATE nuvom_jobs SET unique_key = NULL WHERE task = %(task)s
    AND unique_key = %(key)s AND status = ANY(%(final)s) AND unique_until <= %(now)s"""
INSERT = """INSERT INTO nuvom_jobs (id, status, queue, priority, task, created_at, run_at,
        keep_secs, unique_key, unique_until, record)
    VALUES (%s, 'PENDING', %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
HOLDER = """SELECT id FROM nuvom_jobs WHERE task = %s AND unique_key = %s
    AND NOT EXISTS (SELECT 1 FROM nuvom_jobs WHERE id = %s)"""
WAITING = "SELECT count(*) AS n FROM nuvom_jobs WHERE status = 'PENDING' AND queue = %s"

READY = """SELECT DISTINCT queue FROM nuvom_jobs WHERE status = 'PENDING' AND run_at <= %s
    AND queue NOT IN (SELECT name FROM nuvom_queues WHERE paused_by IS NOT NULL) ORDER BY queue"""
CLAIM = """WITH picked AS (SELECT seq FROM nuvom_jobs WHERE status = 'PENDING'
        AND queue = %(queue)s AND suspect = %(suspect)s AND run_at <= %(now)s
        AND NOT task = ANY(%(without)s)
    ORDER BY priority, seq LIMIT %(n)s FOR UPDATE SKIP LOCKED)
UPDATE nuvom_jobs j SET status = 'RUNNING', owner = %(owner)s, lease_epoch = lease_epoch + 1,
    attempt = attempt + 1, deliveries = deliveries + 1, started = false, settled = false,
    started_at = NULL, finished_at = NULL, progress = NULL, lease_until = %(until)s
FROM picked WHERE j.seq = picked.seq"""
ROW = """j.seq, j.id, j.status, j.run_at, j.attempt, j.deliveries, j.lease_epoch, j.suspect,
    j.owner, j.started, j.started_at, j.finished_at, j.progress, j.record, j.error"""

FINISH = """UPDATE nuvom_jobs j SET status = 'SUCCESS', deliveries = deliveries - 1, settled = true,
    suspect = false, result = d.result, error = NULL, error_fp = NULL, progress = NULL,
    started_at = d.began, finished_at = d.ended, lease_until = NULL,
    unique_key = CASE WHEN unique_until > %(now)s THEN unique_key END
FROM (SELECT * FROM unnest(%(seqs)s::bigint[], %(epochs)s::bigint[], %(results)s::bytea[],
    %(began)s::float8[], %(ended)s::float8[]) AS d (seq, epoch, result, began, ended)
    ORDER BY seq) AS d
WHERE j.seq = d.seq AND j.lease_epoch = d.epoch AND j.status = 'RUNNING'"""
SETTLED = """SELECT seq, lease_epoch FROM nuvom_jobs
    WHERE seq = ANY(%s) AND settled AND status <> 'RUNNING'"""
APPLY = """UPDATE nuvom_jobs j SET status = %(status)s, lease_epoch = %(lease_epoch)s,
    attempt = %(attempt)s, deliveries = %(deliveries)s, suspect = %(suspect)s, run_at = %(run_at)s,
    started_at = %(started_at)s, finished_at = %(finished_at)s, result = %(result)s,
    error = CASE WHEN %(keeps_error)s THEN error ELSE %(error)s::bytea END,
    error_fp = %(fingerprint)s, progress = NULL, lease_until = NULL,
    settled = %(settles)s OR settled AND %(old_status)s <> 'RUNNING',
    owner = CASE WHEN NOT %(starts_anew)s THEN owner END,
    unique_key = CASE WHEN %(starts_anew)s THEN %(key)s
        WHEN NOT %(ends)s OR unique_until > %(now)s THEN unique_key END
WHERE seq = %(seq)s AND lease_epoch = %(old_epoch)s AND status = %(old_status)s
    AND NOT (%(starts_anew)s AND EXISTS (SELECT 1 FROM nuvom_jobs o
        WHERE o.task = j.task AND o.unique_key = %(key)s AND o.seq <> j.seq))
RETURNING owner"""

LOST = f"""SELECT {ROW} FROM nuvom_jobs j WHERE status = 'RUNNING' AND lease_until <= %s
    ORDER BY owner, seq LIMIT 1000 FOR UPDATE SKIP LOCKED"""
PARKED_SINCE = f"""SELECT {ROW} FROM nuvom_jobs j WHERE status = 'PARKED' AND finished_at <= %s
    LIMIT 1000 FOR UPDATE SKIP LOCKED"""
EXTEND = """UPDATE nuvom_jobs SET lease_until = %s WHERE owner = %s AND status = 'RUNNING'
    RETURNING id, lease_epoch"""

BEFORE = "(SELECT seq FROM nuvom_jobs WHERE id = %(before)s)"
PAGE = f"""SELECT {ROW} FROM nuvom_jobs j WHERE seq < coalesce({BEFORE}, 9223372036854775807)
    AND (%(before)s::text IS NULL OR {BEFORE} IS NOT NULL OR id < %(before)s)
    AND (%(statuses)s::text[] = '{{}}' OR status = ANY(%(statuses)s))
    AND (%(queue)s::text IS NULL OR queue = %(queue)s)
    AND (%(task)s::text IS NULL OR task = %(task)s) ORDER BY seq DESC LIMIT %(limit)s"""
STATS = """SELECT queue, lower(status) AS status, attempt > 0 AS again, run_at > %s AS later,
    count(*) AS n, min(greatest(created_at, run_at)) AS oldest
    FROM nuvom_jobs GROUP BY 1, 2, 3, 4"""
GROUPS = """SELECT g.*, j.id, j.task, j.error, j.status FROM (
    SELECT error_fp, count(*) AS n, min(finished_at) AS first, max(finished_at) AS last,
        max(seq) AS newest FROM nuvom_jobs WHERE error_fp IS NOT NULL GROUP BY 1) g
    JOIN nuvom_jobs j ON j.seq = g.newest ORDER BY g.last DESC LIMIT %s"""
REMOVED = """WITH gone AS (DELETE FROM nuvom_jobs WHERE {where} RETURNING queue),
    kept AS (INSERT INTO nuvom_queues (name) SELECT DISTINCT queue FROM gone ON CONFLICT DO NOTHING)
    SELECT count(*) AS n FROM gone"""
REMOVE_WAITING = REMOVED.format(
    where="status IN ('PENDING', 'PARKED') AND (%(queue)s::text IS NULL OR queue = %(queue)s)"
)
PRUNE = REMOVED.format(
    where="""seq IN (SELECT seq FROM nuvom_jobs
        WHERE NOT coalesce(unique_key IS NOT NULL AND unique_until > %(now)s, false)
        AND (status = 'SUCCESS' AND finished_at < coalesce(%(now)s - keep_secs, %(success)s)
            OR status = ANY(%(failures)s) AND finished_at < %(failed)s)
        ORDER BY seq LIMIT %(limit)s)"""
)
WORKERS = """SELECT info, beat, (SELECT count(*) FROM nuvom_jobs
    WHERE owner = w.id AND status = 'RUNNING') AS running FROM nuvom_workers w"""

FINAL_NAMES = [str(status) for status in FINAL]
FAILURE_NAMES = [str(status) for status in FINAL if status is not JobStatus.SUCCESS]
pack = msgspec.msgpack.encode
unpack_error = msgspec.msgpack.Decoder(StoredError).decode
unpack_attempt = msgspec.msgpack.Decoder(Attempt).decode
unpack_worker = msgspec.msgpack.Decoder(WorkerInfo).decode

Row = dict[str, Any]
Connection = psycopg.Connection[Row]


class PostgresJobQueue(StoreQueue):
    """Jobs in a schema of a PostgreSQL database, which has to be there."""

    name: ClassVar[str] = "postgres"
    capabilities: ClassVar[frozenset[Capability]] = LeasedJobQueue.capabilities | {
        Capability.ATOMIC_FINISH
    }

    def __init__(self, settings: Settings, dsn: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings, self.clock, self._dsn = settings, clock, dsn
        self.lease_secs = settings.lease_secs
        self.max_deliveries = settings.max_deliveries
        self.parked_ttl_secs = settings.parked_ttl_secs
        self._idle: list[Connection] = []
        self._listening: list[Connection] = []
        self._has_tables = False
        self._turn = 0
        self._own_channel = f"nuvom_{new_id().replace('-', '')}"

    # ---- connections and transactions ---------------------------------------------------------

    def _connect(self) -> Connection:
        connection = psycopg.connect(self._dsn, autocommit=True, row_factory=dict_row)
        if not self._has_tables:
            with connection.transaction():
                connection.execute(SCHEMA_LOCK)
                connection.execute(SCHEMA)
            self._has_tables = True
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Lend a connection; all that is done with it is done, or nothing."""
        connection = None
        try:
            connection = self._idle.pop() if self._idle else self._connect()
            with connection.transaction():
                yield connection
        except psycopg.errors.DiskFull as error:
            raise StorageFull("PostgreSQL", str(error)) from error
        except psycopg.Error as error:
            raise BackendUnavailable("PostgreSQL", str(error)) from error
        finally:
            if connection is not None:
                self._idle.append(connection)

    def _all(self, statement: str, values: Any = ()) -> list[Row]:
        with self._transaction() as connection:
            return connection.execute(statement, values).fetchall()

    def _count(self, statement: str, values: Any = ()) -> int:
        with self._transaction() as connection:
            return connection.execute(statement, values).rowcount

    def start(self) -> None:
        self._all("SELECT 1")

    def stop(self) -> None:
        for connections in (self._idle, self._listening):
            while connections:
                connections.pop().close()

    # ---- enqueue --------------------------------------------------------------------------

    def enqueue(self, job: JobRecord) -> str | None:
        return self.enqueue_many((job,)).get(job.id)

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        many = list(jobs)
        limit, refused = self.settings.max_queue_size, {}
        with self._transaction() as connection:
            for job in many:
                holder = self._insert(connection, job)
                if holder is not None:
                    refused[job.id] = holder
            for queue in {job.queue for job in many} if limit is not None else ():
                (row,) = connection.execute(WAITING, (queue,)).fetchall()
                if limit is not None and row["n"] > limit:
                    raise QueueFull(queue, row["n"], limit)
            self._tell(connection, work=bool(many))
        return refused

    def _insert(self, connection: Connection, job: JobRecord) -> str | None:
        """Store a job, or return whose key is in the way."""
        row = self._row_of(job)
        if job.unique_key is not None:
            self._free_key(connection, job)
        if connection.execute(INSERT, row).rowcount:
            return None
        key = escaped(job.func_name), escaped(job.unique_key)
        holder = connection.execute(HOLDER, (*key, job.id)).fetchone()
        return None if holder is None else str(holder["id"])

    def _row_of(self, job: JobRecord) -> tuple[Any, ...]:
        until = None if job.unique_for is None else job.created_at + job.unique_for
        names = valid_name("a job id", job.id), valid_name("a queue", job.queue)
        times = job.created_at, job.run_at, job.result_ttl_secs
        task, key = escaped(job.func_name), escaped(job.unique_key)
        return (*names, job.priority, task, *times, key, until, job.encode())

    def _free_key(self, connection: Connection, job: JobRecord) -> None:
        key = {"task": escaped(job.func_name), "key": escaped(job.unique_key)}
        connection.execute(FREE_KEY, {**key, "now": self.now(), "final": FINAL_NAMES})

    def _tell(self, connection: Connection, *, work: bool = False, control: bool = False) -> None:
        """Wake sleeping workers once the transaction is committed."""
        if control:
            connection.execute("SELECT nextval('nuvom_control')")
        if work or control:
            connection.execute("NOTIFY nuvom_work")

    # ---- claim ----------------------------------------------------------------------------

    def claim(
        self,
        n: int,
        owner: str,
        queues: Sequence[str] | None = None,
        *,
        exclude: Sequence[str] = (),
        without: Iterable[str] = (),
        suspects: int = 1,
    ) -> list[JobRecord]:
        values = {
            "owner": valid_name("a worker's id", owner),
            "now": self.now(),
            "until": self.now() + self.lease_secs,
            "without": [escaped(task) for task in without],
        }
        jobs: list[JobRecord] = []
        with self._transaction() as connection:
            ready = [row["queue"] for row in connection.execute(READY, (self.now(),))]
            served = self._served(ready, queues, exclude)
            for suspect, most in ((True, min(suspects, 1, n)), (False, n)):
                for queue in served:
                    left = most - len(jobs)
                    if left > 0:
                        picked = {**values, "queue": queue, "suspect": suspect, "n": left}
                        rows = connection.execute(f"{CLAIM} RETURNING j.priority, {ROW}", picked)
                        in_order = sorted(rows, key=lambda row: (row["priority"], row["seq"]))
                        jobs += [snapshot(row).record for row in in_order]
        return jobs

    def _served(
        self, ready: list[str], queues: Sequence[str] | None, exclude: Sequence[str]
    ) -> list[str]:
        if queues is not None:
            return [name for name in queues if name in ready and name not in exclude]
        ready = [name for name in ready if name not in exclude]
        self._turn += 1
        start = self._turn % max(1, len(ready))
        return ready[start:] + ready[:start]

    def mark_started(self, job: JobRecord) -> None:
        statement = "UPDATE nuvom_jobs SET started = true WHERE seq = %s AND lease_epoch = %s"
        self._count(statement, (job.ref, job.lease_epoch))

    def has_started(self, job: JobRecord) -> bool:
        statement = "SELECT started FROM nuvom_jobs WHERE seq = %s AND lease_epoch = %s"
        return any(row["started"] for row in self._all(statement, (job.ref, job.lease_epoch)))

    # ---- changes --------------------------------------------------------------------------

    def finish(self, successes: Sequence[Settlement]) -> list[bool]:
        columns = {
            "now": self.now(),
            "seqs": [one.record.ref for one in successes],
            "epochs": [one.record.lease_epoch for one in successes],
            "results": [one.result for one in successes],
            "began": [one.started_at or None for one in successes],
            "ended": [one.finished_at for one in successes],
        }
        if self._count(FINISH, columns) == len(successes):
            return [True] * len(successes)
        return self._were_settled([one.record for one in successes])

    def _were_settled(self, records: Sequence[JobRecord]) -> list[bool]:
        rows = self._all(SETTLED, ([record.ref for record in records],))
        settled = {(row["seq"], row["lease_epoch"]) for row in rows}
        return [(record.ref, record.lease_epoch) in settled for record in records]

    def apply(self, changes: Sequence[Change]) -> list[bool]:
        with self._transaction() as connection:
            done = self._write_all(connection, changes)
        known = self._were_settled([change.before for change in changes])
        triples = zip(changes, done, known, strict=True)
        return [was_done or (one.settles and before) for one, was_done, before in triples]

    def _write_all(self, connection: Connection, changes: Sequence[Change]) -> list[bool]:
        done = [self._write(connection, change) for change in changes]
        applied = [change for change, was_done in zip(changes, done, strict=True) if was_done]
        makes_work = any(one.children or one.status is JobStatus.PENDING for one in applied)
        cancels = any(one.status is JobStatus.CANCELLED for one in applied)
        self._tell(connection, work=makes_work, control=cancels)
        return done

    def _write(self, connection: Connection, change: Change) -> bool:
        before = change.before
        if change.starts_anew:
            self._free_key(connection, before)
        fields = {name: getattr(change, name) for name in Change.__struct_fields__}
        values = {
            **{name: value for name, value in fields.items() if name not in NOT_COLUMNS},
            "status": str(change.status),
            "keeps_error": change.error is UNSET,
            "error": pack(change.error) if change.error else None,
            "fingerprint": escaped(change.fingerprint),
            "ends": change.status in FINAL,
            "key": escaped(before.unique_key),
            "now": self.now(),
            "seq": before.ref,
            "old_epoch": before.lease_epoch,
            "old_status": str(before.status),
        }
        row = connection.execute(APPLY, values).fetchone()
        if row is None:
            return False
        if change.closed is not None:
            closed = msgspec.structs.replace(change.closed, worker=row["owner"])
            statement = "INSERT INTO nuvom_attempts (job, body) VALUES (%s, %s)"
            connection.execute(statement, (before.ref, pack(closed)))
        for child in change.children:
            self._insert(connection, child)
        return True

    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        statement = """UPDATE nuvom_jobs SET progress = %s
            WHERE seq = %s AND lease_epoch = %s AND status = 'RUNNING'"""
        values = (json.dumps([done, total, message]), job.ref, job.lease_epoch)
        return self._count(statement, values) == 1

    def extend(self, owner: str) -> dict[str, int]:
        now = self.now()
        with self._transaction() as connection:
            connection.execute("UPDATE nuvom_workers SET beat = %s WHERE id = %s", (now, owner))
            rows = connection.execute(EXTEND, (now + self.lease_secs, owner)).fetchall()
        return {row["id"]: row["lease_epoch"] for row in rows}

    def recover(self, recovery: Recovery) -> list[JobRecord]:
        with self._transaction() as connection:
            owners: defaultdict[str, list[LostDelivery]] = defaultdict(list)
            for row in connection.execute(LOST, (recovery.now,)):
                lost = LostDelivery(snapshot(row).record, row["started"])
                owners[row["owner"]].append(lost)
            changes = [one for lost in owners.values() for one in recovery.take_back(lost)]
            parked = connection.execute(PARKED_SINCE, (recovery.parked_before,)).fetchall()
            changes += recovery.give_up([snapshot(row) for row in parked])
            self._write_all(connection, changes)
        return [change.after for change in changes]

    # ---- control --------------------------------------------------------------------------

    def set_paused(self, queue: str, by: str | None) -> bool:
        with self._transaction() as connection:
            found = connection.execute(
                "SELECT paused_by FROM nuvom_queues WHERE name = %s FOR UPDATE", (queue,)
            ).fetchone()
            if by is not None or found is not None:
                connection.execute(
                    """INSERT INTO nuvom_queues VALUES (%s, %s)
                    ON CONFLICT (name) DO UPDATE SET paused_by = excluded.paused_by""",
                    (queue, escaped(by)),
                )
            self._tell(connection, work=by is None, control=True)
        return found is not None and found["paused_by"] is not None

    def remove_waiting(self, queue: str | None) -> int:
        (row,) = self._all(REMOVE_WAITING, {"queue": queue})
        return int(row["n"])

    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        values = {"success": success_before, "failed": failed_before, "limit": limit}
        (row,) = self._all(PRUNE, {**values, "failures": FAILURE_NAMES, "now": self.now()})
        return int(row["n"])

    # ---- workers --------------------------------------------------------------------------

    def announce(self, worker: WorkerInfo) -> None:
        statement = """INSERT INTO nuvom_workers VALUES (%s, %s, %s)
            ON CONFLICT (id) DO UPDATE SET info = excluded.info, beat = excluded.beat"""
        self._count(statement, (worker.id, pack(worker), self.now()))

    def retire(self, owner: str) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM nuvom_workers WHERE id = %s", (owner,))
            connection.execute("DELETE FROM nuvom_commands WHERE worker = %s", (owner,))

    def announced(self) -> list[WorkerInfo]:
        now = self.now()
        return [
            msgspec.structs.replace(
                unpack_worker(row["info"]),
                beat_age_secs=max(0.0, now - row["beat"]),
                running=row["running"],
            )
            for row in self._all(WORKERS)
        ]

    def push_command(self, owner: str, word: str) -> bool:
        statement = """INSERT INTO nuvom_commands (worker, word)
            SELECT id, %s FROM nuvom_workers WHERE id = %s"""
        with self._transaction() as connection:
            was_left = connection.execute(statement, (word, owner)).rowcount > 0
            self._tell(connection, control=True)
        return was_left

    def commands(self, owner: str) -> list[str]:
        statement = "DELETE FROM nuvom_commands WHERE worker = %s RETURNING number, word"
        rows = self._all(statement, (owner,))
        return [row["word"] for row in sorted(rows, key=lambda row: row["number"])]

    def control_version(self) -> int:
        (row,) = self._all("SELECT last_value, is_called FROM nuvom_control")
        return int(row["last_value"]) + bool(row["is_called"])

    # ---- reading --------------------------------------------------------------------------

    def qsize(self) -> int:
        (row,) = self._all("SELECT count(*) AS n FROM nuvom_jobs WHERE status = 'PENDING'")
        return int(row["n"])

    def get(self, job_id: str) -> JobSnapshot | None:
        rows = self._all(f"SELECT {ROW}, j.result FROM nuvom_jobs j WHERE id = %s", (job_id,))
        return snapshot(rows[0]) if rows else None

    def find_ids(self, suffix: str, limit: int = 6) -> list[str]:
        statement = """SELECT id FROM nuvom_jobs WHERE right(id, length(%s)) = %s OR %s = ''
            ORDER BY seq DESC LIMIT %s"""
        return [row["id"] for row in self._all(statement, (suffix, suffix, suffix, limit))]

    def page(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobSnapshot]:
        wanted = [str(status) for status in statuses]
        values = {"statuses": wanted, "queue": queue, "task": escaped(task), "before": before}
        return [snapshot(row) for row in self._all(PAGE, {**values, "limit": limit})]

    def closed_attempts(self, job_id: str) -> list[Attempt]:
        statement = """SELECT body FROM nuvom_attempts a JOIN nuvom_jobs j ON j.seq = a.job
            WHERE j.id = %s ORDER BY a.number"""
        return [unpack_attempt(row["body"]) for row in self._all(statement, (job_id,))]

    def stats(self) -> list[QueueStats]:
        counts: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for row in self._all(STATS, (self.now(),)):
            name, fields = row["status"], counts[row["queue"]]
            if name == "pending":
                is_later = "retrying" if row["again"] else "scheduled"
                name = is_later if row["later"] else "ready"
            if name == "ready":
                oldest = fields.get("oldest_ready_at", row["oldest"])
                fields["oldest_ready_at"] = min(oldest, row["oldest"])
            fields[name] = fields.get(name, 0) + row["n"]
        for row in self._all("SELECT name, paused_by FROM nuvom_queues"):
            counts[row["name"]]["paused_by"] = unescaped(row["paused_by"])
        return [QueueStats(queue=name, **counts[name]) for name in sorted(counts)]

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        groups = []
        for row in self._all(GROUPS, (limit,)):
            stored = row["error"]
            error = StoredError(row["status"], "") if stored is None else unpack_error(stored)
            groups.append(
                ErrorGroup(
                    fingerprint=unescaped(row["error_fp"]),
                    func_name=unescaped(row["task"]),
                    type=error.type,
                    message=error.message,
                    count=row["n"],
                    first_at=row["first"] or 0.0,
                    last_at=row["last"] or 0.0,
                    example_id=row["id"],
                )
            )
        return groups

    def failed_ids(self, fingerprint: str) -> list[str]:
        statement = "SELECT id FROM nuvom_jobs WHERE error_fp = %s ORDER BY seq DESC"
        return [row["id"] for row in self._all(statement, (escaped(fingerprint),))]

    @property
    def parked_tasks(self) -> dict[str, int]:
        statement = "SELECT task, count(*) AS n FROM nuvom_jobs WHERE status = 'PARKED' GROUP BY 1"
        return {unescaped(row["task"]): row["n"] for row in self._all(statement)}

    def parked(self, tasks: Collection[str], limit: int) -> list[JobSnapshot]:
        statement = f"""SELECT {ROW} FROM nuvom_jobs j
            WHERE status = 'PARKED' AND task = ANY(%s) LIMIT %s"""
        return [snapshot(row) for row in self._all(statement, (list(map(escaped, tasks)), limit))]

    def next_due_secs(self) -> float | None:
        statement = """SELECT min(run_at) AS due FROM nuvom_jobs
            WHERE status = 'PENDING' AND run_at > %s"""
        now = self.now()
        (row,) = self._all(statement, (now,))
        return None if row["due"] is None else float(row["due"]) - now

    # ---- waiting --------------------------------------------------------------------------

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        listener = self._listening.pop() if self._listening else self._listen()
        try:
            for _ in listener.notifies(timeout=0):  # what came before is forgotten
                pass
            if (recheck or self._has_ready)():
                return True
            return any(True for _ in listener.notifies(timeout=timeout, stop_after=1))
        finally:
            self._listening.append(listener)

    def _listen(self) -> Connection:
        listener = self._connect()
        for channel in ("nuvom_work", self._own_channel):
            listener.execute(f"LISTEN {channel}")
        return listener

    def _has_ready(self) -> bool:
        return bool(self._all(READY, (self.now(),)))

    def notify(self) -> None:
        self._count("NOTIFY nuvom_work")

    def interrupt(self) -> None:
        self._count(f"NOTIFY {self._own_channel}")


NOT_COLUMNS = {"before", "closed", "children"}


def escaped(text: Any) -> Any:
    """Return a text, or None, without the character that PostgreSQL cannot store."""
    return text and text.replace("\\", "\\\\").replace("\0", "\\0")


def unescaped(text: Any) -> Any:
    """Return what ``escaped`` was given."""
    return text and re.sub(r"\\(.)", lambda pair: "\0" if pair[1] == "0" else pair[1], text)


def snapshot(row: Row) -> JobSnapshot:
    """Return the snapshot of a row of ``ROW``."""
    status, is_running = JobStatus(row["status"]), row["status"] == JobStatus.RUNNING
    counters = ("run_at", "attempt", "deliveries", "lease_epoch", "suspect")
    record = JobRecord.decode(row["record"]).replace(
        ref=row["seq"], status=status, **{name: row[name] for name in counters}
    )
    return JobSnapshot(
        record=record,
        result=row.get("result") if status is JobStatus.SUCCESS else None,
        error=None if row["error"] is None else unpack_error(row["error"]),
        worker=row["owner"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        progress=tuple(row["progress"]) if is_running and row["progress"] else None,
    )
