"""``nuvom runworker``: a worker in the foreground. What it does is in ``nuvom/cli/serving.py``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from nuvom.cli.base import Command
from nuvom.cli.completion import queues
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.param_types import limit_option, span_option

_COUNT = click.IntRange(1)


@click.command(cls=Command)
@click.option("--threads", type=_COUNT, metavar="N", help="Slots for plain tasks.")
@click.option(
    "--processes", type=_COUNT, metavar="N", help="Worker processes; the rest is for each of them."
)
@click.option("--async-slots", type=_COUNT, metavar="N", help="Slots for async tasks.")
@click.option(
    "--queues",
    metavar="A,B",
    shell_complete=queues,
    help="Serve these, in order of preference; default: all, also later ones.",
)
@click.option("--exclude-queues", metavar="A,B", help="Serve all but these.")
@limit_option("--concurrency", help="At most N jobs of a queue at once; may be given again.")
@click.option("--burst", is_flag=True, help="Stop when no job is ready and none runs.")
@click.option("--max-jobs", type=_COUNT, metavar="N", help="Stop after so many jobs.")
@span_option("--max-seconds", help="Stop after so long.")
@click.option("-b", "--batch", type=_COUNT, metavar="N", help="Claim at most so many at once.")
@click.option("--reload", "--dev", "reload", is_flag=True, help="Start anew when code changes.")
@click.option(
    "--log-format",
    type=click.Choice(("rich", "plain", "json", "logfmt")),
    help="Default: rich on a terminal, else plain.",
)
@click.option("--parent", type=int, hidden=True)  # process id of the supervisor
@pass_invocation
def runworker(invocation: Invocation, /, **options: Any) -> int:
    """Run jobs until you stop it.

    The first Ctrl-C or SIGTERM claims no more, lets running jobs finish within
    shutdown_timeout_secs and hands back the rest; the second stops at once. Exit 130 or 143
    after a signal, 0 when --burst, --max-jobs or --max-seconds ended it.

    SIGHUP restarts: with --processes one worker after the other, each once the next is up; a
    single worker finishes its jobs and starts anew under the same process id.
    """
    # The worker's own modules are heavy (asyncio among them), and help needs none of them.
    is_reloading = options.pop("reload") and options["parent"] is None
    module = "nuvom.cli.reloading" if is_reloading else "nuvom.cli.serving"
    code: int = import_module(module).serve(invocation, **options)
    return code
