"""The worker loop: one thread that claims jobs for the lanes and settles their outcomes.

It claims and settles in batches that grow with the work. So an idle queue has the latency of a
single job, and a full one the throughput of bulk statements. ``step`` does the work at hand and
returns how long to wait. Without work the loop waits for the queue's wake-up or, while all slots
are busy, until a job ends.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, cast

from nuvom.core.clock import LoopWakeup
from nuvom.core.record import JobStatus
from nuvom.errors import NuvomError, StorageFull
from nuvom.events import BackendCalled, BackendFailed, JobsClaimed, WorkerAsked
from nuvom.execution.attempts import OpenAttempt
from nuvom.execution.capacity import Capacity
from nuvom.execution.failures import stored_error
from nuvom.execution.lanes import make_lane
from nuvom.execution.settlement import SettlementEvents
from nuvom.host.crashpoint import crashpoint
from nuvom.queue_backends.base import Capability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nuvom.core.outcome import Settlement
    from nuvom.core.record import JobRecord
    from nuvom.execution.capacity import Limits
    from nuvom.execution.lanes import Lane, LaneHost, WorkerContext
    from nuvom.execution.settlement import ClaimRequest, SharedStore
    from nuvom.execution.thread_lane import ThreadLane
    from nuvom.queue_backends.leased import LeasedJobQueue

    MakeLane = Callable[[str, int, WorkerContext, LaneHost], Lane]

_GATHER_SECS = 0.001  # longest wait for more jobs to end while slots are busy
_IDLE_SECS = 1.0  # a lost wake-up costs no more than this
_POLL_SECS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # when the queue cannot wake us
_START_SECS = 0.0003  # for slots to begin what was claimed, without competing with them
_DRAIN_SECS = 0.05  # between checks while the last jobs end
_RETRY_SECS = (0.1, 0.5, 1.0, 2.0, 5.0)  # after consecutive failures of the store
_FULL_SECS = 1.0  # at most, on a full disk: space may be freed at any moment
_SUCCESS = JobStatus.SUCCESS


class WorkerLoop:
    """Moves jobs between the queue and the lanes, and is the lanes' host.

    Args:
        slots: How many slots each lane has, by name; ``thread`` is one of them.
        stopping: Called with the reason once it claims no more.

    Attributes:
        lanes: By name. Lanes other than ``thread`` are created for their first job.
        has_ended: Whether there are no more steps.
        listens: Whether the queue's wake-up ends the wait that the last step asked for.
        stranded: How many jobs could be neither settled nor handed back at the end, because
            the store was unavailable or an outcome came too late; their leases run out.
    """

    has_ended = listens = False
    stranded = 0
    _is_quiet = _is_aborted = False
    _is_waiting = _slots_settle = _lets_start = _skips_claim = _has_asked = False
    _stop_reason: str | None = None
    _drain_until: float | None = None
    _error: BaseException | None = None
    _took_all: bool | None = None  # the claim got less than it asked for; None: no claim
    _claimed = _settled = _settled_by_slots = _idle_rounds = _failures = 0
    _doing = ""  # the current store operation, as one word
    _work_began = 0.0  # when the slots got work, or when the rate was measured since

    def __init__(
        self,
        context: WorkerContext,
        slots: Mapping[str, int],
        limits: Limits,
        *,
        stopping: Callable[[str], None] = lambda _: None,
        make_lane: MakeLane = make_lane,
    ) -> None:
        self._context, self._slots, self._limits = context, slots, limits
        self._queue, self._clock, self._bus = context.queue, context.clock, context.bus
        self._stores, self._runner = context.stores, context.runner
        self._attempts = context.attempts
        self._stopping, self._make_lane = stopping, make_lane
        self.lanes: dict[str, Lane] = {}
        # The thread lane always exists, and the loop uses attributes that only this lane has.
        self._threads = cast("ThreadLane", make_lane("thread", slots["thread"], context, self))
        self.lanes["thread"] = self._threads
        self._capacity = Capacity(context, self.lanes, slots, limits.concurrency)
        self._batch = self._capacity.batch
        self._after = SettlementEvents(
            context.bus,
            context.runner,
            context.worker,
            run_hook=lambda attempt, hook: self.lanes[attempt.lane].run_hook(hook),
            hook_ended=self.wake,
            was_cancelled=self._stores.was_cancelled,
        )
        self._wakeup = LoopWakeup()
        self._done: deque[OpenAttempt] = deque()
        self._unsettled: list[OpenAttempt] = []
        self._returning: deque[JobRecord] = deque()
        self._ends_at = (
            inf if limits.max_secs is None else self._clock.monotonic() + limits.max_secs
        )
        self._can_wait = Capability.WAKE_UP in context.queue.capabilities
        # Whether the end of a job changes nothing for the worker itself.
        self._goes_on = not (limits.burst or limits.max_jobs or limits.concurrency)
        self._settling = threading.Lock()  # one slot settles at a time; others leave it to us

    # ---- from other threads -------------------------------------------------------------

    def may_start(self, attempt: OpenAttempt) -> bool:
        """Return whether an attempt may start: its lease still runs, and nobody has closed it."""
        if self._clock.monotonic() >= attempt.leased_at + self._context.lease_secs:
            # If nobody has taken it over, the next heartbeat would renew the lease of a job that
            # has no open attempt.
            self._take_back((attempt,))
            self.wake()
        if attempt.record.expires_at is not None and (end := self._runner.expired(attempt)):
            self._close_unrun(attempt, end)
            self.wake()
        return attempt in self._attempts.unclosed

    def finish(self, attempt: OpenAttempt, settlement: Settlement) -> None:
        """Take a closed attempt."""
        attempt.settlement = settlement
        self._done.append(attempt)
        are_many = len(self._done) >= self._batch.size // 2 and not self._wakeup.is_set
        if are_many or self._is_waiting:
            self.wake()

    def settle_now(self, attempt: OpenAttempt, settlement: Settlement) -> None:
        """Settle a plain success in the thread of its slot, while the loop waits for jobs.

        Waking the loop takes longer than settling a job, so this delivers an awaited result sooner.
        Outcomes of a busy worker, and those with further effects, are left to the loop.
        """
        if not self._slots_settle:  # first, since most jobs end while the loop is awake
            attempt.settlement = settlement  # as ``finish`` does, without the cost of a call
            self._done.append(attempt)
            are_many = len(self._done) >= self._batch.size // 2 and not self._wakeup.is_set
            if are_many or self._is_waiting:
                self.wake()
            return
        is_plain = settlement.status is _SUCCESS and not settlement.children
        if not (is_plain and self._settling.acquire(blocking=False)):
            self.finish(attempt, settlement)
            return
        try:
            accepted, _ = self._settle_in_store([settlement])
            self._settled_by_slots += 1
        except NuvomError:  # the loop will hit it again, report it, and retry until it succeeds
            self.finish(attempt, settlement)
            return
        except BaseException:
            self.finish(attempt, settlement)
            raise
        finally:
            self._settling.release()
        attempt.settlement = settlement
        if not accepted[0] or self._after.tells_successes:
            self._after.follow((attempt,), accepted)
        # Only now: a stopping worker has to see either this attempt or the hooks that follow it.
        self._attempts.open.discard(attempt)
        if not self._slots_settle:  # the loop woke up, and may be waiting for this very job to end
            self.wake()

    def idle(self) -> None:
        """Look for jobs, since a slot is idle, unless there was already room for all ready jobs."""
        is_asleep = self._slots_settle and not self._lets_start
        if not (is_asleep and self._capacity.is_common):
            self.wake()

    def crashed(self, error: BaseException) -> None:
        """Stop because the engine itself failed; ``run`` raises ``error``."""
        self._error = error
        self._is_aborted = True
        self.stop("crashed")

    def lose(self, attempts: Iterable[OpenAttempt]) -> None:
        """Give up attempts whose lease is lost, and stop their code."""
        lost = [one for one in attempts if self._attempts.close(one)]
        for attempt in lost:
            lane = self.lanes.get(attempt.lane)
            if lane is None:  # it is about to be created, and will not start this attempt
                attempt.is_cancelled = True
            else:
                lane.close_attempt(attempt)
            self._attempts.open.discard(attempt)
        self._after.fenced(lost)

    def wake(self) -> None:
        """End the current wait, or the next one."""
        self._wakeup.set()
        if self._is_waiting and not self._lets_start:
            self._queue.interrupt()

    def stop(self, reason: str) -> None:
        """Claim no more; end when all running jobs have ended or their time is up."""
        if self._stop_reason is None:
            self._stop_reason = reason
        self.wake()

    def abort(self) -> None:
        """End now."""
        self._is_aborted = True
        self.stop("stopped")

    def quiet(self, *, is_quiet: bool) -> None:
        """Pause or resume claiming, without stopping the worker."""
        self._is_quiet = is_quiet
        self.wake()

    @property
    def settled(self) -> int:
        """How many attempts were settled."""
        return self._settled + self._settled_by_slots

    @property
    def stuck(self) -> int:
        """How many slots were replaced whose code still runs."""
        stuck = 0
        for lane in list(self.lanes.values()):
            stuck += lane.stuck()
        return stuck

    # ---- the loop -----------------------------------------------------------------------

    def start_lanes(self) -> None:
        """Start the thread lane, and create others known to be needed. Call it before ``run``."""
        self._threads.start()
        if self._runner.has_async:
            self._make("async")
        if self._context.settings.max_memory_per_child is not None:
            self._make("process")

    def run(self) -> str:
        """Work until stopped; return the reason.

        Raises: anything but a store failure, that is, a bug in the engine or a backend. Before
            that, ended jobs are settled as far as possible, and the rest is handed back.
        """
        has_news = True
        try:
            while not self.has_ended:
                secs = self.step(has_news=has_news)
                has_news = secs <= 0 or self._wait(secs)
        except BaseException:
            self._rescue()
            raise
        if self._error is not None:
            raise self._error
        return self._stop_reason or ""

    def step(self, *, has_news: bool = True) -> float:
        """Do the work at hand; return how many seconds to wait at most, 0 for no wait.

        Args:
            has_news: False when the wait before this step timed out.
        """
        has_waited, self.listens, self._lets_start = self.listens, False, False
        if self._stop_reason is not None:
            return self._end()
        try:
            secs = self._work(has_waited=has_waited, has_news=has_news)
        except NuvomError as error:
            secs = self.failed(error)
        if self._stop_reason is None:
            reason = self._reason_to_stop()
            if reason is not None:
                self.stop(reason)
        return secs if self._stop_reason is None else 0.0

    def recheck(self) -> bool:
        """Claim anything that arrived before the queue was asked to wake us."""
        return bool(self._done or self._returning or self._stop_reason) or self._claim()

    def failed(self, error: NuvomError) -> float:
        """Report a store failure; return how many seconds to leave the store alone."""
        self.listens = False
        secs = _RETRY_SECS[min(self._failures, len(_RETRY_SECS) - 1)]
        self._failures += 1
        if BackendFailed in self._bus.active:
            self._bus.emit(BackendFailed(self._doing, stored_error(self._doing, error)))
        return min(secs, _FULL_SECS) if isinstance(error, StorageFull) else secs

    def _work(self, *, has_waited: bool, has_news: bool) -> float:
        if self._returning or self._attempts.suspected_orphans:
            self._release()
        has_settled = self._settle()
        for lane in self._capacity.held_up(self._clock.monotonic()):
            self._take_back(lane.take_back())  # others may take what has waited here too long
            self._batch.stalled()
        self._has_asked = False
        # A wait that timed out, or that follows a claim that took all, begins with its own check.
        skips_claim, self._skips_claim = self._skips_claim or (has_waited and not has_news), False
        if self._took_all is None and (has_settled or not skips_claim):
            self._claim()
        took_all, self._took_all = self._took_all, None
        if took_all is None:
            return 0.0 if has_settled else self._rest()
        self._skips_claim = took_all and self._goes_on
        if not has_waited:
            return 0.0
        if took_all:
            self._lets_start = True
            return _START_SECS
        self._queue.notify()  # storing many jobs wakes one worker; each worker wakes the next
        return 0.0

    def _wait(self, secs: float) -> bool:
        """Wait; return whether there is news."""
        if not (self.listens or self._lets_start):
            return self._clock.wait(self._wakeup, secs)
        self._is_waiting, self._slots_settle = True, self._goes_on
        try:
            if self._lets_start:
                self._clock.wait(self._wakeup, secs)
                return True
            return self._wakeup.wait(0) or self._queue.wait_for_work(secs, self.recheck)
        except NuvomError as error:
            secs = self.failed(error)
        finally:
            self._is_waiting = self._slots_settle = False
        return self._clock.wait(self._wakeup, secs)

    def _has_work(self) -> bool:
        return bool(self._attempts.open or self._returning)

    def _reason_to_stop(self) -> str | None:
        most = self._limits.max_jobs
        if most is not None and self._claimed >= most and not self._has_work():
            return "max-jobs"
        if self._ends_at != inf and self._clock.monotonic() >= self._ends_at:
            return "max-secs"
        is_stuck = self.stuck >= self._context.settings.max_stuck_threads
        return "stuck-threads" if is_stuck else None

    # ---- claim --------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Claim as many jobs as there is room for; return whether any were claimed."""
        has_claimed = False
        for request in self._capacity.requests():
            self._has_asked = True
            has_claimed = self._take(request) or has_claimed
        return has_claimed

    def _take(self, request: ClaimRequest) -> bool:
        allowed = self._allowed(request)
        if allowed is None:
            return False
        self._doing = "claim"
        asked_at = self._clock.monotonic()
        jobs = self._stores.claim(allowed, self._context.worker)
        if BackendCalled in self._bus.active:
            self._bus.emit(BackendCalled("claim", self._clock.monotonic() - asked_at))
        return self._received(allowed, jobs, asked_at)

    def _allowed(self, request: ClaimRequest) -> ClaimRequest | None:
        """Return what may be claimed of a request, None for nothing."""
        most = request.most
        if self._limits.max_jobs is not None:
            most = min(most, self._limits.max_jobs - self._claimed)
        if most <= 0 or self._is_quiet or self._stop_reason is not None:
            return None
        return request._replace(most=most, suspects=0 if self._attempts.has_suspect else 1)

    def _received(self, request: ClaimRequest, jobs: list[JobRecord], asked_at: float) -> bool:
        """Submit claimed jobs; return whether there are any."""
        self._failures = 0
        worker, active = self._context.worker, self._bus.active
        if WorkerAsked in active:
            self._bus.emit(WorkerAsked(worker, len(jobs), self.stuck))
        if not jobs:
            return False
        self._idle_rounds = 0
        crashpoint("worker.claimed")
        self._claimed += len(jobs)
        self._took_all = len(jobs) < request.most
        if JobsClaimed in active:
            self._bus.emit(JobsClaimed((*jobs,), worker, self._clock.monotonic() - asked_at))
        self._submit(jobs, asked_at)
        return True

    def _submit(self, jobs: list[JobRecord], asked_at: float) -> None:
        if not self._attempts.unclosed:  # the slots had nothing to do while the store was busy
            self._work_began = self._clock.monotonic()
        worker, services = self._context.worker, self._context.services
        claimed = [OpenAttempt(job, worker, services, asked_at) for job in jobs]
        self._attempts.add(claimed)
        finished: dict[str, Settlement] = {}
        if self._stores.finished_before is not None:
            try:
                finished = self._stores.finished_before(jobs)
            except NuvomError:
                self._take_back(claimed)
                raise
        work: defaultdict[str, list[OpenAttempt]] = defaultdict(list)
        name, task, lane = "", None, "thread"
        for attempt in claimed:
            if attempt.record.func_name != name:  # usually the same as that of the previous job
                name, task = attempt.record.func_name, self._runner.resolve(attempt)
                lane = task.lane if task and task.lane in self._slots else "thread"
            known = finished.get(attempt.record.id) if finished else None
            if task is None or known is not None:
                self._close_unrun(attempt, known or self._runner.unknown(attempt))
                continue
            attempt.lane, attempt.task = lane, task
            work[lane].append(attempt)
        for lane, attempts in work.items():
            most = self._capacity.of(lane)
            if len(attempts) > most:  # there may be more if tasks are unknown
                self._take_back(attempts[most:])
            (self.lanes.get(lane) or self._make(lane)).submit(attempts[:most])
            self._capacity.claimed_at[lane] = asked_at

    def _make(self, name: str) -> Lane:
        lane = self._make_lane(name, self._slots[name], self._context, self)
        self.lanes[name] = lane
        lane.start()
        return lane

    def _close_unrun(self, attempt: OpenAttempt, settlement: Settlement) -> None:
        if self._attempts.close(attempt):  # without a task: no hook follows code that did not run
            attempt.settlement = settlement
            self._done.append(attempt)

    # ---- settle -------------------------------------------------------------------------

    def _settle(self) -> bool:
        """Settle all attempts that have ended; return whether there were any."""
        if self._batch.is_bulk and len(self._done) < self._batch.size // 2:
            self._gather()
        for _ in range(len(self._done)):
            self._unsettled.append(self._done.popleft())
        if not self._unsettled:
            return False
        now = self._clock.monotonic()
        self._batch.finished(self._unsettled, now - self._work_began)
        self._work_began = now
        self._doing = "settle"
        batch = self._unsettled
        crashpoint("worker.before_settle")
        request = self._companion()
        accepted, jobs = self._settle_in_store([one.settlement for one in batch], request)
        crashpoint("worker.settled")
        self._unsettled = []
        self._attempts.open.difference_update(batch)
        self._failures = 0
        self._settled += len(batch)
        self._threads.is_thrifty = self._batch.is_bulk
        if request is not None:
            self._received(request, jobs, now)
        self._after.follow(batch, accepted)
        return True

    def _settle_in_store(
        self, settlements: list[Settlement], request: ClaimRequest | None = None
    ) -> tuple[list[bool], list[JobRecord]]:
        """Settle and, if there is a request, claim; return what was accepted and claimed."""
        jobs: list[JobRecord] = []
        began = self._clock.monotonic()
        if request is None:
            accepted = self._stores.settle(settlements)
        else:
            stores = cast("SharedStore", self._stores)  # others do not overlap
            worker = self._context.worker
            accepted, jobs = stores.settle_and_claim(settlements, request, worker)
        if BackendCalled in self._bus.active:
            for call in ("settle",) if request is None else ("settle", "claim"):
                self._bus.emit(BackendCalled(call, self._clock.monotonic() - began))
        return accepted, jobs

    def _companion(self) -> ClaimRequest | None:
        """Return a claim to make while outcomes are settled, None to make it afterwards."""
        is_wanted = self._stores.overlaps and self._batch.is_bulk
        requests = [*self._capacity.requests()] if is_wanted else []
        return self._allowed(requests[0]) if len(requests) == 1 else None

    def _gather(self) -> None:
        """Wait a moment for more jobs to end, while slots are busy and few have ended."""
        before = len(self._threads.ready)
        if before and self._threads.free() < self._threads.size:
            self._clock.wait(self._wakeup, _GATHER_SECS)
            if len(self._threads.ready) >= before:
                self._threads.nudge()

    # ---- wait ---------------------------------------------------------------------------

    def _rest(self) -> float:
        """Return how long to wait when there is nothing to do."""
        # If it asked for nothing, a hook occupies the last slot, and there may be more jobs.
        is_over = self._limits.burst and self._has_asked
        if is_over and not (self._has_work() or self._runner.awaits_import):
            if not self._stores.unpark(self._runner.wanted):
                self.stop("burst")
            return 0.0
        self._doing = "wait"
        due = self._stores.next_due_secs()
        secs = _IDLE_SECS if due is None else min(_IDLE_SECS, due + 0.001)
        if self._ends_at != inf:
            secs = min(secs, max(0.0, self._ends_at - self._clock.monotonic()))
        if self._threads.ready:
            self._threads.nudge()
        if self._can_wait:
            has_room = next(self._capacity.requests(), None) is not None
            self.listens = has_room and not self._is_quiet
            return secs
        self._idle_rounds = min(self._idle_rounds + 1, len(_POLL_SECS) - 1)
        return min(secs, _POLL_SECS[self._idle_rounds])

    # ---- the end ------------------------------------------------------------------------

    def _end(self) -> float:
        """Let running jobs and their hooks finish within the time limit; hand back the rest."""
        if self._drain_until is None:
            self._stopping(self._stop_reason or "")
            self._drain_until = (
                self._clock.monotonic() + self._context.settings.shutdown_timeout_secs
            )
            self._take_back(self._not_started())
        left = self._drain_until - self._clock.monotonic()
        secs = self._settle_last()
        if secs == 0.0:
            return 0.0
        if (self._has_work() or self._after.open_hooks) and left > 0 and not self._is_aborted:
            return min(left, secs)
        self._take_back(list(self._attempts.unclosed))
        self._settle_last()
        with suppress(NuvomError):  # the leases of jobs still held run out
            self._release_orphans()
        self.stranded = len(self._returning) + len(self._attempts.open)
        self.has_ended = True
        return 0.0

    def _settle_last(self) -> float:
        """Release and settle; return when to try again, 0.0 if something was settled."""
        try:
            self._release()
            return 0.0 if self._settle() else _DRAIN_SECS
        except NuvomError as error:
            return self.failed(error)

    def _rescue(self) -> None:
        """Settle ended jobs one by one after a crash, and hand back the rest."""
        self._take_back([*self._not_started(), *self._attempts.unclosed])
        for one in [*self._unsettled, *self._done]:
            self._attempts.open.discard(one)
            try:
                self._stores.settle([one.settlement])
            except Exception:  # noqa: BLE001  # the original error is the one raised
                self._returning.append(one.record)
        with suppress(Exception):  # as above
            self._release()
            self._release_orphans()
        self.stranded = len(self._returning) + len(self._attempts.open)

    def _not_started(self) -> list[OpenAttempt]:
        """Remove the attempts that have not started from their lanes, and return them."""
        return [one for lane in self.lanes.values() for one in lane.take_back()]

    def _take_back(self, attempts: Iterable[OpenAttempt]) -> None:
        """Close attempts that will not run to the end; their jobs go back to the queue."""
        for attempt in attempts:
            if self._attempts.close(attempt):
                attempt.is_cancelled = True
                self._claimed -= 1
                self._returning.append(attempt.record)
                self._attempts.open.discard(attempt)

    def _release(self) -> None:
        """Give jobs back to the queue; if that fails, keep them for the next try."""
        if self._attempts.suspected_orphans:
            queue = cast("LeasedJobQueue", self._queue)  # without leases there are no suspects
            worker, returning = self._context.worker, list(self._returning)
            self._returning += self._attempts.orphans(queue, worker, returning)
        if not self._returning:
            return
        self._doing = "release"
        jobs = list(self._returning)
        self._stores.release(jobs)
        for _ in jobs:
            self._returning.popleft()

    def _release_orphans(self) -> None:
        """Give back jobs that the store holds for this worker but no claim returned."""
        if self._context.lease_secs < inf:
            queue = cast("LeasedJobQueue", self._queue)
            self._attempts.suspected_orphans = queue.extend(self._context.worker)
            self._release()
