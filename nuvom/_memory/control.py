"""Workers and people acting on the memory queue: announce, command, cancel, retry, pause, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from nuvom._memory.core import with_closed
from nuvom._memory.reading import MemoryReading
from nuvom.core.record import FINAL, JobStatus
from nuvom.core.views import seen_worker

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from nuvom._memory.shelf import Row, Shelf
    from nuvom._memory.store import Holder
    from nuvom.core.views import WorkerInfo

_WORDS = frozenset({"quiet", "resume", "stop", "stacks"})
_WAITING = frozenset({JobStatus.PENDING, JobStatus.PARKED})
_RETRYABLE = FINAL - {JobStatus.SUCCESS}


class MemoryControl(MemoryReading):
    """The part of the memory queue that is not about delivering jobs."""

    # ---- workers --------------------------------------------------------------------------

    def announce(self, worker: WorkerInfo) -> None:
        with self.store.lock:
            holder, now = self.store.holder(worker.id), self._clock.monotonic()
            holder.info = worker
            holder.beat_at = now

    def retire(self, owner: str) -> None:
        with self.store.lock:
            self.store.ensure_sound()
            holder = self.store.holders.get(owner)
            if holder is not None:
                holder.info, holder.commands = None, []
                if not holder.held:  # else its jobs wait for the end of their lease
                    del self.store.holders[owner]

    def workers(self) -> list[WorkerInfo]:
        with self.store.lock:
            self.store.ensure_sound()
            shown = [self._shown(holder) for holder in list(self.store.holders.values())]
        known = [worker for worker in shown if worker is not None]
        return sorted(known, key=lambda worker: worker.started_at)

    def _shown(self, holder: Holder) -> WorkerInfo | None:
        if holder.info is None:
            return None
        age = self._clock.monotonic() - holder.beat_at
        worker = replace(holder.info, beat_age_secs=age, running=len(holder.held))
        return seen_worker(worker, self._lease_secs)

    def command(self, owner: str, word: str) -> bool:
        if word not in _WORDS:
            raise ValueError(f"{word!r} is no command; known are {', '.join(sorted(_WORDS))}")
        with self.store.lock:
            holder = self.store.holders.get(owner)
            if holder is None or self._shown(holder) is None:
                return False
            self._tell_control()
            holder.commands.append(word)
            return True

    def commands(self, owner: str) -> list[str]:
        holder = self.store.holders.get(owner)
        if holder is None:
            return []
        taken: list[str] = []
        try:
            with self.store.lock:
                taken, holder.commands = holder.commands, []
            return taken
        except BaseException:  # nobody got them
            with self.store.lock:
                holder.commands = taken + holder.commands
            raise

    def control_version(self) -> int:
        return self._version

    def _tell_control(self) -> None:
        """Announce a change that is about to be made, with the lock held."""
        self._version += 1
        self.store.tell_workers()

    def unpark(self, tasks: Iterable[str]) -> int:
        known = frozenset(tasks)
        with self.store.lock:
            self.store.ensure_sound()
            rows = [row for row in self.store.parked if row.record.func_name in known]
            for row in rows:
                self._change(row, row.record.replace(status=JobStatus.PENDING))
            return len(rows)

    # ---- people ---------------------------------------------------------------------------

    def cancel(self, job_id: str) -> JobStatus | None:
        with self.store.lock:
            self.store.ensure_sound()
            row = self.store.rows.get(job_id)
            if row is None:
                return None
            record, attempts = row.record, row.attempts
            if record.status in FINAL:
                return record.status
            if row.holder is not None:
                attempts = with_closed(row, "cancelled", None, self._clock.now())
            cancelled = record.replace(
                status=JobStatus.CANCELLED, lease_epoch=record.lease_epoch + 1, suspect=False
            )
            self._tell_control()
            self._end(row, cancelled, attempts=attempts)
            return record.status

    def retry(self, job_id: str) -> JobStatus | None:
        store = self.store
        with store.lock:
            store.ensure_sound()
            row = store.rows.get(job_id)
            if row is None:
                return None
            record = row.record
            # Where another job has the unique key by now, two would run: leave this one alone.
            if record.status not in _RETRYABLE or not store.is_key_free(row):
                return record.status
            again = record.replace(
                status=JobStatus.PENDING,
                attempt=0,
                deliveries=0,
                lease_epoch=record.lease_epoch + 1,
                run_at=0.0,
                suspect=False,
            )
            store.tell_workers()
            store.unfinished += 1
            row.record = again
            row.started_at = row.finished_at = row.error = row.worker = None
            store.failures.pop(job_id, None)
            store.take_key(row)
            store.moved(row, record, None)
            store.unfinished -= 1
            return record.status

    def pause(self, queue: str, by: str) -> None:
        with self.store.lock:
            state = self.store.queue(queue)
            self._tell_control()
            state.paused_by = by

    def resume(self, queue: str) -> bool:
        with self.store.lock:
            state = self.store.queues.get(queue)
            if state is None or state.paused_by is None:
                return False
            self._tell_control()
            state.paused_by = None
            return True

    def clear(self) -> None:
        with self.store.lock:
            self._remove_waiting(self.store.queues)

    def purge(self, queue: str) -> int:
        with self.store.lock:
            return self._remove_waiting((queue,))

    def _remove_waiting(self, queues: Container[str]) -> int:
        self.store.ensure_sound()
        rows = [
            row
            for row in list(self.store.rows.values())
            if row.record.status in _WAITING and row.record.queue in queues
        ]
        self.store.remove(rows)
        return len(rows)

    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        store = self.store
        with store.lock:
            store.ensure_sound()
            store.unfinished += 1
            removed: list[Row] = []
            kept: list[Row] = []
            for shelf, before in (
                (store.succeeded, success_before),
                (store.failed, failed_before),
                (store.expiring, self._clock.now()),
            ):
                self._take_old(shelf, before, limit, removed=removed, kept=kept)
            for row in kept:
                store.lay_back(row)
            store.remove(removed)
            store.unfinished -= 1
            return len(removed)

    def _take_old(
        self, shelf: Shelf, before: float, limit: int, *, removed: list[Row], kept: list[Row]
    ) -> None:
        """Take old rows from a shelf until ``limit`` of them can be removed.

        Args:
            removed, kept: Get the rows; ``kept`` those whose unique keys are still reserved.
        """
        while rows := shelf.take(limit - len(removed), (before,)):
            for row in rows:
                (kept if self.store.is_key_reserved(row) else removed).append(row)
