"""What a task is called when it is given no name: ``module.qualname``.

A function of ``__main__`` is named after its file, as a worker would import it. On the path
of ``import nuvom``: it walks the file system only for ``__main__``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_MARKERS = (".nuvom", "nuvom.toml")


def task_name(func: Callable[..., Any]) -> str:
    """Return the full name of the task that ``func`` becomes."""
    qualname: str = getattr(func, "__qualname__", None) or type(func).__qualname__
    module: str = getattr(func, "__module__", None) or type(func).__module__
    if module == "__main__":
        code = getattr(func, "__code__", None)
        module = _module_of_main(code.co_filename if code is not None else "")
    return f"{module}.{qualname}"


def _module_of_main(filename: str) -> str:
    path = os.path.abspath(filename)
    if not filename.endswith(".py") or not os.path.isfile(path):
        return "__main__"
    base = _import_root(os.path.dirname(path))
    relative = os.path.relpath(path, base)[: -len(".py")]
    return relative.replace(os.sep, ".")


def _import_root(folder: str) -> str:
    """The folder that the name of a module in ``folder`` is relative to.

    It is the project root, or a ``src`` below it that is no package; outside any project, the
    folder of the script itself, which is where Python imports from.
    """
    current = folder
    while True:
        if any(os.path.exists(os.path.join(current, marker)) for marker in _MARKERS) or _declares(
            os.path.join(current, "pyproject.toml")
        ):
            source = os.path.join(current, "src")
            is_below = os.path.commonpath([source, folder]) == source
            is_root = is_below and not os.path.exists(os.path.join(source, "__init__.py"))
            return source if is_root else current
        parent = os.path.dirname(current)
        if parent == current or current == os.path.expanduser("~"):
            return folder
        current = parent


def _declares(pyproject: str) -> bool:
    try:
        with open(pyproject, "rb") as stream:
            return b"[tool.nuvom" in stream.read()
    except OSError:  # absent or unreadable: this folder does not say that it is a project
        return False
