"""``nuvom retry job ID...``: run a job again, as it was or with other arguments."""

from __future__ import annotations

from typing import Any

import click

from nuvom.cli import exit_codes
from nuvom.cli.base import Group
from nuvom.cli.completion import job_ids
from nuvom.cli.editing import edited_copy
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.many import for_each
from nuvom.cli.opening import writer
from nuvom.core.record import JobStatus
from nuvom.errors import JobNotFound, Refused

SCHEMA = "nuvom.retry/1"
RETRYABLE = (JobStatus.FAILED, JobStatus.DEAD, JobStatus.CANCELLED)


@click.group(cls=Group)
def retry() -> None:
    """Run a job again."""


@retry.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=job_ids)
@click.option(
    "--edit", is_flag=True, help="Open the arguments in $EDITOR; a new job gets what you save."
)
@pass_invocation
def job(invocation: Invocation, ids: tuple[str, ...], *, edit: bool) -> int:
    """Run the jobs again that ended FAILED, DEAD or CANCELLED.

    A job keeps its id and starts with attempt 1. With --edit a new job is made, linked to the
    old one; the arguments are checked against the task's signature.
    """
    if edit:
        return _edit(invocation, ids)
    runtime, inspector = writer(invocation)
    out = invocation.out

    def one(text: str) -> dict[str, Any]:
        job_id = inspector.find_id(text)
        before = runtime.control.retry(job_id)
        if before is None:
            raise JobNotFound(job_id)
        if before not in RETRYABLE:
            raise Refused(
                f"Job {job_id} is {before}", "Only FAILED, DEAD and CANCELLED jobs run again."
            )
        if not out.as_json:
            out.lines([f"{job_id}\tPENDING (was {before})"])
        return {"id": job_id, "status_before": str(before), "retried_from": None}

    outcomes = for_each(invocation, ids, one)
    if out.as_json:
        out.json(SCHEMA, {"jobs": outcomes.done, "errors": outcomes.error_data()})
    elif outcomes.done:
        out.hint(f"Next: nuvom wait {outcomes.done[0]['id'][-8:]}")
    return outcomes.code


def _edit(invocation: Invocation, ids: tuple[str, ...]) -> int:
    if len(ids) > 1:
        raise click.UsageError("--edit takes one job at a time.")
    runtime, inspector = writer(invocation)
    old = inspector.snapshot(inspector.find_id(ids[0])).record
    new = edited_copy(invocation, runtime, inspector, old)
    if new is None:
        invocation.out.say("Nothing was changed, so no job was made.")
        return exit_codes.OK
    runtime.dispatcher.enqueue(new)
    if invocation.out.as_json:
        told = {"id": new.id, "status_before": str(old.status), "retried_from": old.id}
        invocation.out.json(SCHEMA, {"jobs": [told], "errors": []})
    else:
        invocation.out.text(new.id)
        invocation.out.hint(f"Next: nuvom wait {new.id[-8:]}")
    return exit_codes.OK
