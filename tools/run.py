"""Running one program to its end, and saying in one line what is being done."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def say(text: str) -> None:
    """Print one line about what is being done; stdout is left to the programs."""
    sys.stdout.flush()
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> int:
    """Run a program to its end and return its exit code (128 + n where signal n ended it)."""
    with subprocess.Popen([str(part) for part in command], cwd=cwd, env=env) as child:
        # Ctrl-C reaches the child as well, which tidies up; SIGTERM has to be handed on.
        before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            code = _wait(child)
        finally:
            signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code


def _wait(child: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child decides when it ends
            continue
