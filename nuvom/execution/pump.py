"""The pump: one thread that claims jobs for the lanes and settles what they end with.

Both go in batches that grow with the work: an idle queue has the latency of a single job, a
full one the throughput of bulk statements. When there is nothing to do the pump sleeps on the
queue's bell, or, while jobs run, until one of them ends.
"""

from __future__ import annotations

from collections import defaultdict, deque
from contextlib import suppress
from typing import TYPE_CHECKING

from nuvom.errors import NuvomError
from nuvom.events import JobFenced, JobsClaimed
from nuvom.execution.announcing import OpenHooks, announce
from nuvom.execution.at_once import AtOnce
from nuvom.execution.back_off import BackOff
from nuvom.execution.bell import Nap, Rounds, drive
from nuvom.execution.lanes import Lane, Shop
from nuvom.execution.limits import Ends
from nuvom.execution.pace import Pace, Patience
from nuvom.execution.room import Room, queue_limits
from nuvom.execution.running import RunningJob
from nuvom.execution.sleeper import Sleeper
from nuvom.execution.strays import Strays
from nuvom.host.crashpoint import crashpoint
from nuvom.queue_backends.base import Capability

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from nuvom.core.outcome import Settlement
    from nuvom.core.record import JobRecord
    from nuvom.execution.limits import Limits
    from nuvom.execution.room import Turn
    from nuvom.execution.station import Station
    from nuvom.execution.thread_lane import ThreadLane

    MakeLanes = Callable[[Shop], tuple[ThreadLane, tuple[Lane, ...]]]

_GATHER_SECS = 0.001  # at most so long for more ends while slots are at work
_IDLE_SECS = 1.0  # a lost wake-up costs no more than this
_POLL_SECS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # where the queue cannot wake us


