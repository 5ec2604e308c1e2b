"""Workers and people acting on the memory queue: announce, command, cancel, retry, pause, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nuvom._memory.reading import MemoryReading
from nuvom.record import FINAL, JobStatus

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from nuvom._memory.store import Holder
    from nuvom.views import WorkerInfo

_WORDS = frozenset({"quiet", "resume", "stop", "stacks"})
_WAITING = frozenset({JobStatus.PENDING, JobStatus.PARKED})
_RETRYABLE = FINAL - {JobStatus.SUCCESS}


class MemoryControl(MemoryReading):
    """The part of the memory queue that is not about delivering jobs."""

    # ---- workers --------------------------------------------------------------------------

    def announce(self, worker: WorkerInfo) -> None:
        with self.store.lock:
            holder = self.store.holder(worker.id)
            holder.info = worker
            holder.beat_at = self._clock.monotonic()

    def retire(self, owner: str) -> None:
        with self.store.lock:
            holder = self.store.holders.get(owner)
            if holder is not None:
                holder.info = None
                if not holder.held:  # else its jobs wait for the end of their lease
                    del self.store.holders[owner]

    def workers(self) -> list[WorkerInfo]:
        with self.store.lock:
            now = self._clock.monotonic()
            holders = list(self.store.holders.values())
            shown = [self._shown(holder, holder.info, now) for holder in holders if holder.info]
        return sorted(shown, key=lambda worker: worker.started_at)

    def _shown(self, holder: Holder, info: WorkerInfo, now: float) -> WorkerInfo:
        age = now - holder.beat_at
        state = "silent" if age > self._lease_secs else info.state
        return msgspec.structs.replace(
            info, beat_age_secs=age, state=state, running=len(holder.held)
        )

    def command(self, owner: str, word: str) -> bool:
        if word not in _WORDS:
            raise ValueError(f"{word!r} is no command; known are {', '.join(sorted(_WORDS))}")
        with self.store.lock:
            holder = self.store.holders.get(owner)
            if holder is None or holder.info is None:
                return False
            holder.commands.append(word)
            self._tell_control()
            return True

    def commands(self, owner: str) -> list[str]:
        with self.store.lock:
            holder = self.store.holders.get(owner)
            if holder is None:
                return []
            taken, holder.commands = holder.commands, []
            return taken

    def control_version(self) -> int:
        return self._version

    def _tell_control(self) -> None:
        self._version += 1
        self.store.tell_workers()

    def unpark(self, tasks: Iterable[str]) -> int:
        known = frozenset(tasks)
        with self.store.lock:
            rows = [row for row in self.store.parked if row.record.func_name in known]
            for row in rows:
                self._put(row, row.record.replace(status=JobStatus.PENDING))
            return len(rows)

    # ---- people ---------------------------------------------------------------------------

    def cancel(self, job_id: str) -> JobStatus | None:
        with self.store.lock:
            row = self.store.rows.get(job_id)
            if row is None:
                return None
            record = row.record
            if record.status in FINAL:
                return record.status
            if row.holder is not None:
                row.finished_at = self._clock.now()
                self._close_attempt(row, "cancelled")
                self._let_go(row)
            cancelled = record.replace(
                status=JobStatus.CANCELLED, lease_epoch=record.lease_epoch + 1
            )
            self._end(row, cancelled, row.error)
            self._tell_control()
            return record.status

    def retry(self, job_id: str) -> JobStatus | None:
        with self.store.lock:
            row = self.store.rows.get(job_id)
            if row is None:
                return None
            record = row.record
            # Where another job has the unique key by now, two would run: leave this one alone.
            if record.status not in _RETRYABLE or not self.store.take_key(row):
                return record.status
            self.store.failures.pop(job_id, None)
            row.started_at = row.finished_at = row.error = None
            again = record.replace(
                status=JobStatus.PENDING,
                attempt=0,
                deliveries=0,
                lease_epoch=record.lease_epoch + 1,
                run_at=0.0,
                suspect=False,
            )
            self._put(row, again)
            return record.status

    def pause(self, queue: str, by: str) -> None:
        with self.store.lock:
            self.store.queue(queue).paused_by = by
            self._tell_control()

    def resume(self, queue: str) -> bool:
        with self.store.lock:
            state = self.store.queues.get(queue)
            if state is None or state.paused_by is None:
                return False
            state.paused_by = None
            self._tell_control()
            return True

    def clear(self) -> None:
        with self.store.lock:
            self._remove_waiting(self.store.queues)

    def purge(self, queue: str) -> int:
        with self.store.lock:
            return self._remove_waiting((queue,))

    def _remove_waiting(self, queues: Container[str]) -> int:
        rows = [
            row
            for row in self.store.rows.values()
            if row.record.status in _WAITING and row.record.queue in queues
        ]
        for row in rows:
            self.store.remove(row)
        return len(rows)

    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        store = self.store
        with store.lock:
            rows = store.succeeded.take(limit, (success_before,))
            rows += store.failed.take(limit - len(rows), (failed_before,))
            rows += store.expiring.take(limit - len(rows), (self._clock.now(),))
            reserved = {row.seq: until for row in rows if (until := store.key_reserved_until(row))}
            for row in rows:
                if row.seq in reserved:  # it stays until its key is free
                    store.expiring.put(reserved[row.seq], row)
                else:
                    store.remove(row)
            return len(rows) - len(reserved)
