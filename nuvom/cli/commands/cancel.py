"""``nuvom cancel ID...``."""

from __future__ import annotations

from typing import Any

import click

from nuvom.cli.base import Command
from nuvom.cli.completion import job_ids
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.many import for_each
from nuvom.cli.opening import writer
from nuvom.cli.prompts import confirm, dry_run_option, yes_option
from nuvom.core.record import JobStatus
from nuvom.errors import JobNotFound, Refused

SCHEMA = "nuvom.cancel/1"


@click.command(cls=Command)
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=job_ids)
@yes_option()
@dry_run_option()
@pass_invocation
def cancel(invocation: Invocation, ids: tuple[str, ...], *, yes: bool, dry_run: bool) -> int:
    """Cancel jobs: waiting ones at once, running ones as soon as their task looks.

    More than one is asked about. A job that has ended stays as it is (exit 8).
    """
    runtime, inspector = writer(invocation)
    out = invocation.out
    if len(ids) > 1 and not dry_run:
        confirm(invocation, f"Cancel {len(ids)} jobs", yes=yes)

    def one(text: str) -> dict[str, Any]:
        job_id = inspector.find_id(text)
        if dry_run:
            before: JobStatus | None = inspector.snapshot(job_id).status
        else:
            before = runtime.control.cancel(job_id)
        if before is None:
            raise JobNotFound(job_id)
        if before.is_final and before is not JobStatus.CANCELLED:
            raise Refused(f"Job {job_id} has ended {before}", "There is nothing left to cancel.")
        if not out.as_json:
            verb = "would be cancelled" if dry_run else "cancelled"
            out.lines([f"{job_id}\t{verb} (was {before})"])
        return {"id": job_id, "status_before": str(before), "cancelled": not dry_run}

    outcomes = for_each(invocation, ids, one)
    if out.as_json:
        out.json(SCHEMA, {"jobs": outcomes.done, "errors": outcomes.error_data()})
    return outcomes.code