class Pump:
    """Moves jobs between the queue and the lanes.

    Args:
        make_lanes: Returns the thread lane, or what stands for it, and all lanes, given what
            they share with this pump.

    Attributes:
        lanes: All of them.
        settled: How many attempts were settled.
        strays: Whom the keeper tells of jobs that nobody here seems to have.
        stranded: How many jobs could at the end be neither settled nor handed back, since the
            store could not be used, or an outcome did not come in time; their leases run out.
    """

    def __init__(self, station: Station, make_lanes: MakeLanes, limits: Limits) -> None:
        self._station = station
        self._queue, self._clock = station.queue, station.clock
        self._bus = station.bus
        self._delivery, self._runner = station.delivery, station.runner
        self._owner, self._lease_secs = station.owner, station.lease_secs
        self._in_hand = station.in_hand
        self._lanes: dict[str, Lane] = {}
        self._open_hooks = OpenHooks(self.wake)
        self.at_once = AtOnce(
            station, self._lanes, self._open_hooks, finish=self.finish, wake=self.wake
        )
        own = self.starts, self._clock, self.finish, self.idle, self.crash, self.at_once.settle
        self._threads, self.lanes = threads, lanes = make_lanes(
            Shop(self._runner, self._in_hand, *own)
        )
        self._lanes.update((lane.name, lane) for lane in lanes)
        self._is_burst = limits.burst
        most = station.settings.max_stuck_threads
        self._ends = Ends(limits, self._clock, lanes, max_stuck=most)
        self._pace, self._patience = Pace(threads.size, station.settings.batch_size), Patience()
        others = tuple(lane for lane in lanes if lane is not threads)
        queues = queue_limits(station, limits.concurrency)
        self._room = Room(threads, others, station.runner, pace=self._pace, limits=queues)
        self._done: deque[RunningJob] = deque()
        self._unsettled: list[RunningJob] = []
        self._returning: deque[JobRecord] = deque()
        goes_on = not (limits.burst or limits.max_jobs or limits.concurrency)
        self._sleeper = Sleeper(station.queue, self._clock, self.at_once, goes_on=goes_on)
        self._is_quiet = self._is_aborted = self._looks_later = False
        self._stop_reason: str | None = None
        self._error: BaseException | None = None
        self._claimed = self._idle_rounds = 0
        self._back_off = BackOff(station.bus)
        self._work_began = 0.0
        self._can_wait = Capability.WAKE_UP in station.queue.capabilities
        self.strays = Strays(station.queue, station.in_hand)
        self.settled = self.stranded = 0

    # ---- from other threads -------------------------------------------------------------

    def finish(self, running: RunningJob, settlement: Settlement) -> None:
        """Take a closed attempt."""
        running.settlement = settlement
        self._done.append(running)
        are_many = len(self._done) >= self._pace.batch // 2 and not self._sleeper.bell.has_rung
        if are_many or self._sleeper.is_on_queue:
            self.wake()

    def wake(self) -> None:
        """Let the pump look again."""
        self._sleeper.wake()

    def idle(self) -> None:
        """Look again since a slot is idle, unless there was room for what is ready before."""
        is_asleep = self.at_once.is_open and not self._sleeper.lets_start
        if not (is_asleep and self._room.is_common):
            self.wake()

    def stop(self, reason: str) -> None:
        """Claim no more; end when what runs has ended, or when its time is over."""
        if self._stop_reason is None:
            self._stop_reason = reason
        self.wake()

    def abort(self) -> None:
        """End now."""
        self._is_aborted = True
        self.stop("stopped")

    def crash(self, error: BaseException) -> None:
        """End because the engine itself failed; ``run`` raises ``error``."""
        self._error = error
        self._is_aborted = True
        self.stop("crashed")

    def quiet(self, *, is_quiet: bool) -> None:
        """Claim no more, or claim again, without ending."""
        self._is_quiet = is_quiet
        self.wake()

    def starts(self, running: RunningJob) -> bool:
        """Return whether an attempt may start: nobody has closed it, and its lease still runs."""
        if self._clock.monotonic() >= running.leased_at + self._lease_secs:
            # Perhaps nobody has taken it: then the next beat would renew the lease of a job that
            # no one here has in hand.
            self._take_back((running,))
            self.wake()
        return running in self._in_hand.jobs

    def lose(self, running: RunningJob) -> None:
        """Give up an attempt whose lease is gone, and stop its code."""
        if not self._in_hand.take(running):
            return
        self._lanes[running.lane].close_attempt(running)
        if JobFenced in self._bus.active:
            self._bus.emit(JobFenced(running.record, self._owner))
        self._in_hand.open.discard(running)

    # ---- the loop -----------------------------------------------------------------------

    def run(self, stopping: Callable[[str], None] = lambda _: None) -> str:
        """Work until stopped; return why.

        Args:
            stopping: Called with the reason once it claims no more.
        Raises: whatever is no trouble with the store: a fault of the engine or of a backend. What
            has ended is settled before, as far as that can be done, and the rest handed back.
        """
        try:
            drive(self.rounds(stopping), lambda nap: self._sleeper.sleep(nap, self.looked_again))
        except BaseException:
            self._rescue()
            raise
        if self._error is not None:
            raise self._error
        return self._stop_reason or ""

    def rounds(self, stopping: Callable[[str], None] = lambda _: None) -> Rounds:
        """Do what ``run`` does, but yield each wait instead of waiting: see ``drive``."""
        while self._stop_reason is None:
            try:
                self._release()
                has_settled = self._settle()
                self._leave_to_others()
                has_claimed, self._looks_later = not self._looks_later and self._claim(), False
                if not has_claimed and not has_settled:
                    yield from self._rest()
            except NuvomError as error:
                yield self._back_off.failed(error)
            reason = self._ends.reason(self._claimed, has_work=self._has_work())
            if reason is not None:
                self.stop(reason)
        stopping(self._stop_reason)
        yield from self._drain()

    def _has_work(self) -> bool:
        return bool(self._in_hand.open or self._unsettled or self._returning)

    # ---- claim --------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Claim what there is room for; return whether anything was claimed."""
        claimed = [self._take(turn) for turn in self._room.turns()]
        return True in claimed

    def _take(self, turn: Turn) -> bool:
        most = int(min(turn.most, self._ends.jobs_left(self._claimed)))
        if most <= 0 or self._is_quiet or self._stop_reason is not None:
            return False
        self._back_off.doing = "claim"
        asked_at = self._clock.monotonic()
        jobs = self._delivery.claim(
            most,
            self._owner,
            without=turn.without,
            suspects=0 if self._in_hand.has_suspect else 1,
            served=turn.served,
        )
        self._back_off.works()
        if not jobs:
            return False
        self._idle_rounds = 0
        crashpoint("worker.claimed")
        self._claimed += len(jobs)
        self._sleeper.has_taken_all = len(jobs) < most
        if JobsClaimed in self._bus.active:
            self._bus.emit(JobsClaimed((*jobs,), self._owner, self._clock.monotonic() - asked_at))
        self._submit(jobs, asked_at)
        return True

    def _submit(self, jobs: list[JobRecord], asked_at: float) -> None:
        if not len(self._in_hand):
            self._work_began = asked_at
        services = self._station.services
        claimed = [RunningJob(job, self._owner, services, asked_at) for job in jobs]
        self._in_hand.add(*claimed)
        try:
            finished = self._delivery.finished_before(jobs)
        except NuvomError:
            self._take_back(claimed)
            raise
        work: defaultdict[str, list[RunningJob]] = defaultdict(list)
        task, prepared, lane = "", None, "thread"
        for running in claimed:
            if running.record.func_name != task:  # as a rule it is that of the job before
                task, prepared = running.record.func_name, self._runner.resolve(running)
                lane = prepared.lane if prepared and prepared.lane in self._lanes else "thread"
            known = finished.get(running.record.id) if finished else None
            if prepared is None or known is not None:
                self._close_unrun(running, known or self._runner.unknown(running))
                continue
            running.lane, running.prepared = lane, prepared
            work[lane].append(running)
        for name, attempts in work.items():
            most = self._room.of(self._lanes[name])  # of unknown tasks more may have come
            self._take_back(attempts[most:])
            self._patience.begins(name, asked_at)
            self._lanes[name].submit(attempts[:most])

    def _close_unrun(self, running: RunningJob, settlement: Settlement) -> None:
        if self._in_hand.take(running):  # without a task: no hook follows code that did not run
            running.settlement = settlement
            self._done.append(running)

    # ---- settle -------------------------------------------------------------------------

    def _settle(self) -> bool:
        """Settle all attempts that ended; return whether there were any."""
        self._gather()
        done = [self._done.popleft() for _ in range(len(self._done))]
        self._in_hand.open.difference_update(done)
        self._unsettled += done
        if not self._unsettled:
            return False
        self._back_off.doing = "settle"
        batch = self._unsettled
        crashpoint("worker.before_settle")
        accepted = self._delivery.settle([one.settlement for one in batch])
        crashpoint("worker.settled")
        self._unsettled = []
        self._back_off.works()
        self.settled += len(batch)
        now = self._clock.monotonic()
        self._pace.finished(len(batch), now - self._work_began)
        self._threads.is_thrifty = self._pace.is_bulk
        self._work_began = now
        settled = zip(batch, accepted, strict=True)
        announce(self._station, self._lanes, settled, self._open_hooks)
        return True

    def _gather(self) -> None:
        """Wait a moment for more ends, while slots are at work and few have come."""
        if not self._pace.is_bulk or len(self._done) >= self._pace.batch // 2:
            return
        before = self._threads.backlog()
        if before and self._threads.free() < self._threads.size:
            self._clock.wait(self._sleeper.bell, _GATHER_SECS)
            if self._threads.backlog() >= before:
                self._threads.nudge()

    # ---- sleep --------------------------------------------------------------------------

    def _rest(self) -> Rounds:
        """Wait, as long as there is nothing to do; without news claim less."""
        if self._is_burst and not self._has_work() and not self._runner.awaits_import:
            self.stop("burst")
            return
        self._back_off.doing = "wait"
        limit = self._limit()
        if self._threads.backlog():
            self._threads.nudge()
        if not self._can_wait:
            self._idle_rounds = min(self._idle_rounds + 1, len(_POLL_SECS) - 1)
            limit = min(limit, _POLL_SECS[self._idle_rounds])
        listens = self._can_wait and not self._is_quiet and any(True for _ in self._room.turns())
        has_news = yield Nap(limit, is_on_queue=listens)
        self._looks_later = listens and not has_news  # the next such nap begins with a look
        if not has_news and len(self._in_hand):
            self._pace.slowed()

    def _leave_to_others(self) -> None:
        """Hand back what has waited here for long, behind slow jobs, and claim less."""
        for lane in self._patience.is_over(self._lanes.values(), self._clock.monotonic()):
            self._take_back(lane.take_back())
            self._pace.stalled()

    def looked_again(self) -> bool:
        """What the queue calls once it would wake us: look for anything that came before."""
        return bool(self._done or self._returning or self._stop_reason) or self._claim()

    def _limit(self) -> float:
        due = self._delivery.next_due_secs()
        limit = _IDLE_SECS if due is None else min(_IDLE_SECS, due + 0.001)
        return min(limit, self._ends.secs_left())

    # ---- the end ------------------------------------------------------------------------

    def _drain(self) -> Rounds:
        """Finish what runs, and its hooks, within the time for it; hand back the rest."""
        ends_at = self._clock.monotonic() + self._station.settings.shutdown_timeout_secs
        self._take_back(self._waiting())
        while self._has_work() or len(self._open_hooks):
            left = ends_at - self._clock.monotonic()
            has_settled = yield from self._try_to_settle(left)
            if not has_settled:
                if left <= 0 or self._is_aborted:
                    break
                yield Nap(min(left, 0.05))
        self._take_back(self._in_hand)
        yield from self._try_to_settle(0)
        self.stranded = len(self._unsettled) + len(self._returning) + len(self._in_hand.open)

    def _try_to_settle(self, most_secs: float) -> Generator[Nap, bool, bool]:
        """Release and settle; where the store fails wait a moment, and return False."""
        try:
            self._release()
            return self._settle()
        except NuvomError as error:
            yield Nap(min(self._back_off.failed(error).secs, max(0.0, most_secs)))
            return False

    def _rescue(self) -> None:
        """After a fault: settle what has ended, each by itself, and hand back the rest."""
        self._take_back([*self._waiting(), *self._in_hand])
        for one in [*self._unsettled, *self._done]:
            self._in_hand.open.discard(one)
            try:
                self._delivery.settle([one.settlement])
            except Exception:  # noqa: BLE001  # the fault itself is what is raised
                self._returning.append(one.record)
        with suppress(Exception):  # as above
            self._release()
        self.stranded = len(self._returning) + len(self._in_hand.open)

    def _waiting(self) -> list[RunningJob]:
        """Return the attempts that have not started; their lanes forget them."""
        return [one for lane in self._lanes.values() for one in lane.take_back()]

    def _take_back(self, jobs: Iterable[RunningJob]) -> None:
        """Close attempts that are not run to their end; their jobs go back to the queue."""
        for running in jobs:
            if self._in_hand.take(running):
                running.is_cancelled = True
                self._claimed -= 1
                self._returning.append(running.record)
                self._in_hand.open.discard(running)

    def _release(self) -> None:
        """Give jobs back to the queue; when that fails they are kept for the next try."""
        if self.strays.suspected:
            self._returning += self.strays.found(self._unsettled, self._returning)
        if not self._returning:
            return
        self._back_off.doing = "release"
        jobs = list(self._returning)
        self._delivery.release(jobs)
        for _ in jobs:
            self._returning.popleft()
