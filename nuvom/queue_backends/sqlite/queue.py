"""The SQLite queue: what producers and workers call for each job, and how they sleep.

Wherever possible, each call is one statement of one step: see ``hot.py``. Everything else is in
``RowChanges`` and ``RowReads``. The rules of a job's life cycle are in ``StoreQueue``.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import compress
from typing import TYPE_CHECKING, ClassVar

import msgspec

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock, boot_id
from nuvom.errors import NuvomError
from nuvom.host.crashpoint import crashpoint
from nuvom.host.fork import drop_at_fork
from nuvom.host.start_marks import SLOT_BYTES, STARTED, STATE_AT
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.callers import driver_connection
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.queue_backends.sqlite.group_commit import GroupCommit
from nuvom.queue_backends.sqlite.hot import BULK, FEW, Claim, Inserter, store_successes
from nuvom.queue_backends.sqlite.reads import RowReads
from nuvom.queue_backends.sqlite.rows import OldJobs, RowChanges
from nuvom.queue_backends.sqlite.schedules import SQLiteSchedules
from nuvom.queue_backends.sqlite.store import SQLiteStore
from nuvom.queue_backends.sqlite.totals import RowTotals
from nuvom.queue_backends.store import StoreQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nuvom.core.outcome import Settlement
    from nuvom.core.record import JobRecord

# What a claim needs to know, in one row: the queues with ready jobs and with suspects, found by
# skipping through the index from name to name, and whether a scheduled job is due.
_NAMES = """(WITH RECURSIVE named(name) AS (
        SELECT min(queue) FROM jobs WHERE status = {status}
        UNION ALL
        SELECT (SELECT min(queue) FROM jobs WHERE status = {status} AND queue > named.name)
        FROM named WHERE named.name IS NOT NULL)
    SELECT json_group_array(name) FROM named WHERE name IS NOT NULL
        AND name NOT IN (SELECT name FROM queues WHERE paused_by IS NOT NULL))"""
_SURVEY = f"""SELECT {_NAMES.format(status=0)}, {_NAMES.format(status=8)},
    EXISTS (SELECT 1 FROM jobs WHERE status = 7 AND run_at <= ?1)"""
_SURVEY_HOLDS_SECS = 0.02  # how long a survey is reused while claims come back full
_CLAIM_UNDER_PRESSURE = 50  # jobs at most, while the write-ahead log is too long

_EXTEND = "UPDATE jobs SET lease_until = ?1 WHERE status = 1 AND owner = ?2"
_BEAT = "UPDATE workers SET beat = ?1, boot = ?2 WHERE id = ?3"
_HELD = "SELECT json_group_object(id, lease_epoch) FROM jobs WHERE status = 1 AND owner = ?1"
# As ``transitions.released``, for all jobs of an abandoned claim.
_UNDO = """UPDATE jobs SET status = CASE suspect WHEN 1 THEN 8 ELSE 0 END, attempt = attempt - 1,
    deliveries = deliveries - 1, lease_until = 0, started_at = NULL, finished_at = NULL,
    progress = NULL WHERE status = 1 AND claim_token = ?1"""
_decode_names = msgspec.json.Decoder(list[str]).decode
_decode_held = msgspec.json.Decoder(dict[str, int]).decode


class SQLiteJobQueue(RowReads, RowChanges, RowTotals, StoreQueue):
    """Jobs in one SQLite file, including results: a job finishes in one transaction.

    Args:
        settings: Location of the file, durability, lease length.
        clock: Replaced by tests.

    Attributes:
        store: The file; the SQLite results share it.
    """

    name: ClassVar[str] = "sqlite"
    capabilities: ClassVar[frozenset[Capability]] = LeasedJobQueue.capabilities | {
        Capability.ATOMIC_FINISH,
        Capability.TOTALS,
        Capability.TRANSACTIONS,
        Capability.SCHEDULES,
        Capability.HISTORY,
    }

    def __init__(self, settings: Settings | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        settings = settings or Settings()
        self.clock = clock
        self.lease_secs = settings.lease_secs
        self.max_deliveries = settings.max_deliveries
        self.parked_ttl_secs = settings.parked_ttl_secs
        self.store = SQLiteStore(settings.db_path, settings, clock, setting="sqlite_path")
        self._inserter = Inserter(self.store.db, clock, settings.max_queue_size)
        self._old_jobs = OldJobs(self.store.db)
        self._last_queue: str | None = None  # the last queue that jobs were claimed from
        self._turn = 0
        self._surveyed: tuple[list[str], list[str]] = ([], [])
        self._surveyed_at = -_SURVEY_HOLDS_SECS
        self._surveyed_version = -1
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Forget what belongs to the parent's threads."""
        self._group: GroupCommit[JobRecord, str | None] = GroupCommit(self._inserter.store)
        self._abandoned: set[int] = set()  # tokens of claims that no caller received
        self._is_woken = False  # the last wait ended with a wake-up, and no claim followed

    # ---- enqueue ------------------------------------------------------------------------

    def enqueue(self, job: JobRecord) -> str | None:
        """Store a job; see the contract. Concurrent callers share one flush."""
        wakeup = self.store.wakeup  # before the commit: a call that fails must not store anything
        self.store.db.checkpointer.slows_down()
        crashpoint("sqlite.enqueue.before_commit")
        existing = self._group.submit(job)
        crashpoint("sqlite.enqueue.after_commit")
        wakeup.notify_one("work")
        return existing

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all jobs in one transaction, or none; see the contract."""
        wakeup = self.store.wakeup
        self.store.db.checkpointer.slows_down()
        refused = self._inserter.store_many(jobs)
        crashpoint("sqlite.enqueue_many.after_commit")
        wakeup.notify_one("work")
        return refused

    def enqueue_into(self, connection: object, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store jobs in a transaction of the caller's; see the contract.

        The connection is one of ``sqlite3`` to this file, or one of SQLAlchemy or Django that
        wraps such a one. Nothing tells this process of the commit: ``nuvom.notify()`` after it
        wakes a worker, which otherwise looks by itself within a few seconds.
        """
        caller = driver_connection(connection, "sqlite3")
        self.store.db.open()
        self.store.db.check_leads_here(caller)
        return self._inserter.store_in(caller, list(jobs))

    def schedules(self) -> SQLiteSchedules:
        """Return the schedules in the same file."""
        return SQLiteSchedules(self.store, self._inserter)

    # ---- claim --------------------------------------------------------------------------

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
        """Lease at most ``n`` due jobs to ``owner``; see the contract."""
        lock = self.store.workers.lock_of(owner)
        if self.store.db.checkpointer.slows_down():
            n = min(n, _CLAIM_UNDER_PRESSURE)
        if self._abandoned:
            self._undo_abandoned()
        claim = Claim(self.store, owner, without)
        try:
            if self._is_woken:
                self._claim_few(claim, n, queues, exclude)
            is_fresh = False
            while not (claim.count or is_fresh):  # an earlier survey may not know of all jobs
                is_fresh = self._survey(is_bulk=n >= BULK)
                self._claim_surveyed(claim, n, queues, exclude, suspects=suspects)
            if not claim.count:
                return []
            self._last_queue = claim.queue
            jobs = claim.read_back()
            crashpoint("sqlite.claim.before_book")
            self.store.workers.book(lock, [(job.id, job.lease_epoch) for job in jobs])
            return jobs
        except BaseException:
            # No caller received these jobs, yet each heartbeat of their owner would renew them.
            if claim.has_begun:
                self._abandoned.add(claim.token)
                with suppress(NuvomError):  # else the next claim or heartbeat releases them
                    self._undo_abandoned()
            raise

    def _claim_few(
        self, claim: Claim, n: int, queues: Sequence[str] | None, exclude: Sequence[str]
    ) -> None:
        """Claim by one statement what most likely woke this worker: a job of the same queue.

        The next claim finds anything else that is ready. If this process already runs jobs, this
        would not be the fastest way: see ``hot.py``.
        """
        self._is_woken = False
        queue = self._last_queue
        if queue is None or self.store.workers.marks or self.store.claims_flush:
            return
        if queue not in exclude and (queues is None or queue == queues[0]):
            claim.take_few(min(n, FEW), queue)

    def _undo_abandoned(self) -> None:
        for token in list(self._abandoned):
            self.store.db.execute(_UNDO, (token,))
            self._abandoned.discard(token)
            self.notify()

    def _claim_surveyed(
        self,
        claim: Claim,
        n: int,
        queues: Sequence[str] | None,
        exclude: Sequence[str],
        *,
        suspects: int,
    ) -> None:
        """Claim from the queues that have ready jobs."""
        ready, suspect = self._surveyed
        if suspects and suspect:
            claim.take_suspect(self._served(suspect, queues, exclude))
        claim.take_ready(n, self._served(ready, queues, exclude))
        if claim.count < n:
            self._surveyed_at = -_SURVEY_HOLDS_SECS

    def _survey(self, *, is_bulk: bool) -> bool:
        """Promote due jobs, and look which queues have ready jobs and which have suspects.

        Returns: False if an earlier survey still holds, which saves a large claim this one.
        """
        now, version = self.clock.monotonic(), self.store.wakeup.version()
        is_known = version == self._surveyed_version  # else a queue may have been paused
        if is_bulk and is_known and now - self._surveyed_at < _SURVEY_HOLDS_SECS:
            return False
        ((ready, suspect, is_due),) = self.store.db.read(_SURVEY, (self.clock.now(),))
        if is_due:
            self._promote()
            ((ready, suspect, _),) = self.store.db.read(_SURVEY, (self.clock.now(),))
        self._surveyed = (_decode_names(ready), _decode_names(suspect))
        self._surveyed_at, self._surveyed_version = now, version
        return True

    def _served(
        self, ready: list[str], queues: Sequence[str] | None, exclude: Sequence[str]
    ) -> list[str]:
        """Return the queues to claim from, by preference; without one, round-robin."""
        if queues is not None:
            return [name for name in queues if name in ready and name not in exclude]
        ready = [name for name in ready if name not in exclude]
        if len(ready) > 1:
            self._turn += 1
            start = self._turn % len(ready)
            ready = ready[start:] + ready[:start]
        return ready

    def mark_started(self, job: JobRecord) -> None:
        """Record in the slot file that user code starts; writes one byte of mapped memory."""
        # As ``OwnWorkers.mark_started``, without the call.
        try:
            lock, index, epoch = self.store.workers.marks[job.id]
        except KeyError:
            return
        if epoch == job.lease_epoch:
            lock.map[index * SLOT_BYTES + STATE_AT] = STARTED

    def has_started(self, job: JobRecord) -> bool:
        """Return whether user code of a delivery to this process has started."""
        return self.store.workers.has_started(job.id, job.lease_epoch)

    # ---- finish and extend --------------------------------------------------------------

    def finish(self, successes: Sequence[Settlement]) -> list[bool]:
        """Close attempts that plainly succeeded, in one statement; see the contract."""
        wakeup = self.store.wakeup
        crashpoint("sqlite.finish.before_commit")
        parts = store_successes(self.store, successes)
        crashpoint("sqlite.finish.after_commit")
        wakeup.notify_all("result")
        self.store.workers.free([(one.record.id, one.record.lease_epoch) for one in successes])
        if not self.store.is_boot_noted:
            self.store.note_settled()
        return [is_settled for part, stored in parts for is_settled in self._accepted(part, stored)]

    def _accepted(self, successes: Sequence[Settlement], stored: int) -> list[bool]:
        """Return which are settled, and count those that are new unless all are."""
        if stored == len(successes):
            return [True] * stored
        accepted = self._were_settled([one.record for one in successes])
        # Nothing tells those that were stored now from those that were before: their number counts.
        self.store.rollups.count([*compress(successes, accepted)][:stored])
        return accepted

    def extend(self, owner: str) -> dict[str, int]:
        """Renew the leases of ``owner`` and record its heartbeat; see the contract."""
        self._undo_abandoned()
        booked = self.store.workers.booked(owner)
        now = self.clock.monotonic()
        until = now + self.lease_secs
        # Cleared before the write: a claim that comes in between sets it again.
        flush, self.store.has_unflushed_claim = self.store.has_unflushed_claim, False
        try:
            self.store.db.execute(_EXTEND, (until, owner), flush=flush)
        except BaseException:
            self.store.has_unflushed_claim |= flush
            raise
        crashpoint("sqlite.extend.between")
        self.store.db.execute(_BEAT, (now, boot_id(), owner), flush=False)
        self.store.rollups.write()
        ((found,),) = self.store.db.read(_HELD, (owner,))
        held = _decode_held(found)
        # A job no longer held is lost: this worker will not settle it.
        self.store.workers.free((one, epoch) for one, epoch in booked if held.get(one) != epoch)
        return held

    # ---- waiting ------------------------------------------------------------------------

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        """Sleep until there may be a job; see the contract."""
        wakeup = self.store.wakeup
        self._is_woken = wakeup.wait_for_work(timeout, recheck or self._has_ready)
        return self._is_woken

    def interrupt(self) -> None:
        """End every ``wait_for_work`` call on this instance."""
        self.store.interrupt()

    def notify(self) -> None:
        """Wake one sleeping worker, in any process."""
        self.store.wakeup.notify_one("work")

    # ---- opening and closing ------------------------------------------------------------

    def start(self) -> None:
        """Open the file for a worker, so that any problem with it shows at once."""
        self.store.open_for_work()

    def check_store(self) -> None:
        """Check the whole file. Raises: BackendUnavailable: it is damaged."""
        self.store.db.check()

    def stop(self) -> None:
        """Close the file and release the locks of this process's workers."""
        self.store.close()
