"""``nuvom run TASK [ARGS...]``: enqueue a job by the task's name, without importing it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import exit_codes
from nuvom.cli.awaiting import code_of, failure_text, interruptible, value_text
from nuvom.cli.base import Command
from nuvom.cli.completion import queues, tasks
from nuvom.cli.enqueueing import (
    call_from,
    known_queues,
    make_record,
    options_from,
    refuse_fleeting,
    warn_of_news,
    warn_of_options,
    warn_of_queue,
)
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.known_tasks import find_task, listed_tasks, manifest_or_nothing
from nuvom.cli.opening import writer
from nuvom.cli.param_types import moment_option, span_option, text_callback
from nuvom.cli.session import folder_or_root
from nuvom.cli.shapes import error_data
from nuvom.job import wait_for_final

if TYPE_CHECKING:
    from nuvom.core.record import JobSnapshot
    from nuvom.inspection import Inspector

SCHEMA = "nuvom.run/1"
_NEGATIVE = re.compile(r"-\.?\d.*")
_MARK = "\0"  # no system lets a program have such an argument, so nothing else starts with it


class RunCommand(Command):
    """Takes ``-5`` for an argument of the task and not for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Mark negative numbers that are no option's value, then parse."""
        takes_value = {
            name
            for param in self.params
            if isinstance(param, click.Option) and not param.is_flag and not param.count
            for name in param.opts
        }
        before = ["", *args]
        marked = [
            f"{_MARK}{arg}" if _NEGATIVE.fullmatch(arg) and last not in takes_value else arg
            for last, arg in zip(before, args, strict=False)
        ]
        return super().parse_args(ctx, marked)


@click.command(name="run", cls=RunCommand)
@click.argument("task", callback=text_callback, shell_complete=tasks)
@click.argument("words", callback=text_callback, nargs=-1, metavar="[ARGS]...")
@click.option(
    "--json-args",
    callback=text_callback,
    metavar="JSON",
    help="Arguments as a JSON list or object.",
)
@click.option("--wait", is_flag=True, help="Wait for the job and print what it returns.")
@span_option("--timeout", help="With --wait: at most so long.")
@span_option("--in", "delay", help="Start after 30s, 5m, 2h ...")
@moment_option("--at", "run_at", help="Start at an ISO 8601 time.")
@click.option("--queue", metavar="NAME", shell_complete=queues, help="Another queue.")
@click.option("--priority", type=int, help="Lower runs first; default: the task's own.")
@click.option(
    "--unique-key",
    callback=text_callback,
    metavar="KEY",
    help="Only one open job of this task and key.",
)
@pass_invocation
def run_(
    invocation: Invocation,
    /,
    *,
    task: str,
    words: tuple[str, ...],
    json_args: str | None,
    wait: bool,
    timeout: float | None,
    **options: Any,
) -> int:
    """Enqueue a job of TASK and print its id.

    TASK is a full name or its last part. ARGS are JSON literals or text; name=value is a
    keyword argument. They are checked against the signature that discovery found; none of your
    code is imported here.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout belongs to --wait; to start later use --in.")
    runtime, inspector = writer(invocation, folder_or_root(invocation))
    refuse_fleeting(runtime)
    known = {one.name for one in manifest_or_nothing(runtime.settings)}
    entry = find_task(invocation, runtime.settings, task)
    plain = [word.removeprefix(_MARK) for word in words]
    record = make_record(runtime, entry, call_from(entry, plain, json_args), options_from(options))
    queues_before = known_queues(inspector, listed_tasks(invocation, runtime.settings))
    existing = runtime.dispatcher.enqueue(record)
    if existing is not None:
        invocation.out.say(f"The unique key is taken by job {existing}; no new job was made.")
    warn_of_options(invocation, entry)
    warn_of_queue(invocation, inspector, record.queue, queues_before)
    if entry.name not in known:
        warn_of_news(invocation, inspector, record)
    job_id = existing or record.id
    made = record if existing is None else None
    if wait:
        with interruptible(invocation, job_id):
            snapshot = wait_for_final(runtime, job_id, timeout, record=made)
        return _show_end(invocation, inspector, snapshot, created=existing is None)
    snapshot = inspector.snapshot(job_id) if made is None else inspector.snapshot_of(made)
    _show_id(invocation, snapshot, created=existing is None)
    return exit_codes.OK


def _show_id(invocation: Invocation, snapshot: JobSnapshot, *, created: bool) -> None:
    out = invocation.out
    if out.as_json:
        out.json(SCHEMA, _data(snapshot, created=created))
        return
    out.text(snapshot.record.id)
    out.hint(f"Next: nuvom wait {snapshot.record.id[-8:]}")


def _show_end(
    invocation: Invocation, inspector: Inspector, snapshot: JobSnapshot, *, created: bool
) -> int:
    out, code = invocation.out, code_of(snapshot)
    value = inspector.shown_result(snapshot)
    if out.as_json:
        error = error_data(snapshot.error)
        out.json(SCHEMA, {**_data(snapshot, created=created), "error": error, "result": value})
    elif code == exit_codes.OK:
        out.text(value_text(value))
    else:
        what, more = failure_text(snapshot)
        out.error([("Error", what), ("More", more)])
    return code


def _data(snapshot: JobSnapshot, *, created: bool) -> dict[str, Any]:
    record = snapshot.record
    return {
        "id": record.id,
        "func_name": record.func_name,
        "queue": record.queue,
        "status": str(snapshot.status),
        "attempt": record.attempt,
        "created": created,
    }
