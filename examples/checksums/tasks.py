"""Two tasks that read one Python file: what its bytes are, and what is written in it."""

from __future__ import annotations

import ast
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

from nuvom import task

# The standard library's own tests hold odd literals on purpose; the parser warns about them.
warnings.filterwarnings("ignore", category=SyntaxWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning)


@dataclass(frozen=True)
class Counts:
    """What is in a file; ``functions`` is None where it is not valid Python."""

    lines: int
    words: int
    functions: int | None


@task
def checksum(path: str) -> str:
    """Return a file's SHA-256 as hexadecimal text."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@task
def count(path: str) -> Counts:
    """Count the lines, words and defined functions of a Python file."""
    data = Path(path).read_bytes()
    return Counts(len(data.splitlines()), len(data.split()), _functions(data))


def _functions(source: bytes) -> int | None:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return sum(isinstance(node, kinds) for node in ast.walk(tree))
