"""Results in Redis: those of a queue in the same store, or entries of their own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import msgspec

from nuvom.config.settings import Settings
from nuvom.contrib.redis.queue import RedisJobQueue
from nuvom.contrib.redis.rows import number, pack
from nuvom.contrib.redis.store import RedisStore
from nuvom.contrib.redis.wakeup import subscribers
from nuvom.core.record import JobRecord, JobSnapshot, StoredError
from nuvom.host.fork import drop_at_fork
from nuvom.host.sleepers import RESULTS
from nuvom.result_backends.joined import JoinedResults
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nuvom.core.clock import Clock, Waitable
    from nuvom.queue_backends.base import BaseJobQueue

_PART = 500  # outcomes that one script returns
_HEAD_BYTES = 5  # of an outcome, for scripts

_Outcome = tuple[float | None, bytes, bytes | None, StoredError | None]
_unpack = msgspec.msgpack.Decoder(_Outcome).decode


class RedisResultBackend(JoinedResults):
    """Results on a Redis server."""

    name: ClassVar[str] = "redis"

    def __init__(self, settings: Settings | None = None, *, clock: Clock | None = None) -> None:
        super().__init__(MsgpackCodec())
        self.store = RedisStore(settings or Settings(), clock)
        self._queue: RedisJobQueue | None = None
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Forget the parent's subscribers."""
        self._sleepers = subscribers(self.store)

    def joins(self, queue: BaseJobQueue) -> bool:
        """Share the queue's store when it is the same one; see the contract."""
        place = self.store.folder_name
        if isinstance(queue, RedisJobQueue) and queue.store.folder_name == place:
            self.store, self._queue = queue.store, queue
            self._sleepers = subscribers(self.store)
        return self._queue is not None

    def find_job(self, job_id: str) -> JobSnapshot | None:
        """Return a job of the joined queue; see ``JoinedResults``."""
        return None if self._queue is None else self._queue.get(job_id)

    def find_outcome(self, job_id: str) -> JobSnapshot | None:
        """Return an outcome that was given directly; see ``JoinedResults``."""
        data = self.store.run("outcome", job_id.encode())
        return _outcome(data) if data else None

    def all_jobs(self) -> Iterable[JobSnapshot]:
        """Return all jobs of the joined queue; see ``JoinedResults``."""
        return () if self._queue is None else self._queue.every_job()

    def all_outcomes(self) -> Iterator[JobSnapshot]:
        """Yield all outcomes that were given directly; see ``JoinedResults``."""
        start = 0
        while part := self.store.run("outcomes", number(start), number(_PART)):
            yield from (_outcome(data) for data in part if data)
            start += len(part)

    def put(self, outcome: JobSnapshot, *, is_sure: bool) -> bool:
        """Store an outcome; see ``JoinedResults``."""
        record = outcome.record
        flags = number(record.status.is_final + 0), number(record.lease_epoch), number(is_sure + 0)
        body = pack((outcome.finished_at, record.encode(), outcome.result, outcome.error))
        return bool(self.store.run("keep_outcome", record.id.encode(), *flags, body))

    def now(self) -> float:
        """Return the server's time."""
        return self.store.clock.now()

    def forget(self, job_id: str) -> bool:
        """Remove everything stored about a job; False if there was nothing."""
        return bool(self.store.run("forget_job", job_id.encode()))

    @contextmanager
    def waiter(self) -> Iterator[Waitable | None]:
        """Yield something that is set when results arrive; see the contract."""
        with self._sleepers.lend(RESULTS) as waiter:
            yield waiter

    def start(self) -> None:
        """Reach the server, so that any problem with it shows at once."""
        self.store.control_version()

    def stop(self) -> None:
        """Close all connections, unless they are the queue's."""
        self._sleepers.close()
        if self._queue is None:
            self.store.close()


def _outcome(data: bytes) -> JobSnapshot:
    finished_at, record, result, error = _unpack(data[_HEAD_BYTES:])
    return JobSnapshot(
        record=JobRecord.decode(record), result=result, error=error, finished_at=finished_at
    )
