"""``nuvom run TASK [ARGS...]``: enqueues a job by the task's name, without importing it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import exit_codes
from nuvom.cli.annotations import Converter, call_of
from nuvom.cli.context import Command, Invocation, command
from nuvom.cli.params import json_value, moment, queue_names, span, task_names, text
from nuvom.cli.project import (
    find_task,
    folder_or_root,
    known_queues,
    make_record,
    manifest_or_nothing,
    writer,
)
from nuvom.cli.tables import code_of, failure_text
from nuvom.core.options import NO_CALL_OPTIONS, CallOptions, call_options
from nuvom.discovery.stub import signature_of, unknown_options
from nuvom.errors import InvalidArguments, InvalidSetting, did_you_mean
from nuvom.inspection.views import error_data, short_id, status_text, value_text
from nuvom.job import wait_for_final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.core.record import JobRecord, JobSnapshot
    from nuvom.discovery.entries import TaskEntry
    from nuvom.inspection.inspector import Inspector
    from nuvom.logs.progress import ProgressDisplay
    from nuvom.runtime import Runtime

    Call = tuple[tuple[Any, ...], dict[str, Any]]

_NEGATIVE = re.compile(r"-\.?\d.*")
_MARK = "\0"  # no system allows this character in an argument, so nothing else starts with it


class RunCommand(Command):
    """Treats ``-5`` as an argument of the task, not as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Mark negative numbers that are not the value of an option, then parse."""
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


@command(name="run", cls=RunCommand)
@click.argument("task", type=text, shell_complete=task_names)
@click.argument("words", type=text, nargs=-1, metavar="[ARGS]...")
@click.option("--json-args", type=text, metavar="JSON", help="Arguments: a JSON list or object.")
@click.option("--wait", is_flag=True, help="Wait for the job and print what it returns.")
@click.option("--timeout", type=span, help="With --wait: stop waiting after this long.")
@click.option("--in", "delay", type=span, help="Start after a delay: 30s, 5m, 2h ...")
@click.option("--at", "run_at", type=moment, metavar="TIME", help="Start at an ISO 8601 time.")
@click.option(
    "--queue", metavar="NAME", shell_complete=queue_names, help="Instead of the task's own queue."
)
@click.option("--priority", type=int, help="Lower runs first; default: the task's own.")
@click.option(
    "--unique-key",
    type=text,
    metavar="KEY",
    help="Make no job while an unfinished one of this task has this key.",
)
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
    """Enqueue a job that runs TASK, and print its id.

    TASK is a full name or its last part. ARGS are JSON literals or text; name=value is a
    keyword argument. They are checked against the signature that discovery found, and converted
    to the types that its annotations name; none of your code is imported.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout belongs to --wait; to start later use --in.")
    runtime, inspector = writer(invocation, folder_or_root(invocation))
    settings = runtime.settings
    if settings.queue_backend == "memory":
        expected = "a store that outlives this command, such as sqlite; no worker would see the job"
        raise InvalidSetting("queue_backend", "memory", expected, origin="nuvom run")
    known = {one.name for one in manifest_or_nothing(settings)}
    entry = find_task(invocation, settings, task)
    args, kwargs = _call_from(entry, [word.removeprefix(_MARK) for word in words], json_args)
    call = _converted(settings, entry, args, kwargs)
    record = make_record(runtime, entry, call, _options_from(options))
    queues_before = known_queues(inspector, settings)
    existing = runtime.dispatcher.enqueue(record)
    if existing is not None:
        invocation.out.say(f"Job {existing} already has this unique key; no new job was made.")
    workers = inspector.workers_on(record.queue)
    is_new = entry.name not in known
    for warning in _doubts(entry, record.queue, queues_before, workers, is_new=is_new):
        invocation.out.warn(warning)
    job_id = existing or record.id
    if wait:
        made = record if existing is None else None
        snapshot = _wait(invocation, runtime, job_id, timeout=timeout, record=made)
    else:
        snapshot = inspector.snapshot(job_id, None if existing else record)
    return _show(invocation, inspector, snapshot, created=existing is None, has_ended=wait)


