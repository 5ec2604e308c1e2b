#!/usr/bin/env python3
"""The one entry point for work on Nuvom: demo, test, lint, check, bench and docs.

It needs nothing but Python 3.11 or newer. This file only sees to that, and its syntax stays
readable for Python 3.6, which has to be told that it is too old; the work is done in ``tools/``.
"""

import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent


def too_old(major: int, minor: int) -> str:
    """Return what to tell the user of a Python that is older than ``OLDEST``."""
    return (
        "dev.py: Nuvom needs Python 3.11 or newer; this is {}.{}, and no newer one was found.\n"
        "Fix: install one, then run the same command with it:\n"
        "  Debian, Ubuntu  sudo apt install python3 python3-venv\n"
        "  Fedora          sudo dnf install python3\n"
        "  macOS           brew install python\n"
        "  Windows         winget install Python.Python.3.13\n"
        "  anywhere        pyenv install 3.13, or the installers of python.org"
    ).format(major, minor)


def newer_python(oldest: "tuple[int, int]" = OLDEST) -> "list[str] | None":
    """Return the command of a Python on this machine that is new enough, or None."""
    versioned = [["python3.%d" % minor] for minor in range(14, oldest[1] - 1, -1)]
    probe = "import sys; sys.exit(sys.version_info < %r)" % (oldest,)
    for command in [*versioned, ["python3"], ["python"], ["py", "-3"]]:
        found = shutil.which(command[0])
        if found is None:
            continue
        # A version manager's stand-in may exist and yet run nothing: only a start tells.
        start = [found, *command[1:], "-c", probe]
        if subprocess.call(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            return [found, *command[1:]]
    return None


def main(argv: "list[str]") -> int:
    """Run a verb; on a Python that is too old, hand over to a newer one."""
    if sys.version_info >= OLDEST:
        sys.path.insert(0, str(ROOT))
        from tools import verbs  # noqa: PLC0415  # an old Python could not even read it

        return verbs.main(argv)
    newer = newer_python()
    if newer is None:
        print(too_old(*sys.version_info[:2]), file=sys.stderr)
        return 1
    print("dev.py: this Python is too old, going on with " + newer[0], file=sys.stderr)
    return subprocess.call([*newer, str(ROOT / "dev.py"), *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
