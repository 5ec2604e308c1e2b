"""Workers' announcements and what people ask for, in the file store.

Cancel, retry, pause, purge, prune, and commands to workers. What a worker should notice soon
changes the number that ``control_version`` tells.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from nuvom._file import moves
from nuvom._file.frames import CHANGES, REMOVED
from nuvom._file.rows import Announced, Commanded, Paused, Progressed, Retired, encode
from nuvom.core.ids import valid_name
from nuvom.core.record import FINAL, JobStatus
from nuvom.core.views import seen_worker
from nuvom.host.worker_lock import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuvom._file.rows import Change, Row
    from nuvom._file.store import FileStore
    from nuvom._file.table import Table
    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.core.record import JobRecord
    from nuvom.core.views import WorkerInfo

_WORDS = frozenset({"quiet", "resume", "stop", "stacks"})
_WAITING = frozenset({JobStatus.PENDING, JobStatus.PARKED})
_RETRYABLE = FINAL - {JobStatus.SUCCESS}
_SUCCESS = JobStatus.SUCCESS


class ControlPart:
    """The methods of the queue that people and workers use to steer."""

    store: FileStore
    settings: Settings
    clock: Clock

    # ---- jobs ---------------------------------------------------------------------------

    def cancel(self, job_id: str) -> JobStatus | None:
        """Cancel a job that is not final; see the contract."""
        now = self.clock.now()
        before = self._change(
            job_id,
            lambda _, row: None if row.state.status in FINAL else moves.cancelled(row, now),
        )
        self.store.bell.bump()
        self.store.bell.notify_all("result")
        return before

    def retry(self, job_id: str) -> JobStatus | None:
        """Make a failed or cancelled job PENDING again; see the contract.

        A job whose unique key another one holds by now stays as it is.
        """
        now = self.clock.now()
        before = self._change(job_id, lambda table, row: _retried(table, row, now))
        self.store.bell.notify_one("work")
        return before

    def _change(
        self, job_id: str, change: Callable[[Table, Row], Change | None]
    ) -> JobStatus | None:

        def look(table: Table) -> tuple[JobStatus | None, bool]:
            row = table.rows.get(job_id)
            if row is None:
                return None, False
            before = row.state.status
            after = change(table, row)
            if after is not None:
                self.store.append([(CHANGES, encode([after]))])
            return before, after is not None

        before, is_changed = self.store.turn(look)
        if is_changed:
            self.store.flush()
        return before

    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        """Keep a running job's progress; see the contract."""

        def report(table: Table) -> bool:
            if table.held(job) is None:
                return False
            self.store.note(Progressed(job.id, job.lease_epoch, (done, total, message)))
            return True

        return self.store.turn(report)

    # ---- queues -------------------------------------------------------------------------

    def pause(self, queue: str, by: str) -> None:
        """Let no job of ``queue`` be claimed; see the contract."""
        valid_name("queue", queue)
        self.store.turn(lambda _: self.store.note(Paused(queue, by)))
        self.store.flush()
        self.store.bell.bump()

    def resume(self, queue: str) -> bool:
        """Undo ``pause``; see the contract."""

        def go_on(table: Table) -> bool:
            state = table.queues.get(queue)
            if state is None or state.paused_by is None:
                return False
            self.store.note(Paused(queue, None))
            return True

        if not self.store.turn(go_on):
            return False
        self.store.flush()
        self.store.bell.bump()
        self.store.bell.notify_one("work")
        return True

    def purge(self, queue: str) -> int:
        """Remove the waiting jobs of ``queue``; see the contract."""
        return self._remove(lambda row: row.queue == queue and row.state.status in _WAITING)

    def clear(self) -> None:
        """Remove all waiting jobs; see the contract."""
        self._remove(lambda row: row.state.status in _WAITING)

    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        """Remove final jobs that are old; see the contract."""
        now = self.clock.now()

        def is_old(row: Row) -> bool:
            status, ended = row.state.status, row.state.finished_at or 0.0
            if status not in FINAL or row.key_until > now:
                return False
            if status is _SUCCESS and row.keep_secs is not None:
                return ended + row.keep_secs < now
            return ended < (success_before if status is _SUCCESS else failed_before)

        return self._remove(is_old, limit)

    def _remove(self, unwanted: Callable[[Row], bool], limit: int | None = None) -> int:

        def remove(table: Table) -> int:
            ids = list(islice((row.id for row in table.rows.values() if unwanted(row)), limit))
            if ids:
                self.store.append([(REMOVED, encode(ids))])
            return len(ids)

        count = self.store.turn(remove)
        if count:
            self.store.flush()
        return count

    # ---- workers ------------------------------------------------------------------------

    def announce(self, worker: WorkerInfo) -> None:
        """Show a worker; see the contract."""
        self.store.presence(worker.id)
        self.store.turn(lambda _: self.store.note(Announced(worker, self.clock.monotonic())))

    def retire(self, owner: str) -> None:
        """Forget a worker that stopped in good order; see the contract."""

        def retire(table: Table) -> None:
            if owner in table.holders:
                self.store.note(Retired(owner))

        self.store.turn(retire)
        self.store.workers.leave(owner)

    def workers(self) -> list[WorkerInfo]:
        """Return the announced workers that live; see the contract."""
        now = self.clock.monotonic()

        def read(table: Table) -> list[tuple[WorkerInfo | None, float, int]]:
            return [(one.info, one.beat_at, len(one.held)) for one in table.holders.values()]

        shown: list[WorkerInfo] = []
        for info, beat_at, running in self.store.turn(read):
            if info is not None and is_alive(self.store.directory, info.id):
                aged = replace(info, beat_age_secs=max(0.0, now - beat_at), running=running)
                seen = seen_worker(aged, self.settings.lease_secs)
                shown += [seen] if seen is not None else []
        return sorted(shown, key=lambda worker: worker.started_at)

    def command(self, owner: str, word: str) -> bool:
        """Leave a word for a worker; see the contract. Raises: ValueError: no such word."""
        if word not in _WORDS:
            raise ValueError(f"{word!r} is no command; known are {', '.join(sorted(_WORDS))}")
        if not any(worker.id == owner for worker in self.workers()):
            return False

        def leave(table: Table) -> bool:
            holder = table.holders.get(owner)
            if holder is None or holder.info is None:
                return False
            self.store.note(Commanded(owner, word))
            return True

        if not self.store.turn(leave):
            return False
        self.store.bell.bump()
        self.store.bell.notify_all("work")
        return True

    def commands(self, owner: str) -> list[str]:
        """Take the words left for ``owner``; see the contract."""

        def take(table: Table) -> list[str]:
            holder = table.holders.get(owner)
            if holder is None or not holder.commands:
                return []
            self.store.note(Commanded(owner, ""))
            return holder.commands

        return self.store.turn(take)

    def control_version(self) -> int:
        """Return a number that changes with every control write; see the contract."""
        return self.store.bell.version()

    def unpark(self, tasks: Iterable[str]) -> int:
        """Make PARKED jobs of ``tasks`` PENDING; see the contract."""
        known = frozenset(tasks)

        def unpark(table: Table) -> int:
            changes = [moves.unparked(row) for row in table.parked.values() if row.task in known]
            if changes:
                self.store.append([(CHANGES, encode(changes))])
            return len(changes)

        count = self.store.turn(unpark)
        if count:
            self.store.flush()
            self.store.bell.notify_all("work")
        return count


def _retried(table: Table, row: Row, now: float) -> Change | None:
    if row.state.status not in _RETRYABLE or not table.may_take_key(row, now):
        return None
    return moves.retried(row)
