"""Jobs on their way from one store to another, or into a file and back.

A job is never in two stores at a time that could both run it. A copy is held in the new store, then
the old store gives the job up, then the copy is let go: see ``nuvom.core.transitions``. Whoever is
killed in between leaves a held copy, from which the next transfer goes on.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from nuvom.core import transitions
from nuvom.core.record import FINAL, Attempt, JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.core.transitions import WAITING, home_of, is_held
from nuvom.errors import CapabilityMissing, PayloadError, QueueFull
from nuvom.queue_backends.store import StoreQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from nuvom.queue_backends.base import BaseJobQueue

PAGE = 500
"""Jobs that are moved in one step. While it lasts, a worker may claim all of them."""

_FEW = 20 * PAGE
_PAST = 100  # closed attempts of a job that are taken along: no store keeps more for sure
_SAME = ("func_name", "args", "kwargs", "queue", "priority", "created_at", "unique_key")
_UNREADABLE = "its record cannot be read"

Jobs = dict[str, JobSnapshot]


class StoredJob(NamedTuple):
    """Everything that is kept of a job: a line of an export.

    Attributes:
        past: The closed attempts, oldest first; excludes the success.
    """

    seen: JobSnapshot
    past: tuple[Attempt, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold; the result is base64 text."""
        seen = self.seen
        return {
            "job": seen.record.replace(ref=0).to_dict(),
            "result": None if seen.result is None else b64encode(seen.result).decode("ascii"),
            "error": msgspec.to_builtins(seen.error),
            "started_at": seen.started_at,
            "finished_at": seen.finished_at,
            "attempts": msgspec.to_builtins(self.past),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Self:  # noqa: ANN401  # whatever a line holds
        """Return the job that ``to_dict`` described. Raises: PayloadError."""
        try:
            result = data["result"]
            seen = JobSnapshot(
                record=JobRecord.from_dict(data["job"]),
                result=None if result is None else b64decode(result, validate=True),
                error=msgspec.convert(data["error"], StoredError | None),
                started_at=msgspec.convert(data["started_at"], float | None),
                finished_at=msgspec.convert(data["finished_at"], float | None),
            )
            return cls(seen, msgspec.convert(data["attempts"], tuple[Attempt, ...]))
        except (KeyError, TypeError, ValueError) as error:
            raise PayloadError(f"it is not a job of an export ({error})") from error


class TransferReport(msgspec.Struct, kw_only=True):
    """What has become of the jobs, and of the schedules.

    Attributes:
        schedules: Schedules that are in the other store now, and fire there alone.
        moved: Waiting jobs that are in the other store now, and no longer here.
        ended: Jobs with their results that are in both stores now.
        known: Those that were in the other store before, schedules of a file included.
        taken: Jobs that a worker was faster to claim; they stay here.
        waiting, running: What is left here at the end.
        refused: Why a job stays as it is, by id; or a schedule, by ``schedule`` and its name.
    """

    schedules: int = 0
    moved: int = 0
    ended: int = 0
    known: int = 0
    taken: int = 0
    waiting: int = 0
    running: int = 0
    refused: dict[str, str] = msgspec.field(default_factory=dict)


class Comparison(NamedTuple):
    """How the jobs of two stores agree.

    Attributes:
        equal: Jobs that were moved or copied, and are in the other store as they should be.
        differences: What is wrong with others, by id.
    """

    equal: int
    differences: dict[str, str]


class Place(NamedTuple):
    """A store and the name under which people know it, which contains no password."""

    name: str
    queue: StoreQueue

    @classmethod
    def of(cls, name: str, queue: BaseJobQueue) -> Self:
        """Return the place of a queue. Raises: CapabilityMissing: it is no store of rows."""
        if not isinstance(queue, StoreQueue):
            reason = "its jobs cannot be moved"
            raise CapabilityMissing(queue.name or type(queue).__name__, "transfer", reason)
        return cls(name, queue)


# ---- reading -------------------------------------------------------------------------------


def pages(
    store: StoreQueue, statuses: Collection[JobStatus] = (), queues: Collection[str] = ()
) -> Iterator[list[JobSnapshot]]:
    """Yield the jobs of a store, newest first."""
    for queue in queues or (None,):
        before: str | None = None
        while page := store.page(statuses=statuses, queue=queue, before=before, limit=PAGE):
            yield page
            before = page[-1].record.id


class Bookmark(NamedTuple):
    """Where a page of a store begins.

    Attributes:
        narrowed: The statuses that the store looks for; the others are left out by whoever reads.
        before: The id of the next newer job, None at the newest.
    """

    queue: str | None
    narrowed: Collection[JobStatus]
    before: str | None


def bookmarks(
    store: StoreQueue, statuses: Collection[JobStatus], queues: Collection[str] = ()
) -> list[Bookmark]:
    """Return where the pages with such jobs begin, oldest first: so they keep their order."""
    found = list[Bookmark]()
    for queue in queues or (None,):
        # A page that is narrowed reads on for as long as it is not full: in the end, through all
        # that was moved before. One that is not narrowed reads the jobs of other statuses as well.
        narrowed = statuses if _count(store, statuses, queue) <= _FEW else ()
        before, newest_first = None, list[Bookmark]()
        for page in pages(store, narrowed, () if queue is None else (queue,)):
            if any(one.status in statuses for one in page):
                newest_first.append(Bookmark(queue, narrowed, before))
            before = page[-1].record.id
        found += reversed(newest_first)
    return found


def read(store: StoreQueue, at: Bookmark, statuses: Collection[JobStatus]) -> list[JobSnapshot]:
    """Return those jobs of a page that have such a status by now, oldest first."""
    page = store.page(statuses=at.narrowed, queue=at.queue, before=at.before, limit=PAGE)
    return [one for one in reversed(page) if one.status in statuses]


def _count(store: StoreQueue, statuses: Collection[JobStatus], queue: str | None) -> int:
    """Return how many jobs of a queue, or of all, have one of these statuses."""
    return sum(
        stats.waiting if status is JobStatus.PENDING else getattr(stats, status.lower())
        for stats in store.stats()
        for status in statuses
        if queue in (None, stats.queue)
    )


def stored(store: StoreQueue, seen: JobSnapshot) -> StoredJob:
    """Return a job with its past."""
    # A job that was never claimed, or whose only claim succeeded, has no closed attempts.
    has_past = seen.record.lease_epoch > (seen.status is JobStatus.SUCCESS)
    return StoredJob(
        seen, tuple(store.closed_attempts(seen.record.id)[-_PAST:] if has_past else ())
    )


def exported(
    store: StoreQueue, report: TransferReport, *, results: bool = False
) -> Iterator[StoredJob]:
    """Yield the waiting jobs, and those that have ended if ``results``, oldest first of each.

    The report tells how many there were, and which cannot be read.
    """
    for statuses in (FINAL, WAITING) if results else (WAITING,):
        marks = bookmarks(store, statuses)
        for seen in chain.from_iterable(read(store, one, statuses) for one in marks):
            whole = store.get(seen.record.id) if seen.status in FINAL else seen
            if whole is None or home_of(whole) is not None or is_held(whole):
                continue
            if not whole.record.is_readable:
                report.refused[whole.record.id] = _UNREADABLE
                continue
            report.ended += whole.status in FINAL
            report.moved += whole.status in WAITING
            yield stored(store, whole)
    count_rest(store, report)


def count_rest(store: StoreQueue, report: TransferReport, queues: Collection[str] = ()) -> None:
    """Note how many jobs wait and run in a store."""
    for stats in store.stats():
        if not queues or stats.queue in queues:
            report.waiting += stats.waiting + stats.parked
            report.running += stats.running


# ---- the store that jobs go to -------------------------------------------------------------


class Arrivals:
    """Copies of jobs in the store that they go to.

    Args:
        source: The name of the store that they come from; None for a file.
        refused: Where to note why a job cannot be taken, by id.
    """

    def __init__(
        self, store: StoreQueue, refused: dict[str, str], source: str | None = None
    ) -> None:
        self._store = store
        self._source = source
        self._refused = refused

    def hold(self, jobs: Iterable[JobSnapshot]) -> tuple[Jobs, Jobs]:
        """Return the held copies of ``jobs``, made where they are missing.

        One that this store has once given away may return, but not from a file.

        Returns: beside them, what the store has under the id of other jobs.
        """
        records = [transitions.held(one.record) for one in jobs]
        ids = {one.id for one in records} - self._enqueue(records)
        found = self._find(ids)
        if self._source is not None:
            self._hold_again(found)
        copies = {one.id: found[one.id] for one in records if one.id in found}
        others = {job_id: seen for job_id, seen in copies.items() if not is_held(seen)}
        return {one: copies[one] for one in copies if one not in others}, others

    def release(self, jobs: Mapping[str, StoredJob], copies: Jobs) -> None:
        """Turn held copies into their jobs."""
        while copies:
            changes, last = [], {}
            for job_id, copy in copies.items():
                job = jobs[job_id]
                is_fresh = not copy.record.lease_epoch
                known = () if is_fresh or not job.past else self._store.closed_attempts(job_id)
                changes += transitions.arrived(copy, job.seen, job.past, known)
                last[job_id] = len(changes) - 1
            answers = self._store.apply(changes)
            # Refused: somebody else has let it go, or has withdrawn it; or an answer was lost.
            found = self._find([job_id for job_id, at in last.items() if not answers[at]])
            ours = {one: copy for one, copy in found.items() if home_of(copy) == self._source}
            self._hold_again(ours)
            copies = {one: copy for one, copy in {**found, **ours}.items() if is_held(copy)}

    def withdraw(self, copies: Jobs) -> None:
        """End held copies of jobs that have stayed in the source."""
        now, home = self._store.now(), self._source or ""
        if copies:
            self._store.apply([transitions.left_to(home, one, now) for one in copies.values()])

    def _enqueue(self, records: list[JobRecord]) -> set[str]:
        """Store records; return the ids of those that are refused."""
        try:
            holders = self._store.enqueue_many(records)
        except QueueFull:
            holders = self._enqueue_each(records)
        for job_id, holder in holders.items():
            self._refused[job_id] = holder and f"job {holder} has its unique_key there"
            if not holder:
                self._refused[job_id] = "its queue is full there (setting max_queue_size)"
        return set(holders)

    def _enqueue_each(self, records: list[JobRecord]) -> dict[str, str]:
        """Store as many as there is room for; others are refused by nobody."""
        refused, full = dict[str, str](), set[str]()
        for record in records:
            try:
                holder = "" if record.queue in full else self._store.enqueue(record)
            except QueueFull:
                full.add(record.queue)
                holder = ""
            if holder is not None:
                refused[record.id] = holder
        return refused

    def _find(self, ids: Collection[str]) -> Jobs:
        """Return the jobs with these ids; those stored just now are found in one step."""
        wanted = set(ids)
        newest = self._store.page(limit=2 * len(wanted)) if wanted else []
        found = {one.record.id: one for one in newest if one.record.id in wanted}
        for job_id in wanted - found.keys():
            one = self._store.get(job_id)
            if one is not None:
                found[job_id] = one
        return found

    def _hold_again(self, found: Jobs) -> None:
        """Make held copies of those jobs that this store has had before, or has withdrawn."""
        back = {job_id: one for job_id, one in found.items() if home_of(one) is not None}
        changes = {job_id: transitions.held_again(one) for job_id, one in back.items()}
        answers = self._store.apply([*changes.values()]) if changes else []
        for (job_id, change), is_applied in zip(changes.items(), answers, strict=True):
            if is_applied:
                found[job_id] = JobSnapshot(record=change.after)
            else:
                self._refused[job_id] = "another job has its unique_key there, or it just changed"
                del found[job_id]


def load(store: StoreQueue, jobs: Iterable[StoredJob], report: TransferReport) -> None:
    """Store jobs of an export. Those that are there already stay as they are."""
    arrivals, left = Arrivals(store, report.refused), iter(jobs)
    while part := {one.seen.record.id: one for one in islice(left, PAGE)}:
        copies, others = arrivals.hold(one.seen for one in part.values())
        arrivals.release(part, copies)
        report.known += len(others)
        for job_id, other in others.items():
            if (home := home_of(other)) is not None:
                report.refused[job_id] = f"it was moved from here to {home}"
        ended = sum(part[job_id].seen.status in FINAL for job_id in copies)
        report.ended += ended
        report.moved += len(copies) - ended


# ---- from store to store -------------------------------------------------------------------


class Transfer:
    """Moves jobs from one store to another while both are in use.

    Args:
        queues: Names; empty means all.
        tell: Called after each step with how many jobs of the source it has dealt with so far; in
            the end, that is what ``count`` returned if nobody else has changed the store.
    """

    def __init__(
        self,
        source: Place,
        target: Place,
        *,
        queues: Collection[str] = (),
        tell: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._source, self._home = source.queue, source.name
        self._target, self._goal = target.queue, target.name
        self._queues = queues
        self._tell, self._met = tell, 0
        self.report = TransferReport()
        self._arrivals = Arrivals(self._target, self.report.refused, self._home)

    def run(self, *, results: bool = False) -> TransferReport:
        """Move the waiting jobs, and copy those that have ended if ``results``.

        What an earlier call began and could not finish is finished first.
        """
        self._resume(results=results)
        if results:
            for mark in bookmarks(self._source, FINAL, self._queues):
                self._copy(read(self._source, mark, FINAL))
        self._move_all()
        count_rest(self._source, self.report, self._queues)
        return self.report

    def count(self, *, results: bool = False) -> int:
        """Return how many jobs the source has that wait, and that have ended if ``results``."""
        statuses = (*WAITING, *(FINAL if results else ()))
        return sum(_count(self._source, statuses, queue) for queue in self._queues or (None,))

    def plan(self, *, results: bool = False) -> TransferReport:
        """Return how many jobs ``run`` would find, without writing anything."""
        if results:
            for page in pages(self._source, FINAL, self._queues):
                self.report.ended += len(self._fit(page))
                self._note_met(page)
        for page in pages(self._source, WAITING, self._queues):
            self.report.moved += len(self._fit(page))
            self._note_met(page)
        count_rest(self._source, self.report, self._queues)
        return self.report

    def compare(self, *, results: bool = False) -> Comparison:
        """Look at each job of the source, and whether the target has what it should have.

        Args:
            results: Whether ended jobs of the source have to be there.
        """
        equal, wrong = 0, dict[str, str]()
        for page in pages(self._source, queues=self._queues):
            for one in page:
                text = self._difference(one, results=results)
                equal += text == ""
                if text:
                    wrong[one.record.id] = text
            self._note_met(page)
        return Comparison(equal, wrong)

    # ---- steps ----------------------------------------------------------------------------

    def _resume(self, *, results: bool) -> None:
        """Deal with the copies that an earlier transfer has left held."""
        if not any(one.scheduled or one.retrying for one in self._target.stats()):
            return
        for page in pages(self._target, (JobStatus.PENDING,)):
            left, kept = Jobs(), Jobs()
            for copy in filter(is_held, page):
                job_id = copy.record.id
                seen = self._source.get(job_id)
                home = None if seen is None else home_of(seen)
                if seen is None or home not in (None, self._goal):
                    self.report.refused[job_id] = f"held there, and {self._home} has no such job"
                elif home is not None:
                    left[job_id] = copy
                elif not self._is_wanted(seen, results=results):
                    kept[job_id] = copy
            self._release({job_id: self._source.get(job_id) for job_id in left}, left)
            self._arrivals.withdraw(kept)

    def _note_met(self, page: Sequence[JobSnapshot]) -> None:
        self._met += len(page)
        self._tell(self._met)

    def _is_wanted(self, seen: JobSnapshot, *, results: bool) -> bool:
        """Return whether a job will be met again."""
        is_served = not self._queues or seen.record.queue in self._queues
        return is_served and (seen.status in WAITING or (results and seen.status in FINAL))

    def _move_all(self) -> None:
        todo = deque(bookmarks(self._source, WAITING, self._queues))
        later, distance = list[Bookmark](), 1
        while todo:
            if self._move(read(self._source, todo.popleft(), WAITING)):
                # Workers take the oldest jobs as well: leave some to them, and go on farther away.
                later += [todo.popleft() for _ in range(min(distance, len(todo)))]
                distance *= 2
        for mark in reversed(later):
            self._move(read(self._source, mark, WAITING))

    def _move(self, page: Sequence[JobSnapshot]) -> int:
        """Move jobs that wait in the source; return how many a worker was faster to claim."""
        jobs = self._fit(page)
        copies, others = self._arrivals.hold(jobs.values())
        for job_id, other in others.items():
            self.report.refused[job_id] = f"{self._goal} has this job, {other.status}"
        now = self._source.now()
        changes = [transitions.left_to(self._goal, jobs[job_id], now) for job_id in copies]
        answers = self._source.apply(changes)
        pairs = zip(copies.items(), answers, strict=True)
        # A lost answer looks like a refusal.
        kept = dict(pair for pair, is_gone in pairs if not is_gone and not self._has_left(pair[0]))
        self._arrivals.withdraw(kept)
        self._release(jobs, {one: copy for one, copy in copies.items() if one not in kept})
        self.report.taken += len(kept)
        self._note_met(page)
        return len(kept)

    def _copy(self, page: Sequence[JobSnapshot]) -> None:
        """Copy jobs that have ended in the source."""
        copies, others = self._arrivals.hold(self._fit(page).values())
        whole = {job_id: self._source.get(job_id) for job_id in copies}
        ended = {
            job_id: stored(self._source, seen)
            for job_id, seen in whole.items()
            if seen is not None and seen.status in FINAL and home_of(seen) is None
        }
        kept = {job_id: copy for job_id, copy in copies.items() if job_id not in ended}
        self._arrivals.withdraw(kept)
        self._arrivals.release(ended, {job_id: copies[job_id] for job_id in ended})
        self.report.ended += len(ended)
        self.report.known += len(others)
        self._note_met(page)

    def _release(self, jobs: Mapping[str, JobSnapshot | None], copies: Jobs) -> None:
        """Turn the copies of jobs that the source has given up into those jobs."""
        known = ((job_id, jobs[job_id]) for job_id in copies)
        whole = {one: stored(self._source, seen) for one, seen in known if seen is not None}
        self._arrivals.release(whole, {job_id: copies[job_id] for job_id in whole})
        self.report.moved += len(whole)

    def _has_left(self, job_id: str) -> bool:
        seen = self._source.get(job_id)
        return seen is not None and home_of(seen) == self._goal

    def _fit(self, page: Iterable[JobSnapshot]) -> Jobs:
        """Return those jobs that can be moved or copied."""
        found = Jobs()
        for one in page:
            if not one.record.is_readable:
                self.report.refused[one.record.id] = _UNREADABLE
            elif not is_held(one) and home_of(one) is None:
                found[one.record.id] = one
        return found

    def _difference(self, one: JobSnapshot, *, results: bool) -> str | None:
        """Return what is wrong with a job, "" if it is in the target as it should be, or None."""
        there, home = self._target.get(one.record.id), home_of(one)
        if there is None or is_held(there) or home_of(there) is not None:
            is_missing = home == self._goal or (results and home is None and one.status in FINAL)
            return f"{self._goal} does not have it" if is_missing else None
        if home is None and one.status not in FINAL:
            return "both stores have it"
        names = _SAME if home is not None else (*_SAME, "status", "attempt")
        differing = [
            name for name in names if getattr(one.record, name) != getattr(there.record, name)
        ]
        here = self._source.get(one.record.id)
        if home is None and here is not None and here.result != there.result:
            differing.append("result")
        return f"the stores differ in its {', '.join(differing)}" if differing else ""
