"""``nuvom wait ID...``: block until jobs have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import exit_codes
from nuvom.cli.awaiting import code_of, failure_text, interruptible
from nuvom.cli.base import Command
from nuvom.cli.completion import job_ids
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.many import for_each
from nuvom.cli.opening import writer
from nuvom.cli.param_types import span_option
from nuvom.cli.shapes import STATUS_STYLES, job_data
from nuvom.job import wait_for_final

if TYPE_CHECKING:
    from nuvom.core.record import JobSnapshot
    from nuvom.inspection import Inspector
    from nuvom.runtime import Runtime

SCHEMA = "nuvom.wait/1"


@click.command(cls=Command)
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=job_ids)
@span_option("--timeout", help="At most so long: 30s, 5m ...")
@pass_invocation
def wait(invocation: Invocation, ids: tuple[str, ...], timeout: float | None) -> int:
    """Wait until all jobs have ended; print each one's status.

    Exit 0 if all succeeded, 1 if one did not, 6 if the time was over first.
    """
    runtime, inspector = writer(invocation)
    waiting = _Waiting(invocation, runtime, inspector, timeout)
    outcomes = for_each(invocation, ids, waiting.one)
    if invocation.out.as_json:
        data = {"jobs": outcomes.done, "errors": outcomes.error_data()}
        invocation.out.json(SCHEMA, data)
    return max(outcomes.code, waiting.code)


class _Waiting:
    """Waits for one job after the other, within one limit for all."""

    def __init__(
        self,
        invocation: Invocation,
        runtime: Runtime,
        inspector: Inspector,
        timeout: float | None,
    ) -> None:
        self._invocation = invocation
        self._runtime = runtime
        self._inspector = inspector
        self._deadline = None if timeout is None else runtime.clock.monotonic() + timeout
        self.code = exit_codes.OK

    def one(self, text: str) -> dict[str, Any]:
        job_id = self._inspector.find_id(text)
        left = None
        if self._deadline is not None:
            left = max(0.0, self._deadline - self._runtime.clock.monotonic())
        with interruptible(self._invocation, job_id):
            snapshot = wait_for_final(self._runtime, job_id, left)
        self.code = max(self.code, code_of(snapshot))
        if not self._invocation.out.as_json:
            self._show(snapshot)
        return job_data(snapshot)

    def _show(self, snapshot: JobSnapshot) -> None:
        out, status = self._invocation.out, str(snapshot.status)
        painted = out.out.paint(status, STATUS_STYLES[status])
        out.lines([f"{snapshot.record.id}\t{painted}"])
        if code_of(snapshot) != exit_codes.OK:
            for line in failure_text(snapshot):
                out.say(line)
