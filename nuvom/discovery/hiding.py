"""Files of a project that have the name of a module of the standard library.

A worker's import path begins with the project, so that such a file is imported in the place of the
module, by everything that the worker and its children load later.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from nuvom.config.project import import_roots
from nuvom.discovery.entries import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PACKAGE = "__init__.py"


def hiding_problems(root: Path) -> Iterator[Problem]:
    """Yield a warning for each module or package that shares a name with the standard library."""
    for folder in import_roots(root):
        prefix = "" if folder == root else f"{folder.name}/"
        for file, module in sorted(_modules_in(folder)):
            if module in sys.stdlib_module_names:
                yield Problem(prefix + file, 0, _reason(module), "warning")


def _modules_in(folder: Path) -> Iterator[tuple[str, str]]:
    try:
        names = os.listdir(folder)
    except OSError:  # the scan tells of it
        return
    for name in names:
        if name.endswith(".py"):
            yield name, name.removesuffix(".py")
        elif name in sys.stdlib_module_names and (folder / name / _PACKAGE).exists():
            yield f"{name}/{_PACKAGE}", name


def _reason(module: str) -> str:
    return (
        f"it hides the module {module} of the standard library from workers and their child "
        "processes, or is hidden by it: rename it"
    )
