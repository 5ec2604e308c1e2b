"""Waiting for jobs to end, written once for handles, SDK and command line.

A waiter looks, sleeps until some result may have arrived, and looks again. Backends that can
wake it across processes do; otherwise it polls, more slowly the longer it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.core.guard import LOOK_SECS, AttemptClosed, is_closed_here, of_thread
from nuvom.core.job_context import current
from nuvom.core.record import JobSnapshot, JobStatus, StoredError
from nuvom.errors import JobCancelled, JobFailed, JobNotFound, JobTimeout, WaitInsideTask
from nuvom.inspection import Inspector

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.record import JobRecord
    from nuvom.runtime import Runtime

    Decode = Callable[[bytes], Any]

_LONGEST_WAIT_SECS = 1.0  # a lost wake-up costs no more than this
_POLL_SECS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def wait_for_final(
    runtime: Runtime,
    job_id: str,
    timeout: float | None,
    *,
    record: JobRecord | None = None,
    waited_before: float = 0.0,
) -> JobSnapshot:
    """Return the job's snapshot once its status is final.

    Args:
        record: As it was stored, if the caller knows.
        waited_before: Seconds that the caller has waited already; only reported.
    Raises: JobNotFound; JobTimeout: ``timeout`` seconds passed before that; AttemptClosed: the
        attempt whose code waits here was closed.
    """
    inspector = Inspector(runtime)
    longest = _LONGEST_WAIT_SECS if of_thread.guard is None else LOOK_SECS
    clock = runtime.clock
    started = clock.monotonic()
    rounds = 0
    snapshot = _look(inspector, job_id, record)
    if snapshot is not None and snapshot.status.is_final:
        return snapshot
    with runtime.results.waiter() as waiter:
        while True:
            snapshot = _look(inspector, job_id, record)
            if snapshot is not None and snapshot.status.is_final:
                return snapshot
            if is_closed_here():
                raise AttemptClosed
            waited = clock.monotonic() - started
            if timeout is not None and waited >= timeout:
                raise _timed_out(inspector, job_id, snapshot, waited_before + waited)
            left = longest if timeout is None else min(longest, timeout - waited)
            if waiter is None:
                clock.sleep(min(left, _POLL_SECS[min(rounds, len(_POLL_SECS) - 1)]))
            else:
                waiter.wait(left)
            rounds += 1


def _look(inspector: Inspector, job_id: str, record: JobRecord | None) -> JobSnapshot | None:
    """Return what is seen of a job, None where nothing can be before it has an outcome."""
    if record is not None:
        return inspector.snapshot_of(record)
    try:
        return inspector.snapshot(job_id)
    except JobNotFound:
        if not inspector.is_blind:
            raise
        return None


def wait_for_result(
    runtime: Runtime, job_id: str, timeout: float | None, *, record: JobRecord | None = None
) -> Any:
    """Return what the job's task returned; see ``Job.get`` for what is raised."""
    if timeout is None and current.get() is not None:
        raise WaitInsideTask(job_id)
    decode = _decoder_of(runtime, record)  # made while the job runs, not once its result is there
    return result_of(runtime, wait_for_final(runtime, job_id, timeout, record=record), decode)


async def await_result(
    runtime: Runtime, job_id: str, timeout: float | None, *, record: JobRecord | None = None
) -> Any:
    """Do as ``wait_for_result`` without blocking the event loop.

    The wait runs in slices in a thread, so that cancelling it leaves no thread behind for
    longer than a slice.
    """
    from asyncio import to_thread  # noqa: PLC0415  # whoever awaits has asyncio loaded

    if timeout is None and current.get() is not None:
        raise WaitInsideTask(job_id)
    started = runtime.clock.monotonic()
    while True:
        waited = runtime.clock.monotonic() - started
        left = _LONGEST_WAIT_SECS if timeout is None else max(0.0, timeout - waited)
        part = min(left, _LONGEST_WAIT_SECS)
        try:
            snapshot = await to_thread(
                wait_for_final, runtime, job_id, part, record=record, waited_before=waited
            )
        except JobTimeout:
            if timeout is not None and left <= _LONGEST_WAIT_SECS:
                raise
        else:
            return result_of(runtime, snapshot)


def _decoder_of(runtime: Runtime, record: JobRecord | None) -> Decode | None:
    return None if record is None else Inspector(runtime).result_decoder(record.func_name)


def result_of(runtime: Runtime, snapshot: JobSnapshot, decode: Decode | None = None) -> Any:
    """Return the value of a job that ended, or raise JobFailed or JobCancelled.

    Args:
        decode: Rebuilds the results of its task, if the caller has that ready.
    """
    if snapshot.status is JobStatus.SUCCESS:
        if decode is not None and snapshot.result is not None:
            return decode(snapshot.result)
        return Inspector(runtime).result(snapshot)
    if snapshot.status is JobStatus.CANCELLED:
        raise JobCancelled(snapshot.record.id)
    error = snapshot.error or StoredError(str(snapshot.status), "no report is kept")
    raise JobFailed(snapshot.record.id, error.type, error.message, error.traceback)


def _timed_out(
    inspector: Inspector, job_id: str, snapshot: JobSnapshot | None, waited: float
) -> JobTimeout:
    queue = "unknown" if snapshot is None else snapshot.record.queue
    workers = inspector.workers_on(queue)
    return JobTimeout(
        job_id,
        round(waited, 3),
        status="without an outcome" if snapshot is None else str(snapshot.status),
        queue=queue,
        workers="unknown" if workers is None else workers,
    )
