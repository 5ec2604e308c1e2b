"""Running programs to their end, and saying in one line what is being done."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
_LOOK_SECS = 0.1


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


def run_side_by_side(
    commands: Sequence[tuple[Sequence[str | Path], Path]], env: dict[str, str], most: int
) -> Iterator[tuple[int, str]]:
    """Run programs, at most so many at a time; yield exit code and output of each, in order.

    Args:
        commands: The words of each, and the folder to run it in.
    """
    children: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        outputs = [stack.enter_context(TemporaryFile()) for _ in commands]
        before = signal.signal(signal.SIGTERM, lambda *_: _end(children))
        stack.callback(signal.signal, signal.SIGTERM, before)
        for (words, cwd), output in zip(commands, outputs, strict=True):
            while sum(one.poll() is None for one in children) >= most:
                time.sleep(_LOOK_SECS)
            call = [str(part) for part in words]
            child = subprocess.Popen(call, cwd=cwd, env=env, stdout=output, stderr=output)
            children.append(stack.enter_context(child))
        for child, output in zip(children, outputs, strict=True):
            code = _wait(child)
            output.seek(0)
            yield code, output.read().decode(errors="replace")


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()


def _wait(child: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child decides when it ends
            continue
