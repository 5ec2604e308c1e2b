"""``nuvom prune``: remove what is old."""

from __future__ import annotations

import click

from nuvom.cli.base import Command
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.opening import writer
from nuvom.cli.param_types import span_option
from nuvom.cli.prompts import confirm, dry_run_option, yes_option
from nuvom.cli.text import duration
from nuvom.errors import plural

SCHEMA = "nuvom.prune/1"


@click.command(cls=Command)
@span_option("--older-than", help="Instead of the settings: 12h, 30d, 4w ...")
@yes_option()
@dry_run_option()
@pass_invocation
def prune(invocation: Invocation, *, older_than: float | None, yes: bool, dry_run: bool) -> None:
    """Remove jobs that ended long ago, with their results.

    Without --older-than the settings decide: result_ttl_secs for SUCCESS, failed_ttl_secs for
    FAILED, DEAD and CANCELLED. Workers prune by themselves; this is for in between.
    """
    runtime, inspector = writer(invocation)
    now, settings = runtime.clock.now(), runtime.settings
    success = settings.result_ttl_secs if older_than is None else older_than
    failed = settings.failed_ttl_secs if older_than is None else older_than
    count = inspector.count_ended(success_before=now - success, failed_before=now - failed)
    age = f"SUCCESS over {duration(success)}, others over {duration(failed)} old"
    removed = 0
    if count and not dry_run:
        confirm(invocation, f"Remove {plural(count, 'job')} ({age})", yes=yes)
        removed = runtime.control.prune(success_before=now - success, failed_before=now - failed)
    if invocation.out.as_json:
        data = {"found": count, "removed": removed, "dry_run": dry_run}
        invocation.out.json(SCHEMA, data)
    elif dry_run:
        invocation.out.text(f"{plural(count, 'job')} would be removed ({age}).")
    else:
        invocation.out.text(f"{plural(removed, 'job')} removed ({age}).")
