"""Results in PostgreSQL: those of a queue in the same schema, or rows of their own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from nuvom.config.settings import Settings
from nuvom.contrib.postgres.database import PostgresDatabase
from nuvom.contrib.postgres.queue import PostgresJobQueue
from nuvom.contrib.postgres.rows import pack, snapshot, unpack_error
from nuvom.contrib.postgres.wakeup import listeners
from nuvom.core.record import JobRecord, JobSnapshot
from nuvom.host.fork import drop_at_fork
from nuvom.host.sleepers import RESULTS
from nuvom.result_backends.joined import JoinedResults
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nuvom.core.clock import Clock, Waitable
    from nuvom.core.views import Migration
    from nuvom.queue_backends.base import BaseJobQueue


class PostgresResultBackend(JoinedResults):
    """Results in a schema of a PostgreSQL database."""

    name: ClassVar[str] = "postgres"

    def __init__(self, settings: Settings | None = None, *, clock: Clock | None = None) -> None:
        super().__init__(MsgpackCodec())
        self.db = PostgresDatabase(settings or Settings(), clock)
        self._queue: PostgresJobQueue | None = None
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Forget the parent's listeners."""
        self._sleepers = listeners(self.db)

    def joins(self, queue: BaseJobQueue) -> bool:
        """Share the queue's store when it is the same schema; see the contract."""
        place = self.db.folder_name
        if isinstance(queue, PostgresJobQueue) and queue.db.folder_name == place:
            self.db.close()
            self.db, self._queue = queue.db, queue
            self._sleepers = listeners(self.db)
        return self._queue is not None

    def find_job(self, job_id: str) -> JobSnapshot | None:
        """Return a job of the joined queue; see ``JoinedResults``."""
        return None if self._queue is None else self._queue.get(job_id)

    def find_outcome(self, job_id: str) -> JobSnapshot | None:
        """Return an outcome that was given directly; see ``JoinedResults``."""
        rows = self.db.rows("outcome", job_id)
        return _kept(rows[0]) if rows else None

    def all_jobs(self) -> Iterable[JobSnapshot]:
        """Return all jobs of the joined queue; see ``JoinedResults``."""
        return map(snapshot, self.db.rows("all_seen") if self._queue is not None else ())

    def all_outcomes(self) -> Iterable[JobSnapshot]:
        """Return all outcomes that were given directly; see ``JoinedResults``."""
        return map(_kept, self.db.rows("all_outcomes"))

    def put(self, outcome: JobSnapshot, *, is_sure: bool) -> bool:
        """Store an outcome; see ``JoinedResults``."""
        record = outcome.record
        was_kept: bool = self.db.call(
            "keep_outcome",
            *(record.id, record.status.is_final, record.lease_epoch, outcome.finished_at),
            *(record.encode(), outcome.result),
            None if outcome.error is None else pack(outcome.error),
            is_sure,
        )
        self.db.rows("ring", RESULTS)
        return was_kept

    def now(self) -> float:
        """Return the server's time."""
        return self.db.clock.now()

    def forget(self, job_id: str) -> bool:
        """Remove everything stored about a job; False if there was nothing."""
        return bool(self.db.call("forget_job", job_id))

    @contextmanager
    def waiter(self) -> Iterator[Waitable | None]:
        """Yield something that is set when results arrive; see the contract."""
        with self.db.translated(), self._sleepers.lend(RESULTS) as waiter:
            yield waiter

    def migrate(self, *, dry_run: bool = False) -> Migration:
        """Make or change the tables; see the contract."""
        return self.db.migrate(dry_run=dry_run)

    def start(self) -> None:
        """Reach the server, so that any problem with it shows at once."""
        self.db.rows("who")

    def stop(self) -> None:
        """Close all connections, unless they are the queue's."""
        self._sleepers.close()
        if self._queue is None:
            self.db.close()


def _kept(row: tuple[Any, ...]) -> JobSnapshot:
    finished_at, record, result, error = row[4:]
    return JobSnapshot(
        record=JobRecord.decode(record),
        result=result,
        error=None if error is None else unpack_error(error),
        finished_at=finished_at,
    )
