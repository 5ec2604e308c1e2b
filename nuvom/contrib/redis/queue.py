"""The Redis queue: enqueue, claim, settle, recover and control.

Each call is one script of the server, for any number of jobs: see ``scripts.lua``. The rules of a
job's life are in ``StoreQueue``; reading is in ``RedisReads``.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from redis.exceptions import RedisError

from nuvom.config.settings import Settings
from nuvom.contrib.redis import rows
from nuvom.contrib.redis.reads import RedisReads
from nuvom.contrib.redis.rows import number
from nuvom.contrib.redis.schedules import RedisSchedules
from nuvom.contrib.redis.store import MarkSender, RedisStore
from nuvom.contrib.redis.wakeup import subscribers
from nuvom.core.batch import RecordBatch
from nuvom.core.ids import ID_CHARS, new_id
from nuvom.core.record import JobRecord
from nuvom.core.totals import kept_since
from nuvom.core.transitions import Change, LostDelivery, Recovery
from nuvom.core.views import AUDIT_KEPT
from nuvom.errors import BackendUnavailable, PayloadError, QueueFull
from nuvom.host.sleepers import SCHEDULES
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.leased import LeasedJobQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from nuvom.contrib.redis.wakeup import Subscriber
    from nuvom.core.clock import Clock
    from nuvom.core.outcome import Settlement
    from nuvom.core.views import AuditEntry, WorkerInfo
    from nuvom.host.worker_lock import DeadWorker
    from nuvom.queue_backends.leased import ClaimArguments

_PART = 500  # jobs of one script, so that it takes a few milliseconds
_MOST_CLAIMED = 1000
_ORPHANED_SECS = 5.0  # after which a bulk's caller counts as dead
_FORGOTTEN_SECS = 7 * 86_400.0  # without a heartbeat; until then a worker may come back


class RedisJobQueue(RedisReads):
    """Jobs on a Redis server, with their results.

    Time is the server's, whatever the clock of this machine says.

    Args:
        settings: ``redis_url``, ``redis_prefix``, lease length.
        clock: Replaces the server's clock. For tests.

    Attributes:
        store: The store; the results in the same store share it.
    """

    name: ClassVar[str] = "redis"
    cut = (RedisError, OSError, BackendUnavailable)
    capabilities: ClassVar[frozenset[Capability]] = LeasedJobQueue.capabilities | {
        Capability.ATOMIC_FINISH,
        Capability.OVERLAP,
        Capability.TOTALS,
        Capability.SCHEDULES,
        Capability.HISTORY,
    }

    def __init__(self, settings: Settings | None = None, *, clock: Clock | None = None) -> None:
        settings = settings or Settings()
        store = self.store = RedisStore(settings, clock)
        self.clock = store.clock
        super().__init__(
            settings, store.folder_name, lambda owner: MarkSender(store, owner), store.failure
        )

    def drop_in_child(self) -> None:
        """Forget what belongs to the parent's workers."""
        super().drop_in_child()
        self._sleepers = subscribers(self.store)

    # ---- enqueue --------------------------------------------------------------------------

    def enqueue(self, job: JobRecord) -> str | None:
        """Store a job; see the contract."""
        values = rows.job_values(job)
        is_due = job.run_at <= job.created_at
        if is_due and job.unique_key is None and self.max_queue_size is None:
            self.store.run("enqueue_plain", *values)
            return None
        return self._enqueue_part(*values).get(job.id)

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all jobs or none; see the contract."""
        parts: Iterable[list[bytes]]
        if isinstance(jobs, RecordBatch) and jobs.like.unique_key is None:
            parts, sizes = _batch_values(jobs), Counter({jobs.like.queue: len(jobs)})
        else:
            many = list(jobs)
            values = list(chain.from_iterable(map(rows.job_values, many)))
            parts = _parts(values, 2 * _PART)
            sizes = Counter(job.queue for job in many)
        if sizes.total() <= _PART:
            return self._enqueue_part(*chain.from_iterable(parts))
        return self._enqueue_staged(parts, sizes)

    def _enqueue_part(self, *values: bytes) -> dict[str, str]:
        full, *refused = self.store.run("enqueue", self._most, *values)
        self._raise_if_full(full)
        return _pairs(refused)

    def _enqueue_staged(self, parts: Iterable[list[bytes]], sizes: Counter[str]) -> dict[str, str]:
        """Store any number of jobs by several scripts; from the second on, it cannot fail half-way.

        Whoever reaps goes on with what a killed caller has committed.
        """
        token = new_id().encode()
        for part in parts:
            self.store.run("stage", token, *part)
        queues = chain.from_iterable((name.encode(), number(n)) for name, n in sizes.items())
        is_here, full = self.store.run("commit", token, self._most, *queues)
        self._raise_if_full(full)
        if not is_here:
            raise BackendUnavailable(self.store, "it has lost jobs before all were there")
        self._unstage(token)
        return _pairs(self.store.run("refused", token))

    def _unstage(self, token: bytes) -> None:
        while self.store.run("unstage", token, number(_PART)):
            pass

    @property
    def _most(self) -> bytes:
        return b"" if self.max_queue_size is None else number(self.max_queue_size)

    def _raise_if_full(self, queue: bytes) -> None:
        if queue and self.max_queue_size is not None:
            raise QueueFull(queue.decode(), self.max_queue_size, self.max_queue_size)

    # ---- schedules ------------------------------------------------------------------------

    def schedules(self) -> RedisSchedules:
        """Return the schedules in the same store."""
        return RedisSchedules(self.store, self._schedule_waiter, self.stop)

    def _schedule_waiter(self) -> AbstractContextManager[Subscriber]:
        return self._sleepers.lend(SCHEDULES)

    # ---- claim ----------------------------------------------------------------------------

    @contextmanager
    def lend(self, claim: ClaimArguments) -> Iterator[Callable[[], list[JobRecord]]]:
        """Send a claim; see ``ServerQueue``."""
        values = (
            number(min(claim.n, _MOST_CLAIMED)),
            *(claim.owner.encode(), rows.token_of(claim.token)),
            *(number(claim.suspects), number(claim.turn)),
            *(number(one + 0) for one in (claim.queues is not None, claim.starts)),
            *rows.texts(claim.queues or ()),
            *rows.texts(claim.exclude),
            *rows.texts(claim.without),
        )
        with self.store.sent("claim", *values) as receive:
            yield lambda: self._claimed(receive())

    def _claimed(self, answer: list[bytes]) -> list[JobRecord]:
        if not answer:
            return []
        *data, heads = answer
        try:
            jobs = JobRecord.decode_all(b"".join(data), len(data))
            rows.become_claimed(jobs, heads)
        except PayloadError:
            return self._readable(data, rows.heads_of(heads))
        return jobs

    def _readable(self, data: list[bytes], heads: list[bytes]) -> list[JobRecord]:
        """Return the claimed records that can be read; end the jobs of the others."""
        jobs, damaged = [], []
        for one, head in zip(data, heads, strict=True):
            try:
                jobs.append(JobRecord.decode(one))
                rows.become_claimed(jobs[-1:], head)
            except PayloadError as error:
                before = JobRecord("", "")
                rows.become_claimed([before], head)
                before = before.replace(id=self.store.id_of(before.ref))
                damaged.append(self.set_aside(before, error))
        self.apply(damaged)
        return jobs

    def give_back(self, owner: str, token: int) -> None:
        """Undo a claim that no caller has received; see ``ServerQueue``."""
        self.store.run("give_back", owner.encode(), rows.token_of(token))

    # ---- changes --------------------------------------------------------------------------

    def finish(self, successes: Sequence[Settlement]) -> list[bool]:
        """Close attempts that plainly succeeded, all at once; see the contract."""
        now, answers = self.now(), b""
        for part in _parts(successes, _MOST_CLAIMED):  # a worker's turn is one round trip
            answers += self._finish(part, now)
        secs = sum(one.finished_at - one.started_at for one in successes)
        self.forget_deliveries([one.record for one in successes], secs)
        return [answer == ord("1") for answer in answers]

    def _finish(self, successes: Sequence[Settlement], now: float) -> bytes:
        answer: bytes = self.store.run("finish", *rows.success_values(successes, now))
        # Some are closed already, or were taken away: only the others may be counted.
        return answer or b"".join(self._finish([one], now) for one in successes)

    def apply(self, changes: Sequence[Change]) -> list[bool]:
        """Write changes; see the contract."""
        answers = self._write(changes, [b""] * len(changes))
        self.forget_deliveries([change.before for change in changes])
        return answers

    def _write(self, changes: Sequence[Change], beats: Sequence[bytes]) -> list[bool]:
        answers = b""
        for part in _parts([*map(rows.change_values, changes, beats)], _PART):
            answers += self.store.run("apply", *chain.from_iterable(part))
        return [answer == ord("1") for answer in answers]

    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        """Store a running job's progress; see the contract."""
        progress = json.dumps([done, total, message]).encode()
        return bool(
            self.store.run("report_progress", job.id.encode(), rows.fence_of(job), progress)
        )

    def beat(self, owner: str) -> dict[str, int]:
        """Record a heartbeat; see ``ServerQueue``."""
        secs, micros, *pairs = self.store.run("beat", owner.encode())
        self.store.saw_time(secs, micros)
        values = iter(pairs)
        return {job_id.decode(): epoch for job_id, epoch in zip(values, values, strict=True)}

    def take_lost(self, recovery: Recovery, dead: Mapping[str, DeadWorker]) -> list[JobRecord]:
        """Take back lost jobs and give up on others; see ``ServerQueue``."""
        owners = [owner.encode() for owner in dead]
        values = number(self.lease_secs), number(recovery.parked_before)
        found, parked = self.store.run("find_lost", *values, *rows.listed(owners))
        lost: defaultdict[str, list[LostDelivery]] = defaultdict(list)
        beats: dict[str, bytes] = {}
        for row in found:
            seen, has_started, beat = rows.snapshot(row), bool(row[4]), row[5]
            record, owner = seen.record, seen.worker or ""
            if owner in dead:  # its marks on this machine are of single jobs
                has_started = dead[owner].had_started(record.id, record.lease_epoch)
            lost[owner].append(LostDelivery(record, has_started))
            beats[record.id] = beat
        changes = [change for held in lost.values() for change in recovery.take_back(held)]
        changes += recovery.give_up([rows.snapshot(row) for row in parked])
        # A job may have changed since, or its worker renewed the lease: then it was never found.
        answers = self._write(changes, [beats.get(one.before.id, b"") for one in changes])
        self.store.run("forget_workers", number(recovery.now - _FORGOTTEN_SECS), *owners)
        for token in self.store.run("bulks", number(recovery.now - _ORPHANED_SECS)):
            self._unstage(token)
        return [one.after for one, is_applied in zip(changes, answers, strict=True) if is_applied]

    # ---- control --------------------------------------------------------------------------

    def set_paused(self, queue: str, by: str | None) -> bool:
        """Pause or resume a queue; see ``StoreQueue``."""
        value = b"" if by is None else b"=" + by.encode()
        return bool(self.store.run("pause", queue.encode(), value))

    def remove_waiting(self, queue: str | None) -> int:
        """Remove waiting jobs; see ``StoreQueue``."""
        removed = 0
        for stats in self.stats():  # what is enqueued from now on stays
            if queue in (None, stats.queue):
                for _ in range(0, stats.ready, _PART):
                    removed += self.store.run("remove_ready", stats.queue.encode(), number(_PART))
        for place in (b"later", b"parked"):
            passed = 0
            while True:
                part = (place, (queue or "").encode(), number(passed), number(_PART))
                gone, looked_at = self.store.run("remove_others", *part)
                removed += gone
                passed += looked_at - gone
                if looked_at < _PART:
                    break
        return removed

    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        """Remove old final jobs; see the contract."""
        removed, before = 0, (number(success_before), number(failed_before))
        while removed < limit:
            most = min(_PART, limit - removed)
            gone: int = self.store.run("prune", *before, number(most))
            removed += gone
            if gone < most:
                break
        return removed

    def condense_history(self) -> None:
        """Combine the minutes of old hours; see the contract."""
        times = [number(one) for one in kept_since(self.now())]
        while self.store.run("condense_rollups", *times):  # an hour at a time: others wait for it
            pass

    def record_audit(self, entry: AuditEntry) -> None:
        """Store an audit entry; see the contract."""
        self.store.run("record_audit", entry.id.encode(), rows.pack(entry), number(AUDIT_KEPT))

    # ---- workers --------------------------------------------------------------------------

    def announce(self, worker: WorkerInfo) -> None:
        """Make a worker visible; see the contract."""
        super().announce(worker)
        self.store.run("announce", worker.id.encode(), rows.pack(worker))

    def retire(self, owner: str) -> None:
        """Forget a worker that stopped cleanly; see the contract."""
        self.store.run("forget_workers", b"-inf", owner.encode())
        super().retire(owner)

    def push_command(self, owner: str, word: str) -> bool:
        """Send a command to a worker; see ``StoreQueue``."""
        return bool(self.store.run("push_command", owner.encode(), word.encode()))

    def commands(self, owner: str) -> list[str]:
        """Take the commands for a worker; see the contract."""
        return [word.decode() for word in self.store.run("take_commands", owner.encode())]

    def control_version(self) -> int:
        """Return a number that changes with every command; see the contract."""
        return self.store.control_version()

    # ---- waiting --------------------------------------------------------------------------

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        """Sleep until there may be a job; see the contract."""
        return self._sleepers.wait_for_work(timeout, recheck or self._has_ready)

    def _has_ready(self) -> bool:
        return bool(self.store.run("has_ready"))

    def notify(self) -> None:
        """Wake one sleeping worker, in any process."""
        self.store.run("ring")

    def interrupt(self) -> None:
        """End every ``wait_for_work`` call on this instance."""
        self._sleepers.interrupt()

    # ---- opening and closing ----------------------------------------------------------------

    def start(self) -> None:
        """Reach the server, so that any problem with it shows at once."""
        self.store.control_version()

    def stop(self) -> None:
        """Close all connections and release the locks of this process's workers."""
        super().stop()
        self._sleepers.close()
        self.store.close()


def _parts(values: Sequence[Any], size: int) -> Iterator[Any]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _batch_values(batch: RecordBatch) -> Iterator[list[bytes]]:
    """Yield the arguments that stand for jobs that differ in id and arguments alone."""
    head, at = rows.job_head(batch.like), batch.id_at
    for records in batch.chunks():
        pairs = ((record[at : at + ID_CHARS], head + record) for record in records)
        yield list(chain.from_iterable(pairs))


def _pairs(values: Sequence[bytes]) -> dict[str, str]:
    """Return id and holder of each refused job."""
    texts = (one.decode() for one in values)
    return dict(zip(texts, texts, strict=True))
