"""Waiting for jobs on behalf of a person or a script, and showing what they returned."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nuvom.cli import exit_codes
from nuvom.cli.jsonable import jsonable
from nuvom.cli.shapes import error_text
from nuvom.core.record import JobSnapshot, JobStatus, StoredError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.cli.invocation import Invocation


@contextmanager
def interruptible(invocation: Invocation, job_id: str) -> Iterator[None]:
    """Say, when Ctrl-C ends the wait, that the job goes on."""
    try:
        yield
    except KeyboardInterrupt:
        invocation.out.say(
            f"\nStopped waiting; the job goes on.\nTo wait again: nuvom wait {job_id}"
        )
        raise


def code_of(snapshot: JobSnapshot) -> int:
    """Return the exit code for a job that ended."""
    return exit_codes.OK if snapshot.status is JobStatus.SUCCESS else exit_codes.FAILED


def value_text(value: Any) -> str:  # noqa: ANN401  # whatever a task returned
    """Return a result for standard output: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    plain = jsonable({"value": value})
    return json.dumps(next(iter(plain.values())), ensure_ascii=False)


def failure_text(snapshot: JobSnapshot) -> tuple[str, str]:
    """Return what became of a job that did not succeed, and where to read on."""
    job_id, status = snapshot.record.id, str(snapshot.status)
    error = snapshot.error or StoredError(status, "no report is kept")
    if snapshot.status is JobStatus.CANCELLED:
        return f"Job {job_id} was cancelled.", f"Run it again: nuvom retry job {job_id}"
    what = f"Job {job_id} ended {status}: {error_text(error)}"
    return what, f"Traceback and attempts: nuvom inspect job {job_id}"
