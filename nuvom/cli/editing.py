"""A job's arguments in the user's editor, and the new job that comes of it.

What may not be shown stands there as ``***``; where it still does after editing, the stored
value is used. Bytes, dates and the like are shown as text and kept likewise while untouched.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli.enqueueing import make_record
from nuvom.cli.jsonable import jsonable
from nuvom.cli.known_tasks import find_task, positional_names
from nuvom.errors import InvalidArguments

if TYPE_CHECKING:
    from nuvom.cli.invocation import Invocation
    from nuvom.core.record import JobRecord
    from nuvom.inspection import Inspector
    from nuvom.runtime import Runtime


def edited_copy(
    invocation: Invocation, runtime: Runtime, inspector: Inspector, old: JobRecord
) -> JobRecord | None:
    """Return a new job like ``old`` with the arguments that the user saved; None: unchanged.

    Raises: click.UsageError: what was saved is no JSON of this form. InvalidArguments,
        NotStorable: it does not fit the task.
    """
    entry = find_task(invocation, runtime.settings, old.func_name)
    args, kwargs = runtime.codec.decode_call(old.args, old.kwargs)
    shown_args, shown_kwargs = inspector.shown_arguments(
        old, positional_names(runtime.settings, old.func_name)
    )
    shown = jsonable({"args": shown_args, "kwargs": shown_kwargs})
    saved = _ask(entry.name, shown)
    if saved is None or saved == shown:
        return None
    new_args, new_kwargs = _checked(entry.name, saved)
    whole_args = tuple(
        args[at] if _is_untouched(new, shown["args"], at) else new
        for at, new in enumerate(new_args)
    )
    whole_kwargs = {
        name: kwargs[name] if _is_untouched(new, shown["kwargs"], name) else new
        for name, new in new_kwargs.items()
    }
    return _repeated(old, make_record(runtime, entry, (whole_args, whole_kwargs)))


def _repeated(old: JobRecord, called: JobRecord) -> JobRecord:
    """Return ``old`` as a new job, with the arguments of ``called``."""
    return old.replace(
        id=called.id,
        args=called.args,
        kwargs=called.kwargs,
        created_at=called.created_at,
        run_at=0.0,
        unique_key=None,
        unique_for=None,
        retried_from=old.id,
        status=called.status,
        attempt=0,
        deliveries=0,
        lease_epoch=0,
        suspect=False,
        ref=0,
    )


def _ask(task: str, shown: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the user saved, or None where nothing was."""
    text = json.dumps(shown, indent=2)
    edited = click.edit(text, extension=".json", require_save=True)
    if edited is None:
        return None
    try:
        saved = json.loads(edited)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"What you saved for {task} is not valid JSON: {error}") from None
    return saved if isinstance(saved, dict) else {}


def _checked(task: str, saved: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    args, kwargs = saved.get("args"), saved.get("kwargs")
    if not isinstance(args, list) or not isinstance(kwargs, dict) or len(saved) != 2:  # noqa: PLR2004  # the two keys
        reason = 'what you saved must be an object with a list "args" and an object "kwargs"'
        raise InvalidArguments(task, reason)
    return args, kwargs


def _is_untouched(new: Any, shown: Any, key: Any) -> bool:  # noqa: ANN401  # any argument of a job
    known = 0 <= key < len(shown) if isinstance(key, int) else key in shown
    return known and shown[key] == new
