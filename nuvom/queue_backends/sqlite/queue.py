"""The SQLite queue: enqueue, claim, settle, release and extend.

Each of them is one statement, single-stepped, wherever it can be: ``sqlite3`` gives up the GIL
at every step, and a lock on the file must never be held while waiting for it. The reasons for the
statements are in ``docs/decisions/0001-one-sqlite-file.md``.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

import msgspec

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock, boot_id
from nuvom.errors import NuvomError
from nuvom.host.crashpoint import crashpoint
from nuvom.host.fork import drop_at_fork
from nuvom.host.start_marks import SLOT_BYTES, STARTED, STATE_AT
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.queue_backends.sqlite.control import ControlPart
from nuvom.queue_backends.sqlite.delivery import BULK, CLAIM_SUSPECT, FEW, Claim
from nuvom.queue_backends.sqlite.group_commit import GroupCommit
from nuvom.queue_backends.sqlite.insertion import Inserter
from nuvom.queue_backends.sqlite.reads import ReadingPart
from nuvom.queue_backends.sqlite.recovery import RecoveryPart
from nuvom.queue_backends.sqlite.settlement import settle
from nuvom.queue_backends.sqlite.store import Store
from nuvom.queue_backends.sqlite.totals import TotalsPart

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from nuvom.core.outcome import Settlement
    from nuvom.core.record import JobRecord
    from nuvom.host.wakeup import Listener
    from nuvom.host.worker_lock import WorkerLock

# What a claim has to know, in one row: queues with ready jobs and with suspects, found by
# skipping through the index from name to name, and whether a scheduled job is due.
_NAMES = """(WITH RECURSIVE named(name) AS (
        SELECT min(queue) FROM jobs WHERE status = {status}
        UNION ALL
        SELECT (SELECT min(queue) FROM jobs WHERE status = {status} AND queue > named.name)
        FROM named WHERE named.name IS NOT NULL)
    SELECT json_group_array(name) FROM named WHERE name IS NOT NULL
        AND name NOT IN (SELECT name FROM queues WHERE paused_by IS NOT NULL))"""
_SURVEY = f"""SELECT {_NAMES.format(status=0)}, {_NAMES.format(status=8)},
    EXISTS (SELECT 1 FROM jobs WHERE status = 7 AND run_at <= ?1)"""  # noqa: S608  # constants only
CLAIM_UNDER_PRESSURE = 50  # jobs at most, while the write-ahead log is too long
_SURVEY_HOLDS_SECS = 0.02  # while claims come back full, what a survey told is used so long

_EXTEND = "UPDATE jobs SET lease_until = ?1 WHERE status = 1 AND owner = ?2"
_BEAT = "UPDATE workers SET beat = ?1, boot = ?2 WHERE id = ?3"
_HELD = "SELECT json_group_object(id, lease_epoch) FROM jobs WHERE status = 1 AND owner = ?1"
# The epoch stays, so that the lease has to tell a delivery that was given back from one that was
# settled: it ends at 0.
_GIVE_BACK = """UPDATE jobs SET status = CASE suspect WHEN 1 THEN 8 ELSE 0 END,
    attempt = attempt - 1, deliveries = deliveries - 1, lease_until = 0, started_at = NULL,
    finished_at = ?1, progress = NULL WHERE status = 1 AND {which}"""
_RELEASE = _GIVE_BACK.format(which="seq = ?2 AND lease_epoch = ?3")
_UNDO = _GIVE_BACK.format(which="claim_token = ?2")
_RELEASED = """INSERT INTO attempts (seq, number, outcome, lease_epoch, worker, finished_at)
    SELECT seq, attempt, 'released', lease_epoch, owner, ?1 FROM jobs
    WHERE status = 1 AND seq = ?2 AND lease_epoch = ?3"""
_decode_names = msgspec.json.Decoder(list[str]).decode
_decode_held = msgspec.json.Decoder(dict[str, int]).decode


class SQLiteJobQueue(ReadingPart, ControlPart, RecoveryPart, TotalsPart, LeasedJobQueue):
    """Jobs in one SQLite file, results included: a job finishes in one transaction.

    Args:
        settings: Where the file is, how durable, how long leases last.
        clock: Replaced by tests.
    """

    name: ClassVar[str] = "sqlite"
    capabilities: ClassVar[frozenset[Capability]] = LeasedJobQueue.capabilities | {
        Capability.ATOMIC_FINISH,
        Capability.TOTALS,
    }

    def __init__(self, settings: Settings | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        settings = settings or Settings()
        self.store = Store(settings.db_path, settings, clock, setting="sqlite_path")
        self._enqueuer = Inserter(self.store.db, clock, settings.max_queue_size)
        self._group: GroupCommit[JobRecord, str | None]
        self._last_queue: str | None = None  # that jobs were claimed from
        self._is_rung = False  # the last wait for work has ended so, and no claim has followed
        self._turn = 0
        self._surveyed: tuple[list[str], list[str]] = ([], [])
        self._surveyed_at = -_SURVEY_HOLDS_SECS
        self._surveyed_version = -1
        self.drop_in_child()
        drop_at_fork(self)

    # ---- enqueue ------------------------------------------------------------------------

    def enqueue(self, job: JobRecord) -> str | None:
        """Store a job; see the contract. Callers that come together share one flush."""
        bell = self.store.bell  # before the commit: what fails must not have stored anything
        self.store.db.checkpointer.slows_down()
        crashpoint("sqlite.enqueue.before_commit")
        existing = self._group.submit(job)
        crashpoint("sqlite.enqueue.after_commit")
        bell.notify_one("work")
        return existing

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all jobs in one transaction, or none; see the contract."""
        bell = self.store.bell
        self.store.db.checkpointer.slows_down()
        refused = self._enqueuer.store_many(jobs)
        crashpoint("sqlite.enqueue_many.after_commit")
        bell.notify_one("work")
        return refused

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
        presence = self.store.presence(owner)
        if self.store.db.checkpointer.slows_down():
            n = min(n, CLAIM_UNDER_PRESSURE)
        for token in list(self._unfinished):
            self._undo(token)
        turn = Claim(self.store, owner, without)
        try:
            self._take_few(turn, n, queues, exclude)
            if not turn.count:
                ready, suspect = self._survey(is_bulk=n >= BULK)
                if suspects and suspect:
                    turn.take(CLAIM_SUSPECT, 1, self._served(suspect, queues, exclude))
                turn.take(turn.ready_statement, n, self._served(ready, queues, exclude))
                if turn.count < n:
                    self._surveyed_at = -_SURVEY_HOLDS_SECS
            return self._book(presence, turn) if turn.count else []
        except BaseException:
            # Nobody has these jobs in hand, yet each beat of their owner would renew them.
            if turn.has_begun:
                self._unfinished.add(turn.token)
                with suppress(NuvomError):  # else the next claim gives them back
                    self._undo(turn.token)
            raise

    def _take_few(
        self, turn: Claim, n: int, queues: Sequence[str] | None, exclude: Sequence[str]
    ) -> None:
        """Claim by one statement what woke this worker, most likely: a job of the same queue.

        Whatever else is ready the next claim finds. Where jobs run here already it would not be
        the quickest way: see ``nuvom.queue_backends.sqlite.delivery``.
        """
        was_rung, self._is_rung = self._is_rung, False
        queue = self._last_queue
        if not was_rung or queue is None or self.store.marks or self.store.claims_flush:
            return
        if queue not in exclude and (queues is None or queue == queues[0]):
            turn.take_few(min(n, FEW), queue)

    def _book(self, presence: WorkerLock, turn: Claim) -> list[JobRecord]:
        """Read the claimed jobs, and note them in the slot file as not started."""
        self._last_queue = turn.queue
        crashpoint("sqlite.claim.after_commit")
        jobs = turn.read_back()
        crashpoint("sqlite.claim.before_book")
        indexes = presence.book([(job.id, job.lease_epoch) for job in jobs])
        marks = self.store.marks
        for job, index in zip(jobs, indexes, strict=True):
            marks[job.id] = (presence, index, job.lease_epoch)
        return jobs

    def _undo(self, token: int) -> None:
        self.store.db.write(lambda connection: connection.execute(_UNDO, (None, token)))
        self._unfinished.discard(token)

    def mark_started(self, job: JobRecord) -> None:
        """Note in the slot file that user code starts; one byte in mapped memory."""
        # Without a call in between no other thread can give the slot to another delivery.
        try:
            presence, index, epoch = self.store.marks[job.id]
        except KeyError:
            return
        if epoch == job.lease_epoch:
            presence.map[index * SLOT_BYTES + STATE_AT] = STARTED

    def _has_started(self, job: JobRecord) -> bool:
        booked = self.store.marks.get(job.id)
        if booked is None or booked[2] != job.lease_epoch:
            return False
        presence, index, _ = booked
        return presence.map[index * SLOT_BYTES + STATE_AT] == STARTED

    def _survey(self, *, is_bulk: bool) -> tuple[list[str], list[str]]:
        """Return the queues with ready jobs and with suspects, and wake what is due."""
        now, version = self.store.clock.monotonic(), self.store.bell.version()
        is_known = version == self._surveyed_version  # else somebody paused a queue, perhaps
        if not (is_bulk and is_known) or now - self._surveyed_at >= _SURVEY_HOLDS_SECS:
            ((ready, suspect, is_due),) = self.store.db.read(_SURVEY, (self.store.clock.now(),))
            if is_due:
                self._wake_due()
                ((ready, suspect, _),) = self.store.db.read(_SURVEY, (self.store.clock.now(),))
            self._surveyed = (_decode_names(ready), _decode_names(suspect))
            self._surveyed_at, self._surveyed_version = now, version
        return self._surveyed

    def _served(
        self, ready: list[str], queues: Sequence[str] | None, exclude: Sequence[str]
    ) -> list[str]:
        """Queues to claim from, in the order of preference; without one, in turn."""
        if queues is not None:
            return [name for name in queues if name in ready and name not in exclude]
        ready = [name for name in ready if name not in exclude]
        if len(ready) > 1:
            self._turn += 1
            start = self._turn % len(ready)
            ready = ready[start:] + ready[:start]
        return ready

    # ---- settle, release, extend --------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Close attempts; see the contract. Successes without children take the short way."""
        crashpoint("sqlite.settle.before_commit")
        accepted = settle(self.store, settlements)
        crashpoint("sqlite.settle.after_commit")
        self.store.bell.notify_all("result")
        self._free([(one.record.id, one.record.lease_epoch) for one in settlements])
        self.store.note_settled()
        return accepted

    def release(self, jobs: Sequence[JobRecord]) -> list[bool]:
        """Give claimed jobs back, uncharged; see the contract."""
        if not jobs:
            return []

        started = [self._has_started(job) for job in jobs]
        now = self.store.clock.now()

        def give_back(connection: sqlite3.Connection) -> list[bool]:
            accepted = []
            for job, has_started in zip(jobs, started, strict=True):
                values = (now if has_started else None, job.ref, job.lease_epoch)
                if has_started:
                    connection.execute(_RELEASED, values)
                accepted.append(connection.execute(_RELEASE, values).rowcount == 1)
            return accepted

        crashpoint("sqlite.release.before_commit")
        accepted = self.store.db.transaction(give_back)
        crashpoint("sqlite.release.after_commit")
        self._free([(job.id, job.lease_epoch) for job in jobs])
        self.notify()
        return accepted

    def extend(self, owner: str) -> dict[str, int]:
        """Renew the leases of ``owner`` and beat for it; see the contract."""
        marks = self.store.marks.copy()  # in one step: other threads claim and settle meanwhile
        booked = [one for one in marks.items() if one[1][0].owner == owner]
        now, flush = self.store.clock.monotonic(), self.store.has_unflushed_claim
        until = now + self.store.settings.lease_secs
        self.store.db.write(lambda one: one.execute(_EXTEND, (until, owner)), flush=flush)
        self.store.has_unflushed_claim = False
        crashpoint("sqlite.extend.between")
        self.store.db.write(lambda one: one.execute(_BEAT, (now, boot_id(), owner)), flush=False)
        ((found,),) = self.store.db.read(_HELD, (owner,))
        held = _decode_held(found)
        # What is held no more is lost: nobody will settle it.
        self._free([(one, epoch) for one, (_, _, epoch) in booked if held.get(one) != epoch])
        return held

    def _free(self, deliveries: Iterable[tuple[str, int]]) -> None:
        """Let the slots of these be used again. A later delivery of the same job keeps its own."""
        marks = self.store.marks
        freed: defaultdict[WorkerLock, list[int]] = defaultdict(list)
        for job_id, epoch in deliveries:
            booked = marks.get(job_id)
            if booked is None or booked[2] != epoch:
                continue
            if marks.pop(job_id, None) is not None:  # nobody else has freed it meanwhile
                presence, index, _ = booked
                freed[presence].append(index)
        for presence, indexes in freed.items():
            presence.free(indexes)

    # ---- waking -------------------------------------------------------------------------

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        """Sleep until a job may be there; see the contract."""
        try:
            listener = self._idle.pop()
        except IndexError:  # all are in use: each thread that waits needs one of its own
            listener = self.store.bell.listen("work")
        self._waiting.add(listener)
        try:
            listener.arm()
            if (recheck or self._has_ready)():
                return True
            self._is_rung = listener.wait(timeout)
            return self._is_rung
        finally:
            try:
                listener.disarm()
            finally:
                try:
                    self._waiting.discard(listener)
                finally:
                    self._idle.append(listener)

    def interrupt(self) -> None:
        """End each ``wait_for_work`` of this instance."""
        for listener in tuple(self._waiting):
            listener.poke()

    def notify(self) -> None:
        """Wake one worker that sleeps, in any process."""
        self.store.bell.notify_one("work")

    def start(self) -> None:
        """Open the file for a worker, so that whatever is wrong with it shows at once."""
        self.store.open_for_work()

    def stop(self) -> None:
        """Close the file and give up this process's places."""
        while self._idle:
            self._idle.pop().close()
        self.store.close()

    def drop_in_child(self) -> None:
        """Forget what belongs to the parent's threads."""
        self._group = GroupCommit(self._enqueuer.store)
        self._unfinished: set[int] = set()
        self._is_rung = False
        self._idle: list[Listener] = []
        self._waiting: set[Listener] = set()
