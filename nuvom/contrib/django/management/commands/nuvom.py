"""``manage.py nuvom``: Nuvom's command line in a Django project."""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand

from nuvom.cli import processes
from nuvom.cli.cli import main
from nuvom.contrib.django.worker_options import offer_options

_OF_DJANGO = frozenset({"--settings", "--pythonpath"})


class Command(BaseCommand):
    """Passes its arguments on to Nuvom's command line, once Django is set up."""

    help = "Run a command of Nuvom: manage.py nuvom runworker, manage.py nuvom status, ..."
    requires_system_checks: list[str] = []  # noqa: RUF012  # as Django declares it

    def run_from_argv(self, argv: list[str]) -> None:
        """Run ``manage.py nuvom ARGS``; exits with Nuvom's exit code.

        Workers that it starts as processes of their own are started in the same way.
        """
        own, args = _split(argv[2:])
        before = len(sys.orig_argv) - len(argv[2:])
        processes.launcher = [sys.executable, *sys.orig_argv[1:before], *own]
        offer_options()
        main(args)

    def add_arguments(self, parser: Any) -> None:
        """Take all arguments as they are, for ``call_command``."""
        parser.add_argument("args", nargs="*")

    def handle(self, *args: str, **options: Any) -> None:
        """Run a command for ``call_command``; raises SystemExit."""
        del options
        offer_options()
        main(args)


def _split(args: list[str]) -> tuple[list[str], list[str]]:
    """Return the options that Django has taken for itself already, and all other arguments."""
    own, rest = [], []
    given = iter(args)
    for one in given:
        if one.partition("=")[0] in _OF_DJANGO:
            own += [one] if "=" in one else [one, *islice(given, 1)]
        else:
            rest.append(one)
    return own, rest
