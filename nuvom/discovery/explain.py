"""Explains why a file, or a function in it, is not among the discovered tasks.

The command line asks when a task is not found. This module walks the project as a scan does,
reads that one file, and names the rule that excluded it.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path

from nuvom.discovery.ignore import IgnoreRules
from nuvom.discovery.parser import parse, syntax_tree
from nuvom.discovery.walker import Walker, is_inside, read_file


def why_hidden(root: str | Path, path: str | Path) -> str | None:
    """Return what prevents discovery of the file ``path``, or None if nothing does.

    Args:
        path: Absolute, or relative to ``root``.
    """
    base = os.path.realpath(root)
    # Resolve links above the root, but not below it: a link there can be what hides the file.
    file = os.path.normpath(os.path.join(base, path))
    if not is_inside(file, base):
        file = os.path.join(os.path.realpath(os.path.dirname(file)), os.path.basename(file))
    if not is_inside(file, base):
        return "it is outside the project"
    sought = Path(file).relative_to(base)
    walker = Walker(base, IgnoreRules())
    found = {source.file: source for source in walker.files()}
    if sought.as_posix() in found:
        return _why_unread(found[sought.as_posix()].path)
    for folder in reversed(sought.parents):
        if folder.as_posix() in walker.hidden:
            reason = walker.hidden[folder.as_posix()]
            return f"its folder {folder.as_posix()}/ is left out: {reason}"
    told = {problem.file: problem.reason for problem in walker.problems} | walker.hidden
    if sought.as_posix() in told:
        return told[sought.as_posix()]
    if sought.suffix != ".py" or sought.name.startswith("."):
        return "only files named *.py that are not hidden are looked at"
    return _why_unread(file)


def why_no_task(root: str | Path, path: str | Path, function: str) -> str | None:
    """Return why ``function`` in ``path`` is not listed as a task, or None if it is.

    Args:
        function: Its name, or its dotted path inside the module.
    """
    hidden = why_hidden(root, path)
    if hidden is not None:
        return hidden
    source = read_file(os.path.realpath(os.path.join(os.path.realpath(root), path)))
    parsed = parse(source)
    name = function.rpartition(".")[2]
    if any(task.qualname.rpartition(".")[2] == name for task in parsed.tasks):
        return None
    for _, line, reason, level in parsed.problems:
        if level == "error":
            return f"line {line}: {reason}" if line else reason
    return _why_undecorated(source, name)


def _why_unread(path: str) -> str | None:
    try:
        read_file(path)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None


def _why_undecorated(source: bytes, name: str) -> str:
    functions = [
        node
        for node in ast.walk(syntax_tree(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    if not functions:
        return f"it defines no function named {name}"
    for decorator in functions[-1].decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        text = ast.unparse(called)
        if text.rpartition(".")[2] == "task":
            return f"line {decorator.lineno}: @{text} is not Nuvom's task there"
    return f"line {functions[-1].lineno}: {name} has no @task of Nuvom"
