"""What a shell may complete: names of tasks, queues, jobs, settings and plugins.

Completion never makes a store, runs no code of the project and prints no error: where
something cannot be had, there is nothing to offer. Where the values come from is
``completion_values.py``, which loads only when a shell asks.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nuvom.cli.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable

    import click
    from click.shell_completion import CompletionItem

    Values = list[tuple[str, str]]
    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

LONGEST_SECS = 0.2  # the shell waits for us at a press of a key
_VALUES = "nuvom.cli.completion_values"


def _completer(name: str) -> Completer:
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415  # only when a shell asks

        # The options before the incomplete word were applied to this object as in a real call.
        invocation = ctx.find_object(Invocation) or Invocation()
        invocation.out.quiet = True
        found = _within_limit(name, invocation, incomplete)
        return [CompletionItem(value, help=note) for value, note in found]

    return complete


def _within_limit(name: str, invocation: Invocation, incomplete: str) -> Values:
    found: Values = []

    def look() -> None:
        try:
            source: Any = getattr(import_module(_VALUES), name)
            found.extend(source(invocation, incomplete))
        except Exception:  # noqa: BLE001, S110  # a thread's outermost frame: a shell must see no error
            pass

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(LONGEST_SECS)
    return [] if thread.is_alive() else found


tasks = _completer("tasks")
queues = _completer("queues")
job_ids = _completer("job_ids")
workers = _completer("workers")
fingerprints = _completer("fingerprints")
config_keys = _completer("config_keys")
plugins = _completer("plugins")
