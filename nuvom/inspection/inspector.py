"""Read access to everything stored: jobs, attempts, queues, workers, failures.

The SDK, the command line, dashboards and metrics read through this module and never through a
backend's own tables, so that each figure has one source. It returns snapshots and plain values;
readers decide how to show them.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property, partial
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.core.ids import CHILDREN, REPEATS, following_id
from nuvom.core.record import (
    FINAL,
    PARENT,
    Attempt,
    JobRecord,
    JobSnapshot,
    JobStatus,
)
from nuvom.core.text import mask_text
from nuvom.core.views import JobScan, Links, Reason
from nuvom.discovery.manifest import HASHED, by_any_name, is_stale, release_of, tasks_or_nothing
from nuvom.errors import AmbiguousJob, JobNotFound, ScheduleNotFound, plural, suggest
from nuvom.inspection.redaction import Redaction, editable, unmasked_call
from nuvom.inspection.search import SEARCH_SECS, SEARCHED_JOBS, Lookup, SearchLimits
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.result_backends.base import BaseResultBackend
from nuvom.result_backends.full import from_full, with_outcome
from nuvom.scheduler.store import all_records, find_record

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from nuvom.core.views import (
        AuditEntry,
        ErrorGroup,
        QueueStats,
        Rollup,
        StoreSize,
        Total,
        WorkerInfo,
    )
    from nuvom.inspection.history import KeptHistory
    from nuvom.inspection.search import Found, Search
    from nuvom.runtime import Runtime
    from nuvom.scheduler.record import ScheduleRecord

_FULL_ID = 36
_SHORTEST_SUFFIX = 6
_PAGE = 500
_MINUTE = 60
_WAITING_TOLD = 1000  # jobs beside a waiting one that are counted
_MOST_LINKS = 100  # jobs that are listed as following from one
_WAITING = ("ready", "scheduled", "retrying")

COUNTED_JOBS = 50_000
"""How many jobs of a queue and status are counted for pages that are read often."""
_MOST_GONE = 3  # jobs that were pruned, or dropped as their unique key was taken


class Count(NamedTuple):
    """How many there are, and whether there are more that were not counted."""

    n: int
    is_more: bool


class Inspector:
    """Reads the stores of one runtime. It remembers nothing but the names in the manifest."""

    def __init__(self, runtime: Runtime, kept: KeptHistory | None = None) -> None:
        """Read the stores of ``runtime``; with ``kept``, only what is new of the history."""
        self._runtime = runtime
        self._kept = kept
        self._queue = runtime.queue if isinstance(runtime.queue, LeasedJobQueue) else None

    @cached_property
    def _redaction(self) -> Redaction:
        return Redaction(self._runtime.settings, self._runtime.registry)

    def snapshot(self, job_id: str, record: JobRecord | None = None) -> JobSnapshot:
        """Return one job.

        Args:
            record: The job as it was stored. It is used when nothing else can be seen of a job
                before it has an outcome.
        Raises: JobNotFound.
        """
        found = self._queue.get(job_id) if self._queue is not None else None
        if found is not None and (self._runtime.is_shared or not found.status.is_final):
            return found
        kept = self._runtime.results.get_full(job_id)
        if found is not None:
            return found if kept is None else with_outcome(found, kept)
        if kept is None:
            if record is None or not self.is_blind:
                raise JobNotFound(job_id)
            return JobSnapshot(record=record)
        return from_full(kept, self._runtime.codec)

    @property
    def is_blind(self) -> bool:
        """Whether a job is seen only once it has an outcome.

        This is so with a five-method queue and a six-method result backend.
        """
        kept = type(self._runtime.results).set_record
        return self._queue is None and kept is BaseResultBackend.set_record

    def look(self, job_id: str, record: JobRecord | None = None) -> JobSnapshot | None:
        """Do as ``snapshot``; None if nothing can be seen of a job before it has an outcome."""
        try:
            return self.snapshot(job_id, record)
        except JobNotFound:
            if not self.is_blind:
                raise
            return None

    def arguments(self, record: JobRecord) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a job's arguments, rebuilt from its task's annotations.

        If the task is not registered here, user classes are returned as ``Shaped``.
        """
        codec, definition = self._runtime.codec, self._runtime.registry.get(record.func_name)
        if definition is None:
            return codec.decode_call(record.args, record.kwargs, shaped=True)
        return codec.call_decoder(definition.func)(record.args, record.kwargs)

    def result(self, snapshot: JobSnapshot) -> Any:
        """Return the result of a SUCCESS, rebuilt from the task's return annotation.

        None if the job has not ended in success or its result is not kept. If the task is not
        registered here, user classes are returned as ``Shaped``.
        """
        data = self._kept_result(snapshot)
        return None if data is None else self.result_decoder(snapshot.record.func_name)(data)

    def result_decoder(self, func_name: str) -> Callable[[bytes], Any]:
        """Return a function that rebuilds a task's results, as ``result`` does."""
        codec, definition = self._runtime.codec, self._runtime.registry.get(func_name)
        if definition is None:
            return partial(codec.decode_value, shaped=True)
        made_for, decoder = self._runtime.decoders.get(func_name, (None, codec.decode_value))
        if made_for is not definition:  # created once per task, since it reads annotations
            decoder = codec.result_decoder(definition.func)
            self._runtime.decoders[func_name] = (definition, decoder)
        return decoder

    def shown_result(self, snapshot: JobSnapshot) -> Any:
        """Return the result for display: secrets masked, no class rebuilt."""
        data = self._kept_result(snapshot)
        if data is None:
            return None
        value = self._runtime.codec.decode_value(data, shaped=True)
        return self._redaction.refresh().result(snapshot.record.func_name, value)

    def _kept_result(self, snapshot: JobSnapshot) -> bytes | None:
        """Return the encoded result of a SUCCESS from whichever store has it."""
        if snapshot.status is not JobStatus.SUCCESS:
            return None
        if snapshot.result is not None or self._runtime.is_shared:
            return snapshot.result
        value = self._runtime.results.get_result(snapshot.record.id)
        return None if value is None else self._runtime.codec.encode_value(value)

    def shown_arguments(self, record: JobRecord) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments for display: secrets and redacted values masked, no class rebuilt.

        Raises: PayloadError: they are damaged.
        """
        self._redaction.refresh()
        return self._shown(record)

    def _shown(self, record: JobRecord) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = self._runtime.codec.decode_call(record.args, record.kwargs, shaped=True)
        return self._redaction.arguments(record.func_name, args, kwargs)

    def named_arguments(self, record: JobRecord) -> dict[str, Any]:
        """Return ``shown_arguments`` by the names of the parameters, or by number if unknown.

        Raises: PayloadError: they are damaged.
        """
        self._redaction.refresh()
        return self._named(record)

    def _named(self, record: JobRecord) -> dict[str, Any]:
        args, kwargs = self._shown(record)
        names = self._redaction.names(record.func_name, len(args))
        return {**dict(zip(names, args, strict=True)), **kwargs}

    def edited_arguments(
        self, record: JobRecord, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments that somebody edited with stored values where nothing was changed.

        So masked values, and those that JSON cannot hold, stay what they are.

        Args:
            args, kwargs: ``shown_arguments`` in JSON types, after editing.
        Raises: PayloadError: the stored ones are damaged. InvalidArguments: as ``unmasked_call``.
        """
        codec = self._runtime.codec
        stored = codec.decode_call(record.args, record.kwargs, shaped=True)
        shown = self.editable_arguments(record)
        return unmasked_call(record.func_name, (args, kwargs), shown, stored)

    def editable_arguments(self, record: JobRecord) -> tuple[list[Any], dict[str, Any]]:
        """Return ``shown_arguments`` in JSON types, to be edited.

        Raises: PayloadError: they are damaged.
        """
        args, kwargs = self.shown_arguments(record)
        return editable(args), editable(kwargs)

    def find_id(self, text: str) -> str:
        """Return the full id for an id or a unique suffix of at least six characters.

        Raises: JobNotFound, AmbiguousJob.
        """
        if len(text) >= _FULL_ID or self._queue is None or len(text) < _SHORTEST_SUFFIX:
            return self.snapshot(text).record.id
        found = self._queue.find_ids(text, limit=6)
        if not found:
            raise JobNotFound(text)
        if len(found) > 1:
            raise AmbiguousJob(text, found[:5])
        return found[0]

    def page(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobSnapshot]:
        """Return jobs, newest first; ``before`` is the last id of the previous page."""
        if self._queue is not None:
            return self._queue.page(
                statuses=statuses, queue=queue, task=task, before=before, limit=limit
            )
        wanted = frozenset(statuses)
        found = [from_full(kept, self._runtime.codec) for kept in self._runtime.results.list_jobs()]
        if before is not None:
            places = [place for place, one in enumerate(found) if one.record.id == before]
            older = [one for one in found if one.record.id < before]  # it was removed since
            found = found[places[0] + 1 :] if places else older
        return [
            one
            for one in found
            if (not wanted or one.status in wanted)
            and queue in (None, one.record.queue)
            and task in (None, one.record.func_name)
        ][:limit]

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the stored closed attempts, oldest first."""
        return [] if self._queue is None else self._queue.attempts(job_id)

    def search(
        self,
        search: Search,
        *,
        before: str | None = None,
        limit: int = 50,
        secs: float = SEARCH_SECS,
        within: int = SEARCHED_JOBS,
    ) -> Found:
        """Return jobs that fit, newest first, after looking for a limited time.

        Args:
            before: The ``next_before`` of what was found last.
            secs: Seconds after which it stops looking, and says so.
            within: Stored jobs after which it does.
        """
        self._redaction.refresh()
        lookup = Lookup(self._scan, self._named, self._runtime.clock)
        return lookup.find(search, before, limit, SearchLimits(secs, within))

    def newest(
        self, task: str, limit: int, *, statuses: Iterable[JobStatus] = ()
    ) -> list[JobSnapshot]:
        """Return the newest jobs of a task among those that a search looks at by default."""
        return self._scan(limit=limit, within=SEARCHED_JOBS, task=task, statuses=statuses).jobs

    def _scan(self, *, limit: int, within: int, **wanted: Any) -> JobScan:
        if self._queue is not None:
            return self._queue.scan(limit=limit, within=within, **wanted)
        page = self.page(limit=limit, **wanted)
        next_before = page[-1].record.id if len(page) == limit else None
        return JobScan(page, next_before, len(page))

    def stats(self, most: int | None = None) -> list[QueueStats]:
        """Return counts for each queue, by name; empty if the backend cannot tell.

        Args:
            most: Count only so far; see ``LeasedJobQueue.stats``. None counts all jobs, which may
                take long.
        """
        if self._queue is None:
            return []
        return self._queue.stats() if most is None else self._queue.stats(most)

    def backlog(self, most: int | None = None) -> list[QueueStats]:
        """Return counts for each queue, as ``stats``, but perhaps none of successes.

        This is much cheaper where a store keeps many jobs that have ended.
        """
        return [] if self._queue is None else self._queue.backlog(most)

    def next_due_secs(self) -> float | None:
        """Return seconds until the next job is due that is scheduled or waits to retry, or None."""
        return None if self._queue is None else self._queue.next_due_secs()

    def status_counts(self, most: int = COUNTED_JOBS) -> dict[JobStatus, Count]:
        """Return how many jobs have each status, counted only so far.

        Empty if the backend cannot tell.
        """
        return counts_by_status(self.stats(most))

    def revision(self) -> Hashable:
        """Return a value that changes when something stored has changed; cheap.

        It may also change without that. None if the backend cannot tell.
        """
        return None if self._queue is None else self._queue.revision()

    def workers(self) -> list[WorkerInfo]:
        """Return the workers that are not known to be dead; empty if the backend cannot tell.

        Those that run jobs: a scheduler in a process of its own is none of them.
        """
        return [one for one in self.processes() if one.runs_jobs]

    def schedulers(self) -> list[WorkerInfo]:
        """Return the processes that fire schedules: workers, and schedulers alone."""
        return [one for one in self.processes() if one.scheduler]

    def processes(self) -> list[WorkerInfo]:
        """Return the workers, and the schedulers in processes of their own, oldest first."""
        return [] if self._queue is None else self._queue.workers()

    def workers_on(self, queue: str) -> int | None:
        """Return how many live workers serve ``queue``; None if the backend cannot tell."""
        if self._queue is None:
            return None
        return sum(
            worker.state == "alive" and (not worker.queues or queue in worker.queues)
            for worker in self.workers()
        )

    def other_code(self) -> dict[str, str]:
        """Return which workers run another version of the code, and what it differs from.

        A version without a name is compared with the code here, as the manifest lists it. A named
        one is compared with the name here or, if there is none, with that of the newest worker.
        """
        here, found = release_of(self._runtime.settings), dict[str, str]()
        workers = [one for one in self.workers() if one.release]
        for one in workers:
            is_hash = one.release.startswith(HASHED)
            expected, name = here, "the manifest" if is_hash else f"release {here}"
            if not here or is_hash != here.startswith(HASHED):
                expected, name = workers[-1].release, "the newest worker"
            if one.release != expected:
                found[one.id] = name
        return found

    def orphans(self, running: Iterable[JobSnapshot]) -> list[JobSnapshot]:
        """Return those of some RUNNING jobs whose worker has died or was never announced."""
        seen = [one for one in running if one.status is JobStatus.RUNNING]
        if self._queue is None or not seen:
            return []
        known = {worker.id for worker in self.workers()}
        lost = [one for one in seen if one.worker not in known]
        # A worker that stopped in the meantime has ended its jobs, or given them back.
        again = [self._queue.get(one.record.id) for one in lost]
        return [one for one, now in zip(lost, again, strict=True) if now and _is_same(one, now)]

    def why(self, snapshot: JobSnapshot) -> Reason | None:
        """Return why a job that has not ended does not run; None if it runs or has ended."""
        record, status = snapshot.record, snapshot.status
        if status is JobStatus.PENDING:
            return self._why_pending(record)
        if status is JobStatus.PARKED:
            error = snapshot.error
            reason = "no worker has its task" if error is None else mask_text(error.message)
            return Reason(f"a worker could not run it: {reason.rstrip('.')}", self._fix_of(record))
        if self.orphans((snapshot,)):
            fix = f"Start one, which takes it back: nuvom runworker --queues {record.queue}"
            if any(one.state != "silent" for one in self.workers()):
                fix = "Another worker takes it back."
            return Reason("its worker has died", fix)
        return None

    def _why_pending(self, record: JobRecord) -> Reason:
        stats = next(
            (one for one in self.backlog(_WAITING_TOLD) if one.queue == record.queue), None
        )
        if stats is not None and stats.paused_by is not None:
            text = f'its queue "{record.queue}" is paused by {stats.paused_by}'
            return Reason(text, f"Let it go on: nuvom queues resume {record.queue}")
        secs = record.run_at - self._runtime.clock.now()
        if secs > 0:
            word = "its next attempt is" if record.attempt else "it is"
            when = f"{secs:.0f} s" if secs < _MINUTE else str(timedelta(seconds=round(secs)))
            return Reason(f"{word} due in {when}")
        if self.workers_on(record.queue) == 0:
            text = f'no worker serves its queue "{record.queue}"'
            return Reason(text, f"Start one: nuvom runworker --queues {record.queue}")
        ready = 0 if stats is None else stats.ready
        if ready > 1:
            more = "more than " if stats is not None and "ready" in stats.at_least else ""
            others = plural(ready - 1, "other job")
            return Reason(f'it waits with {more}{others} on "{record.queue}"')
        return Reason("it is ready, and a worker is about to take it")

    def _fix_of(self, record: JobRecord) -> str:
        """Return what to do about a PARKED job: its task may have been renamed."""
        known = by_any_name(tasks_or_nothing(self._runtime.settings.manifest_file))
        name, last = record.func_name, record.func_name.rpartition(".")[2]
        if name not in known:
            moved = [one for one in known if one.rpartition(".")[2] == last]
            for new in (moved or suggest(name, known))[:1]:
                return (
                    f'If it is {new} now, give that aliases=["{name}"] and restart a worker, or '
                    f"run this job alone: nuvom retry {record.id} --as {new}"
                )
        elif self.other_code():
            return "Restart the workers: they run other code than this, which has the task."
        return "Correct that, then restart a worker: it takes back what it can run."

    def links(self, snapshot: JobSnapshot) -> Links:
        """Return which jobs a job follows from, and which follow from it."""
        record, status = snapshot.record, snapshot.status
        children = CHILDREN if status is JobStatus.SUCCESS else ()
        repeats = (REPEATS,) if status.is_final else ()
        return Links(
            (record.headers or {}).get(PARENT),
            tuple(one for kind in children for one in self._following(record.id, kind)),
            record.retried_from,
            tuple(one for kind in repeats for one in self._following(record.id, kind)),
        )

    def _following(self, job_id: str, kind: str) -> Iterator[str]:
        """Yield the ids of jobs that follow from another one; a few of them may be gone."""
        found = missing = 0
        while self._queue is not None and missing < _MOST_GONE and found < _MOST_LINKS:
            one = following_id(job_id, kind, found + missing)
            if self._queue.get(one) is None:
                missing += 1
            else:
                found += 1
                yield one

    @property
    def sees_processes(self) -> bool:
        """Whether the backend can tell which workers and schedulers there are."""
        return self._queue is not None

    def schedules(self) -> Iterator[ScheduleRecord]:
        """Yield all schedules by name; none if the backend keeps none."""
        store = self._runtime.schedule_store
        if store is not None:
            yield from all_records(store)

    def schedule(self, name: str) -> ScheduleRecord:
        """Return one schedule. Raises: ScheduleNotFound."""
        store = self._runtime.schedule_store
        if store is None:
            raise ScheduleNotFound(name, ())
        return find_record(store, name)

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped by fingerprint, latest first."""
        return [] if self._queue is None else self._queue.error_groups(limit)

    def failed_ids(self, fingerprint: str) -> list[str]:
        """Return the FAILED and DEAD jobs of a group, newest first."""
        return [] if self._queue is None else self._queue.failed_ids(fingerprint)

    def totals(self) -> list[Total]:
        """Return the store's totals; empty if counting was never enabled."""
        return [] if self._queue is None else self._queue.totals()

    @property
    def keeps_history(self) -> bool:
        """Whether the store keeps what ``history`` and ``audit`` return."""
        return self._queue is not None and Capability.HISTORY in self._queue.capabilities

    def history(self, since: float, until: float, step: int) -> list[Rollup]:
        """Return what ended in each step of time; empty if the backend does not count.

        Args:
            since, until: Seconds since the epoch.
            step: 60 or a multiple of it, in seconds.
        """
        if self._queue is None:
            return []
        if self._kept is None:
            return self._queue.rollups(since, until, step)
        now = self._runtime.clock.now()
        return self._kept.rows(self._queue.rollups, (since, until), step, now)

    def audit(self, limit: int = 100, before: str | None = None) -> list[AuditEntry]:
        """Return what people did, newest first; ``before`` is the previous page's last id."""
        return [] if self._queue is None else self._queue.audit(limit, before)

    def store_size(self) -> StoreSize | None:
        """Return the size of the queue's store; None if unknown."""
        return None if self._queue is None else self._queue.store_size()

    def is_manifest_stale(self) -> bool:
        """Return whether the task manifest is missing, or older than a file that it lists.

        Raises: InvalidManifest.
        """
        settings = self._runtime.settings
        return is_stale(settings.root, settings.manifest_file)

    def parked_tasks(self) -> dict[str, int]:
        """Return the number of PARKED jobs by task name."""
        return {} if self._queue is None else dict(self._queue.parked_tasks)

    def pages(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        most: float = inf,
    ) -> Iterator[JobSnapshot]:
        """Yield at most ``most`` jobs, newest first, reading page by page."""
        wanted, before = tuple(statuses), None
        while most > 0:
            size = int(min(_PAGE, most))
            page = self.page(statuses=wanted, queue=queue, task=task, before=before, limit=size)
            yield from page
            if len(page) < size:
                return
            before = page[-1].record.id
            most -= size

    def count_ended(self, *, success_before: float, failed_before: float) -> int:
        """Return how many final jobs ended before the given times."""
        return sum(
            snapshot.finished_at is not None
            and snapshot.finished_at
            < (success_before if snapshot.status is JobStatus.SUCCESS else failed_before)
            for snapshot in self.pages(statuses=FINAL)
        )


def counts_by_status(queues: Iterable[QueueStats]) -> dict[JobStatus, Count]:
    """Return how many jobs of some queues have each status; empty without a queue."""
    found: dict[JobStatus, Count] = {}
    for stats in queues:
        for status in JobStatus:
            n, is_more = found.get(status, Count(0, False))
            names = _WAITING if status is JobStatus.PENDING else (status.lower(),)
            n += sum(getattr(stats, name) for name in names)
            found[status] = Count(n, is_more or any(one in stats.at_least for one in names))
    return found


def _is_same(one: JobSnapshot, now: JobSnapshot) -> bool:
    return (one.status, one.record.lease_epoch) == (now.status, now.record.lease_epoch)
