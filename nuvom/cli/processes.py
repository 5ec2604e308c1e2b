"""How to start this command line again, as a child or in this process's place."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import nuvom._version
from nuvom.host import processes as platforms

_BOOTSTRAP = "import sys; sys.path.append(sys.argv.pop(1)); from nuvom.cli.cli import main; main()"


def own_command(*args: str) -> list[str]:
    """Return the command that runs ``nuvom ARGS`` with this interpreter and this package.

    The package's folder goes to the end of the path, where it hides nothing: the child finds
    the same Nuvom however this one was found. ``-P`` keeps the working directory off the path.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(nuvom._version.__file__)))  # noqa: SLF001  # our own module
    return [sys.executable, "-P", "-c", _BOOTSTRAP, home, *args]


def replace_self(*options: str) -> NoReturn:
    """Start this very command again in this process's place; does not return.

    Args:
        options: Added at its end, where they override those that it was given.
    """
    sys.stdout.flush()
    platforms.replace_process([sys.executable, *sys.orig_argv[1:], *options])
