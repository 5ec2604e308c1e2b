"""The PostgreSQL queue: enqueue, claim, settle, recover and control.

Each call is one function of the server, for any number of jobs: see ``functions.sql``. The rules of
a job's life are in ``StoreQueue``; reading is in ``PostgresReads``.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
from msgspec.structs import force_setattr as set_field
from psycopg.rows import tuple_row

from nuvom.config.settings import Settings
from nuvom.contrib.postgres.arrays import byteas, encoded_texts, floats, int8s, texts
from nuvom.contrib.postgres.database import PostgresDatabase, key_number, lock_keys
from nuvom.contrib.postgres.migration import qualified
from nuvom.contrib.postgres.protocol import RawCall, unpacked
from nuvom.contrib.postgres.reads import PostgresReads
from nuvom.contrib.postgres.rows import (
    change_values,
    counts,
    escaped,
    job_values,
    pack,
    running_record,
    snapshot,
)
from nuvom.contrib.postgres.schedules import PostgresSchedules
from nuvom.contrib.postgres.wakeup import POLL_SECS, PostgresMarkSender, listeners
from nuvom.core.batch import RecordBatch
from nuvom.core.ids import ID_CHARS
from nuvom.core.record import JobRecord, JobStatus
from nuvom.core.totals import RollupSums, kept_since, totals_of
from nuvom.core.transitions import LostDelivery
from nuvom.core.views import AUDIT_KEPT
from nuvom.errors import BackendUnavailable, PayloadError
from nuvom.host.sleepers import RESULTS, SCHEDULES, WORK
from nuvom.log import get_logger, log_event
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.callers import driver_connection
from nuvom.queue_backends.leased import ClaimArguments, LeasedJobQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from psycopg.pq.abc import PGresult

    from nuvom.contrib.postgres.database import Connection
    from nuvom.contrib.postgres.wakeup import PostgresListener
    from nuvom.core.clock import Clock
    from nuvom.core.outcome import Settlement
    from nuvom.core.transitions import Change, Recovery
    from nuvom.core.views import AuditEntry, Migration, WorkerInfo
    from nuvom.host.worker_lock import DeadWorker

_LOG = get_logger("postgres")
_CALLS = {
    "claim": (
        "SELECT * FROM nuvom.claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        "int4 text int4 text[] text[] text[] int4 int4 bool float8",
    ),
    "enqueue": (
        "CALL nuvom.enqueue_now($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, NULL)",
        "text text text int4 float8 float8 float8 text float8 bytea int4 float8 text",
    ),
    "finish": (
        "CALL nuvom.finish_now($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL)",
        "int8[] int8[] float8[] float8[] bytea[] bool int8[] float8 text",
    ),
}
_COLUMNS = "qqii?di"  # of a claim's answer, each an array; then the records
_INT = Struct("!i").unpack
_VACUUM_EVERY = 50_000  # claims
_VALUES = 12  # of the server's ``enqueue``
_FORGOTTEN_SECS = 7 * 86_400.0  # without a heartbeat; until then a worker may come back
_OPEN_SECS = 300  # older minutes are hardly added to any more
_APPLIED = 1  # the server's answer for a change that it has just applied


class PostgresJobQueue(PostgresReads):
    """Jobs in a schema of a PostgreSQL database, with their results.

    Time is the server's, whatever the clock of this machine says.

    Args:
        settings: ``postgres_dsn``, ``postgres_schema``, durability, lease length.
        clock: Replaces the server's clock. For tests.

    Attributes:
        db: The store; the results in the same schema share it.
    """

    name: ClassVar[str] = "postgres"
    cut = (psycopg.Error, BackendUnavailable)
    _claimed_jobs = 0  # since the last vacuum
    capabilities: ClassVar[frozenset[Capability]] = LeasedJobQueue.capabilities | {
        Capability.ATOMIC_FINISH,
        Capability.OVERLAP,
        Capability.TOTALS,
        Capability.TRANSACTIONS,
        Capability.SCHEDULES,
        Capability.HISTORY,
    }

    def __init__(self, settings: Settings | None = None, *, clock: Clock | None = None) -> None:
        settings = settings or Settings()
        db = self.db = PostgresDatabase(settings, clock)
        self.clock = db.clock
        self._claim, self._enqueue, self._finish = (
            RawCall(f"nuvom_{name}", qualified(text, db.schema), types)
            for name, (text, types) in _CALLS.items()
        )
        super().__init__(
            settings, db.folder_name, lambda owner: PostgresMarkSender(db, owner), db.failure
        )

    def drop_in_child(self) -> None:
        """Forget what belongs to the parent's workers."""
        super().drop_in_child()
        self._sleepers = listeners(self.db)

    # ---- enqueue --------------------------------------------------------------------------

    def enqueue(self, job: JobRecord) -> str | None:
        """Store a job; see the contract."""
        result = self.db.run(self._enqueue, *self._values(job), self.db.commit_of_call)
        holder = result.get_value(0, 0)
        return None if holder is None else holder.decode()

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all jobs in one transaction, or none; see the contract."""
        if isinstance(jobs, RecordBatch) and self._is_plain(jobs.like):
            refused = self._enqueue_alike(jobs)
        else:
            refused = self._enqueue_each(list(jobs))
        self.notify()
        return refused

    def enqueue_into(self, connection: object, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store jobs in a transaction of the caller's; see the contract.

        The connection is one of psycopg, or one of SQLAlchemy or Django that wraps such a one.
        """
        caller = driver_connection(connection, "psycopg")
        many = list(jobs)
        with self.db.translated(), caller.cursor(row_factory=tuple_row) as cursor:
            lock_keys(cursor, many)
            holders = {}
            for job in many:
                cursor.execute(self.db.statement("enqueue", _VALUES), self._values(job))
                holders[job.id] = cursor.fetchone()[0]
            cursor.execute("SELECT pg_notify(%s, '')", (self.db.shared_channel,))  # at the commit
        return {job_id: holder for job_id, holder in holders.items() if holder is not None}

    def _is_plain(self, job: JobRecord) -> bool:
        return job.unique_key is None and self.max_queue_size is None

    def _enqueue_alike(self, batch: RecordBatch) -> dict[str, str]:
        like, at = batch.like, batch.id_at
        values = self._values(like.replace(id="batch"))
        common = (*values[1:7], self.db.test_now)

        def store(connection: Connection) -> dict[str, str]:
            for records in batch.chunks():
                ids = encoded_texts([record[at : at + ID_CHARS] for record in records])
                self.db.rows_in(connection, "enqueue_alike", ids, byteas(records), *common)
            return {}

        return self.db.transaction(store)

    def _enqueue_each(self, jobs: list[JobRecord]) -> dict[str, str]:
        rows = [self._values(job) for job in jobs]
        limited = {job.queue for job in jobs} if self.max_queue_size is not None else ()

        def store(connection: Connection) -> dict[str, str]:
            lock_keys(connection, jobs, limited)
            holders = self.db.each_in(connection, "enqueue", rows)
            pairs = zip(jobs, holders, strict=True)
            return {job.id: holder for job, holder in pairs if holder is not None}

        return self.db.transaction(store)

    def _values(self, job: JobRecord) -> tuple[Any, ...]:
        return job_values(job, self.max_queue_size, self.db.test_now)

    # ---- schedules ------------------------------------------------------------------------

    def schedules(self) -> PostgresSchedules:
        """Return the schedules in the same schema."""
        return PostgresSchedules(self.db, self._schedule_waiter, self.stop)

    @contextmanager
    def _schedule_waiter(self) -> Iterator[PostgresListener]:
        with self.db.translated(), self._sleepers.lend(SCHEDULES) as one:
            yield one

    # ---- claim ----------------------------------------------------------------------------

    @contextmanager
    def lend(self, claim: ClaimArguments) -> Iterator[Callable[[], list[JobRecord]]]:
        """Send a claim; see ``ServerQueue``."""
        values = (
            *(claim.n, claim.owner, claim.token),
            None if claim.queues is None else texts(claim.queues),
            *(texts(claim.exclude), texts([escaped(task) for task in claim.without])),
            *(claim.suspects, claim.turn, claim.starts, self.db.test_now),
        )
        with self.db.sent(self._claim, *values) as receive:
            yield lambda: self._claimed(receive())

    def _claimed(self, result: PGresult) -> list[JobRecord]:
        """Return the records of a claim, which come as one array for each column."""
        *arrays, data = (result.get_value(0, column) or b"" for column in range(result.nfields))
        if not data:
            return []
        *columns, sizes = map(unpacked, arrays, _COLUMNS)
        try:
            jobs = JobRecord.decode_all(data, len(sizes))
        except PayloadError:
            return self._claimed_one_by_one(columns, sizes, data)
        for job, values in zip(jobs, zip(*columns, strict=True), strict=True):
            _become_claimed(job, values)
        self._claimed_jobs += len(jobs)
        return jobs

    def _claimed_one_by_one(
        self, columns: list[Any], sizes: list[int], data: bytes
    ) -> list[JobRecord]:
        """Return the records that can be read; end the jobs of those that cannot."""
        jobs, damaged, start = [], [], 0
        for size, values in zip(sizes, zip(*columns, strict=True), strict=True):
            try:
                job = JobRecord.decode(data[start : start + size])
                _become_claimed(job, values)
                jobs.append(job)
            except PayloadError as error:
                before = JobRecord("", "")
                _become_claimed(before, values)
                damaged.append(self.set_aside(before, error))
            start += size
        self.apply(damaged)
        return jobs

    def give_back(self, owner: str, token: int) -> None:
        """Undo a claim that no caller has received; see ``ServerQueue``."""
        if self.db.call("give_back", owner, token, self.db.test_now):
            self.notify()

    # ---- changes --------------------------------------------------------------------------

    def finish(self, successes: Sequence[Settlement]) -> list[bool]:
        """Close attempts that plainly succeeded, all at once; see the contract."""
        many = sorted(successes, key=lambda one: one.record.ref)
        refs, epochs = [one.record.ref for one in many], [one.record.lease_epoch for one in many]
        keyed = sorted({key_number(one.record) for one in many if one.record.unique_key})
        result = self.db.run(
            self._finish,
            int8s(refs),
            int8s(epochs),
            floats([one.started_at for one in many]),
            floats([one.finished_at for one in many]),
            byteas([one.result for one in many]),
            bool(keyed),
            int8s(keyed),
            self.db.test_now,
            self.db.commit_of_call,
        )
        (finished,) = _INT(result.get_value(0, 0) or b"")
        secs = sum(one.finished_at - one.started_at for one in many)
        self.forget_deliveries([one.record for one in many], secs)
        if finished == len(many):
            return [True] * finished
        settled = self.db.call("have_settled", int8s(refs), int8s(epochs))
        answers = dict(zip(map(id, many), settled, strict=True))
        return [answers[id(one)] for one in successes]

    def apply(self, changes: Sequence[Change]) -> list[bool]:
        """Write changes; see the contract."""
        if not changes:
            return []
        answers = self.db.transaction(lambda connection: self._write(connection, changes))
        self.forget_deliveries([change.before for change in changes])
        self._tell([one for one, is_applied in zip(changes, answers, strict=True) if is_applied])
        return answers

    def _write(self, connection: Connection, changes: Sequence[Change]) -> list[bool]:
        """Write changes in the caller's transaction, in an order in which nobody deadlocks."""
        children = [child for one in changes for child in one.children]
        lock_keys(connection, [*(one.before for one in changes), *children])
        places = sorted(range(len(changes)), key=lambda place: changes[place].before.ref)
        values = [change_values(changes[place], self.db.test_now) for place in places]
        answers = dict(zip(places, self.db.each_in(connection, "change", values), strict=True))
        applied = [one for place, one in enumerate(changes) if answers[place] == _APPLIED]
        born = [
            job_values(child, None, self.db.test_now) for one in applied for child in one.children
        ]
        self.db.each_in(connection, "enqueue", born)
        if any(one.status is JobStatus.CANCELLED for one in applied):
            self.db.rows_in(connection, "bump")
        totals = totals_of(one for one in applied if one.status is not JobStatus.SUCCESS)
        rollups = RollupSums()
        for one in applied:
            rollups.changed(one)
        if totals or rollups.sums:  # the server adds the total of a success
            self.db.rows_in(connection, "add_counts", counts(totals), counts(rollups.rows()))
        return [answers[place] > 0 for place in range(len(changes))]

    def _tell(self, changes: Sequence[Change]) -> None:
        """Wake those who wait for what these changes have made ready, or ended."""
        if any(one.status is JobStatus.PENDING or one.children for one in changes):
            self.notify()
        if any(one.status.is_final for one in changes):
            self.db.rows("ring", RESULTS)

    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        """Store a running job's progress; see the contract."""
        progress = json.dumps([done, total, message])
        return bool(self.db.call("report_progress", job.ref, job.lease_epoch, progress))

    def beat(self, owner: str) -> dict[str, int]:
        """Record a heartbeat; see ``ServerQueue``."""
        ((ids, epochs),) = self.db.rows("beat", owner, self.db.test_now)
        return dict(zip(ids or (), epochs or (), strict=True))

    def take_lost(self, recovery: Recovery, dead: Mapping[str, DeadWorker]) -> list[JobRecord]:
        """Take back lost jobs and give up on others; see ``ServerQueue``."""
        found = self.db.transaction(lambda connection: self._recover(connection, recovery, dead))
        self._tell(found)
        if self._claimed_jobs >= _VACUUM_EVERY:
            self._claimed_jobs = 0
            self.db.vacuum()
        return [change.after for change in found]

    def _recover(
        self, connection: Connection, recovery: Recovery, dead: Mapping[str, DeadWorker]
    ) -> list[Change]:
        call = partial(self.db.rows_in, connection)
        call("promote", recovery.now)
        lost: defaultdict[str, list[LostDelivery]] = defaultdict(list)
        for row in call("take_lost", self.lease_secs, [*dead], self.db.test_now):
            record, owner, has_started = running_record(row), row[7], row[8]
            if owner in dead:  # its marks on this machine are of single jobs
                has_started = dead[owner].had_started(record.id, record.lease_epoch)
            lost[owner].append(LostDelivery(record, has_started))
        changes = [change for held in lost.values() for change in recovery.take_back(held)]
        outdated = call("outdated", recovery.parked_before)
        changes += recovery.give_up([snapshot(row) for row in outdated])
        self._write(connection, changes)
        call("forget_workers", [*dead], recovery.now - _FORGOTTEN_SECS)
        return changes

    # ---- control --------------------------------------------------------------------------

    def set_paused(self, queue: str, by: str | None) -> bool:
        """Pause or resume a queue; see ``StoreQueue``."""
        was_paused: bool = self.db.call("pause", queue, escaped(by), self.now())
        if by is None:
            self.notify()
        return was_paused

    def remove_waiting(self, queue: str | None) -> int:
        """Remove waiting jobs; see ``StoreQueue``."""
        return int(self.db.call("remove_waiting", queue))

    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        """Remove old final jobs; see the contract."""
        return int(self.db.call("prune", success_before, failed_before, limit, self.now()))

    def condense_history(self) -> None:
        """Combine the minutes of old hours; see the contract."""
        now = self.now()
        self.db.rows("condense_rollups", *kept_since(now), int(now) - _OPEN_SECS)

    def record_audit(self, entry: AuditEntry) -> None:
        """Store an audit entry; see the contract."""
        self.db.rows("record_audit", entry.id, pack(entry), AUDIT_KEPT)

    # ---- workers --------------------------------------------------------------------------

    def announce(self, worker: WorkerInfo) -> None:
        """Make a worker visible; see the contract."""
        super().announce(worker)
        self.db.rows("announce", worker.id, pack(worker), self.db.test_now)

    def retire(self, owner: str) -> None:
        """Forget a worker that stopped cleanly; see the contract."""
        self.db.rows("forget_workers", [owner], 0.0)
        super().retire(owner)

    def push_command(self, owner: str, word: str) -> bool:
        """Send a command to a worker; see ``StoreQueue``."""
        return bool(self.db.call("push_command", owner, word))

    def commands(self, owner: str) -> list[str]:
        """Take the commands for a worker; see the contract."""
        return list(self.db.call("take_commands", owner) or ())

    def control_version(self) -> int:
        """Return a number that changes with every command; see the contract."""
        return self.db.control_version()

    # ---- waiting --------------------------------------------------------------------------

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        """Sleep until there may be a job; see the contract."""
        with self.db.translated():
            return self._sleepers.wait_for_work(timeout, recheck or self._has_ready)

    def _has_ready(self) -> bool:
        return bool(self.db.call("has_ready", self.now()))

    def notify(self) -> None:
        """Wake one sleeping worker, in any process."""
        self.db.rows("ring", WORK)

    def interrupt(self) -> None:
        """End every ``wait_for_work`` call on this instance."""
        self._sleepers.interrupt()

    # ---- opening and closing ----------------------------------------------------------------

    def migrate(self, *, dry_run: bool = False) -> Migration:
        """Make or change the tables; see the contract."""
        return self.db.migrate(dry_run=dry_run)

    def start(self) -> None:
        """Reach the server, so that any problem with it shows at once."""
        self.db.rows("who")
        if self.db.is_pooled:
            text = (
                f"A connection pooler is in front of {self.db}: this worker looks for jobs every "
                f"{POLL_SECS * 1000:g} ms when it is idle, since no notification reaches it"
            )
            log_event(_LOG, logging.INFO, "storage.polling", text)

    def stop(self) -> None:
        """Close all connections and release the locks of this process's workers."""
        super().stop()
        self._sleepers.close()
        self.db.close()


def _become_claimed(job: JobRecord, values: tuple[Any, ...]) -> None:
    """Set what a claim changes in a record that nobody else has seen."""
    ref, epoch, attempt, deliveries, suspect, run_at = values
    set_field(job, "ref", ref)
    set_field(job, "status", JobStatus.RUNNING)
    set_field(job, "lease_epoch", epoch)
    set_field(job, "attempt", attempt)
    set_field(job, "deliveries", deliveries)
    if suspect:
        set_field(job, "suspect", True)
    if epoch > 1:
        set_field(job, "run_at", run_at)
