"""Options of ``manage.py nuvom runworker`` under the names that Django's database worker has.

That is ``db_worker`` of the package ``django-tasks-db``: how its worker is started should work for
Nuvom's as well. Plain ``nuvom runworker`` does not take them.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli.cli import cli
from nuvom.cli.context import Entry

if TYPE_CHECKING:
    from collections.abc import Callable

_COMMAND = "runworker"
_ALL = "*"
_UNTIL_EMPTY = 0  # --batch without a number
_OURS = {"queue_name": "queues", "max_tasks": "max_jobs", "max_threads": "threads"}
_REFUSED = {
    "--worker-id": "each worker gets a new id, so that no two can share one. Leave it out; "
    "`manage.py nuvom workers` lists workers with host and process id.",
    "--backend": "a worker runs the tasks of all backends. Leave it out, or give the backends "
    "different QUEUES and choose with --queue-name.",
}


def offer_options() -> None:
    """Have the command line of this process take them. Idempotent."""
    cli.lazy[_COMMAND] = WorkerEntry(*cli.lazy[_COMMAND])


class WorkerEntry(Entry):
    """Loads ``runworker`` with more options."""

    def load(self) -> click.Command:
        """Import the module and return a command of its own."""
        command = copy(super().load())
        command.params = [
            *(_batch() if one.name == "batch" else one for one in command.params),
            *_options(),
        ]
        command.callback = _translating(command.callback)
        return command


class BatchNumber(click.IntRange):
    """How many jobs are claimed at once; or nothing, which ``--batch`` of Django's worker takes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        return _UNTIL_EMPTY if value == _UNTIL_EMPTY else super().convert(value, param, ctx)


def _batch() -> click.Option:
    return click.Option(
        ["-b", "--batch"],
        type=BatchNumber(1),
        is_flag=False,
        flag_value=_UNTIL_EMPTY,
        metavar="[N]",
        help="Claim at most N jobs at once. Without N: the same as --burst.",
    )


def _options() -> list[click.Option]:
    count = click.IntRange(1)
    return [
        click.Option(
            ["--queue-name"], metavar="A,B", help="The same as --queues; * means all queues."
        ),
        click.Option(["--max-tasks"], type=count, metavar="N", help="The same as --max-jobs."),
        click.Option(["--max-threads"], type=count, metavar="N", help="The same as --threads."),
        click.Option(["--no-reload"], is_flag=True, help="The default."),
        click.Option(
            ["--interval"],
            type=click.FloatRange(0),
            metavar="SECS",
            expose_value=False,
            help="No effect: a new job wakes the worker.",
        ),
        click.Option(
            ["--no-startup-delay"],
            is_flag=True,
            expose_value=False,
            help="No effect: there is no such delay.",
        ),
        *(
            click.Option([name], hidden=True, expose_value=False, callback=_refuse)
            for name in _REFUSED
        ),
    ]


def _refuse(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        name = param.opts[0]
        raise click.UsageError(f"{name} has no equivalent here: {_REFUSED[name]}", ctx)


def _translating(run: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return a callback that takes all options and calls ``run`` with those that it knows."""
    assert run is not None  # noqa: S101  # a command, not a group

    def callback(**given: Any) -> Any:
        for name, ours in _OURS.items():
            value = given.pop(name)
            if value is not None and given[ours] is not None:
                both = " and ".join(f"--{one.replace('_', '-')}" for one in (name, ours))
                raise click.UsageError(f"{both} are the same option: give one of them.")
            if value is not None:
                given[ours] = None if name == "queue_name" and _means_all(value) else value
        given["reload"] = not given.pop("no_reload") and given["reload"]
        if given["batch"] == _UNTIL_EMPTY:
            if given["reload"]:
                raise click.UsageError(
                    "--batch ends the worker, and --reload keeps one: leave --reload out, or write "
                    "--burst --reload to run what is left again after each change."
                )
            given.update(batch=None, burst=True)
        return run(**given)

    return callback


def _means_all(queues: str) -> bool:
    return _ALL in (one.strip() for one in queues.split(","))
