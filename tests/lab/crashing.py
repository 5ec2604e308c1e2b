"""Ends this process at a crash point, as ``CRASHPOINT=name:mode`` says.

``mode`` is ``exit`` (at once, without any clean-up), ``kill`` (a signal that nobody can catch)
or ``exception``. A process of a fault test calls ``arm_from`` when it starts. ``known_points``
lists the points from the source.
"""

from __future__ import annotations

import ast
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import nuvom
from nuvom.discovery.parser import syntax_tree
from nuvom.host.crashpoint import arm, crashpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

VARIABLE = "CRASHPOINT"
MODES = ("exit", "kill", "exception")
EXIT_CODE = 70

_PACKAGE = Path(nuvom.__file__).resolve().parent


class CrashPointReached(RuntimeError):  # noqa: N818  # named after what happened
    """Raised at a crash point in the mode ``exception``."""


def arm_from(
    environ: Mapping[str, str], *, reached: Callable[[str], None] = lambda _name: None
) -> None:
    """Arm the crash point that the environment names, if it names one, for its first pass.

    Args:
        reached: Called with its name, just before the end.
    Raises: ValueError: it names no point of the source, or no mode.
    """
    text = environ.get(VARIABLE)
    if not text:
        return
    name, _, mode = text.partition(":")
    if name not in known_points() or mode not in MODES:
        raise ValueError(f"{VARIABLE}={text!r}: expected a crash point and one of {MODES}")

    def act(passed: str) -> None:
        if passed == name:
            arm(None)
            reached(name)
            _end(name, mode)

    arm(act)


def known_points() -> dict[str, list[str]]:
    """Return the names of all crash points, each with the places that pass it."""
    found: dict[str, list[str]] = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        for name, line in _points_in(path):
            found.setdefault(name, []).append(f"{path.relative_to(_PACKAGE.parent)}:{line}")
    return found


def _end(name: str, mode: str) -> None:
    if mode == "exception":
        raise CrashPointReached(name)
    if mode == "kill" and hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(EXIT_CODE)


def _points_in(path: Path) -> Iterator[tuple[str, int]]:
    source = path.read_text(encoding="utf-8")
    if crashpoint.__name__ not in source:
        return
    for node in ast.walk(syntax_tree(source.encode())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id == crashpoint.__name__:
            yield ast.literal_eval(node.args[0]), node.lineno
