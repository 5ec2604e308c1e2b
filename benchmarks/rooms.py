"""The environments that peers run in: the common one, and rooms for those that clash with it.

A room is a folder ``peer-NAME`` in the benchmarks' own environment, filled once from
``requirements/bench-NAME.txt``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = "requirements.sha256"


class RoomFailed(Exception):  # noqa: N818  # named after what happened, as in nuvom/errors.py
    """A room could not be made."""


def python_of(room: str | None) -> Path:
    """Return the Python of a room, making the room first; None is the common one.

    Raises: RoomFailed.
    """
    if room is None:
        return Path(sys.executable)
    folder = Path(sys.prefix) / f"peer-{room}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = ROOT / "requirements" / f"bench-{room}.txt"
    mark = hashlib.sha256(wanted.read_bytes()).hexdigest()
    stamp = folder / STAMP
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != mark:
        _make(folder, python, wanted)
        stamp.write_text(mark, encoding="utf-8")
    return python


def _make(folder: Path, python: Path, wanted: Path) -> None:
    print(f"making an environment for {folder.name} from {wanted.name}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", *quiet, "--require-hashes", "-r", str(wanted)],
    ):
        if subprocess.run(command, check=False).returncode != 0:
            raise RoomFailed(f"{wanted.name} could not be installed (the message is above)")
