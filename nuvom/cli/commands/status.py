"""``nuvom status ID``: where a job is, in one word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nuvom.cli.base import Command
from nuvom.cli.completion import job_ids
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.opening import reader
from nuvom.cli.shapes import PARKED_HINT, STATUS_STYLES, error_text, job_data, status_text
from nuvom.cli.text import one_line

if TYPE_CHECKING:
    from nuvom.cli.output import Output
    from nuvom.core.record import JobSnapshot

SCHEMA = "nuvom.status/1"
FORMATS = ("table", "json", "raw")


@click.command(cls=Command)
@click.argument("job_id", metavar="ID", shell_complete=job_ids)
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(FORMATS, case_sensitive=False),
    default="table",
    help="table: the status and why; json: as --json; raw: the bare word.",
)
@pass_invocation
def status(invocation: Invocation, job_id: str, form: str) -> None:
    """Show where the job ID is: its status and, where it failed, why.

    The last six or more characters of an id are enough. An id that never was is not found:
    exit 3.
    """
    out = invocation.out
    out.as_json = out.as_json or form == "json"
    runtime, inspector = reader(invocation)
    snapshot = inspector.snapshot(inspector.find_id(job_id))
    if out.as_json:
        out.json(SCHEMA, job_data(snapshot))
    elif form == "raw" or out.plain:
        out.text(str(snapshot.status))
    else:
        _show(out, snapshot, runtime.clock.now())


def _show(out: Output, snapshot: JobSnapshot, now: float) -> None:
    style = STATUS_STYLES[str(snapshot.status)]
    out.lines([out.out.paint(one_line(status_text(snapshot, now)), style)])
    if snapshot.error is not None:
        out.text(error_text(snapshot.error))
        out.hint(f"Traceback and attempts: nuvom inspect job {snapshot.record.id}")
    if snapshot.status == "PARKED":
        out.hint(PARKED_HINT)