def _call_from(entry: TaskEntry, words: Sequence[str], json_args: str | None) -> Call:
    """Return the arguments from the words and ``--json-args`` combined.

    Raises: InvalidArguments; click.UsageError: the JSON is invalid, or not a list or object.
    """
    args, kwargs = call_of(entry.name, signature_of(entry.signature), words)
    if json_args is None:
        return args, kwargs
    given = json_value(json_args, "--json-args")
    if isinstance(given, list):
        return (*args, *given), kwargs
    if isinstance(given, dict):
        return args, {**kwargs, **given}
    raise click.UsageError("--json-args must be a JSON list or object, such as '[1, \"x\"]'.")


def _converted(
    settings: Settings, entry: TaskEntry, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    """Return the arguments in the types of the annotations. Raises: InvalidArguments."""
    signature = signature_of(entry.signature)
    try:
        return Converter(settings).call(entry.file, signature, args, kwargs)
    except ValueError as error:
        raise InvalidArguments(entry.name, str(error), signature=str(signature)) from None


def _options_from(given: Mapping[str, Any]) -> CallOptions:
    """Return the call's options. Raises: InvalidTaskOption; click.UsageError."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen.keys() >= {"delay", "run_at"}:
        raise click.UsageError("Give either --in or --at, not both.")
    return call_options(NO_CALL_OPTIONS, chosen)


def _wait(
    invocation: Invocation,
    runtime: Runtime,
    job_id: str,
    *,
    timeout: float | None,
    record: JobRecord | None,
) -> JobSnapshot:
    shown = invocation.out.progress("Waiting", clock=runtime.clock)
    tell = teller_of_job(shown, runtime.clock)
    with interruptible(invocation, job_id), shown:
        return wait_for_final(runtime, job_id, timeout, record=record, tell=tell)


def teller_of_job(shown: ProgressDisplay, clock: Clock) -> Callable[[JobSnapshot | None], None]:
    """Return what shows how far one job is: as its task says, or else its status."""

    def tell(snapshot: JobSnapshot | None) -> None:
        done, note = 0.0, "" if snapshot is None else status_text(snapshot, clock.now())
        shown.total = None
        if snapshot is not None and snapshot.progress is not None:
            done, shown.total, note = snapshot.progress
        shown.tell(done, note)

    return tell


@contextmanager
def interruptible(invocation: Invocation, job_id: str) -> Iterator[None]:
    """Tell the user, if Ctrl-C ends the wait, that the job continues."""
    try:
        yield
    except KeyboardInterrupt:
        again = f"To wait again: nuvom wait {job_id}"
        invocation.out.say(f"\nStopped waiting; the job continues.\n{again}")
        raise


def _doubts(
    entry: TaskEntry, queue: str, known_queues: set[str], workers: int | None, *, is_new: bool
) -> Iterator[str]:
    """Yield likely mistakes: options, and a queue or a task that no worker serves or knows."""
    unknown = ", ".join(unknown_options(entry))
    if unknown:
        yield f"{entry.name} sets {unknown} in code, which is not run here: the default is used."
    if queue not in known_queues:
        hint = did_you_mean(queue, known_queues)
        yield f'The queue "{queue}" is new; the job is stored in it.{hint}'
    if workers == 0:
        yield f"0 workers alive on queue {queue}; start one: nuvom runworker"
    elif workers and is_new:
        yield (
            f"{entry.name} is new, and workers look for tasks when they start: restart them. "
            "Until then its jobs are PARKED. `nuvom dev` restarts by itself."
        )


def _show(
    invocation: Invocation,
    inspector: Inspector,
    snapshot: JobSnapshot,
    *,
    created: bool,
    has_ended: bool,
) -> int:
    record, out = snapshot.record, invocation.out
    data: dict[str, Any] = {
        "id": record.id,
        "func_name": record.func_name,
        "queue": record.queue,
        "status": str(snapshot.status),
        "attempt": record.attempt,
        "created": created,
    }
    if has_ended:
        data["error"] = error_data(snapshot.error)
        data["result"] = inspector.shown_result(snapshot)
    code = code_of(snapshot) if has_ended else exit_codes.OK
    if code != exit_codes.OK and not out.as_json:
        what, more = failure_text(snapshot)
        out.error(what, more=more)
        return code
    out.answer("nuvom.run/1", data, value_text(data["result"]) if has_ended else record.id)
    if not has_ended:
        out.hint(f"Next: nuvom wait {short_id(record.id)}")
    return code
