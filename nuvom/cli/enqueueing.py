"""From the words of ``nuvom run`` to a stored job, and what there is to warn of on the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli.values import call_of
from nuvom.core.options import NO_CALL_OPTIONS, CallOptions, call_options
from nuvom.discovery.stub import definition_of, signature_of, unknown_options
from nuvom.errors import InvalidSetting, TaskNotImportable, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nuvom.cli.invocation import Invocation
    from nuvom.core.record import JobRecord
    from nuvom.discovery.entries import TaskEntry
    from nuvom.inspection import Inspector
    from nuvom.runtime import Runtime

    Call = tuple[tuple[Any, ...], dict[str, Any]]


def call_from(entry: TaskEntry, words: Sequence[str], json_args: str | None) -> Call:
    """Return the arguments that the words and ``--json-args`` give together.

    Raises: InvalidArguments; click.UsageError: the JSON is none, or neither list nor object.
    """
    args, kwargs = call_of(entry.name, signature_of(entry.signature), words)
    if json_args is None:
        return args, kwargs
    try:
        given = json.loads(json_args)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--json-args is not valid JSON: {error}") from None
    if isinstance(given, list):
        return (*args, *given), kwargs
    if isinstance(given, dict):
        return args, {**kwargs, **given}
    raise click.UsageError("--json-args must be a JSON list or object, such as '[1, \"x\"]'.")


def refuse_fleeting(runtime: Runtime) -> None:
    """Refuse to store a job where it would end with this command.

    Raises: InvalidSetting: the queue is in the memory of this process.
    """
    settings = runtime.settings
    if settings.queue_backend == "memory":
        expected = "a store that outlives this command, such as sqlite; no worker would see the job"
        raise InvalidSetting("queue_backend", "memory", expected, origin="nuvom run")


def options_from(given: Mapping[str, Any]) -> CallOptions:
    """Return the call's options. Raises: InvalidTaskOption; click.UsageError."""
    if given.get("delay") is not None and given.get("run_at") is not None:
        raise click.UsageError("Give either --in or --at, not both.")
    chosen = {name: value for name, value in given.items() if value is not None}
    return call_options(NO_CALL_OPTIONS, chosen)


def make_record(
    runtime: Runtime, entry: TaskEntry, call: Call, options: CallOptions = NO_CALL_OPTIONS
) -> JobRecord:
    """Return the record of a call, bound to the manifest's signature, not stored yet.

    Raises: TaskNotImportable, InvalidArguments, NotStorable, PayloadTooLarge.
    """
    if not entry.importable:
        place = f"{entry.file}:{entry.line}"
        repair = f"Move it to the top level of its module ({place}); nothing was enqueued."
        is_inside = "<locals>" in entry.qualname
        reason = "it is defined inside a function" if is_inside else "importing does not define it"
        raise TaskNotImportable(entry.name, reason, repair)
    args, kwargs = call
    return runtime.dispatcher.make_record(definition_of(entry), args, kwargs, options)


def known_queues(inspector: Inspector, entries: Iterable[TaskEntry]) -> set[str]:
    """Return the queues that tasks name, or that hold or held jobs."""
    named = {str(entry.options.get("queue", "default")) for entry in entries}
    return {"default", *named, *(stats.queue for stats in inspector.stats())}


def warn_of_options(invocation: Invocation, entry: TaskEntry) -> None:
    """Say which options of the task nobody knows who does not run its code."""
    unknown = unknown_options(entry)
    if unknown:
        invocation.out.warn(
            f"{entry.name} sets {', '.join(unknown)} in code, which is not run here: "
            "this job has the defaults."
        )


def warn_of_queue(
    invocation: Invocation, inspector: Inspector, queue: str, known: Iterable[str]
) -> None:
    """Say where a queue is likely to be misspelt, or has no worker."""
    if queue not in known:
        hint = did_you_mean(queue, known)
        invocation.out.warn(f'The queue "{queue}" is new; the job is stored in it.{hint}')
    if inspector.workers_on(queue) == 0:
        invocation.out.warn(f"0 workers alive on queue {queue}; start one: nuvom runworker")


def warn_of_news(invocation: Invocation, inspector: Inspector, record: JobRecord) -> None:
    """Say that workers which were there before a task was found do not know it."""
    if inspector.workers_on(record.queue):
        invocation.out.warn(
            f"{record.func_name} is new, and workers look for tasks when they start: restart "
            "them. Until then its jobs are PARKED. `nuvom dev` restarts by itself."
        )
