"""Lets input and output of a process fail, or records them: the library of ``iofaults.c``.

Linux alone, and only where there is a C compiler; ``why_not`` tells. The library is compiled
when a test needs it, and preloaded into a child of the test (``environment``). Inside the child
``Faults`` chooses the calls that fail, and says in the record what was acknowledged.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

WRITES, FLUSHES, READS, CUTS = 1, 2, 4, 8
"""Kinds of calls, to be added up.

Writes are all that need room: writing, and making a file, a folder or a name. Flushes are fsync
and fdatasync. Cuts are truncating and removing.
"""

EVERY = 1 << 40
"""As the last call that is to fail: all of them, until ``Faults.mend``."""

_SOURCE = Path(__file__).with_suffix(".c")


def why_not() -> str | None:
    """Return why the library cannot be made here, None where it can."""
    if sys.platform != "linux":
        return "calls are intercepted by LD_PRELOAD, on Linux"
    if _compiler() is None:
        return "there is no C compiler (cc or gcc)"
    return None


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def compiled(folder: Path, source: Path = _SOURCE) -> Path:
    """Return the library, compiled into ``folder`` unless it is there already.

    Args:
        source: Of another library to be preloaded.

    Raises: RuntimeError: it cannot be made, and why.
    """
    reason, program = why_not(), _compiler()
    if reason is not None or program is None:
        raise RuntimeError(f"{source.name} cannot be compiled: {reason}")
    library = folder / f"{source.stem}.so"
    if not library.exists():
        made = subprocess.run(
            [program, "-shared", "-fPIC", "-O1", "-Wall", "-o", library, source, "-ldl"],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise RuntimeError(f"{program} cannot compile {source}:\n{made.stderr}")
    return library


def environment(library: Path, root: Path, log: Path | None = None) -> dict[str, str]:
    """Return what to add to a child's environment.

    Args:
        root: Only files below it are concerned. To be recorded it has to be empty.
        log: Where to record every change, outside ``root``; None for nowhere.
    """
    given = {"LD_PRELOAD": os.path.abspath(library), "NUVOM_IO_ROOT": os.path.realpath(root)}
    return given if log is None else {**given, "NUVOM_IO_LOG": os.path.abspath(log)}


class Faults:
    """The library that is preloaded into this process.

    Raises: RuntimeError: none is.
    """

    def __init__(self) -> None:
        try:
            # From the process as a whole, where what was preloaded is found first.
            library = ctypes.CDLL(None)
            self._fail, self._mark = library.nuvom_io_fail, library.nuvom_io_mark
            self._calls = library.nuvom_io_calls
        except AttributeError:
            raise RuntimeError("iofaults.so is not preloaded; see environment()") from None
        self._fail.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_int)
        self._calls.restype = ctypes.c_long

    def fail(self, error: int, kinds: int, first: int = 1, last: int = EVERY) -> None:
        """Let calls fail with ``error``, an ``errno``; a write that fails has done one half.

        Args:
            kinds: Which calls are counted; all others succeed.
            first, last: Which of those, counted from 1 from now on.
        """
        self._fail(first, last, error, kinds)

    def mend(self) -> None:
        """Let no call fail any more."""
        self._fail(0, 0, 0, 0)

    @property
    def calls(self) -> int:
        """How many calls were counted since ``fail``."""
        return int(self._calls())

    def mark(self, text: str) -> None:
        """Write ``text`` into the record, at this point of it: what was acknowledged, say."""
        self._mark(text.encode())
