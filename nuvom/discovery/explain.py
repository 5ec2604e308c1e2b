"""Explains why a function is not among the discovered tasks.

The command line asks when a task is not found. This module walks the project as a scan does,
reads the file that should define the task, and names the rule that excluded it.
"""

from __future__ import annotations

import ast
import os
from pathlib import PurePath, PurePosixPath

from nuvom.discovery.ignore import IgnoreRules
from nuvom.discovery.parser import syntax_problems, syntax_tree
from nuvom.discovery.scan import NO_HINTS, Hints, scan
from nuvom.discovery.walker import Walker, read_file


def why_no_task(
    root: str | PurePath, path: str | PurePath, function: str, hints: Hints = NO_HINTS
) -> str | None:
    """Return why ``function`` in the file ``path`` is not listed as a task, or None if it is.

    Args:
        path: Absolute, and below ``root``.
        function: Its name, or its dotted path inside the module.
        hints: What the project's settings say.
    """
    file = PurePath(path).relative_to(root).as_posix()
    walker = Walker(os.path.realpath(root), IgnoreRules())
    found = {source.file: source.path for source in walker.files()}
    if file not in found:
        return _why_hidden(file, walker)
    try:
        source = read_file(found[file])
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    name = function.rpartition(".")[2]
    seen = scan(str(root), hints=hints, use_cache=False)
    here = [task for task in seen.tasks if task.file == file]
    if any(task.qualname.rpartition(".")[2] == name for task in here):
        return None
    mine = [one for one in seen.errors if one.file == file]
    told = next(iter((*mine, *syntax_problems(source))), None)
    if told is None:
        return _why_undecorated(source, name)
    return f"line {told.line}: {told.reason}" if told.line else told.reason


def _why_hidden(file: str, walker: Walker) -> str:
    for folder in reversed(PurePosixPath(file).parents):
        reason = walker.hidden.get(str(folder))
        if reason is not None:
            return f"its folder {folder}/ is left out: {reason}"
    told = {problem.file: problem.reason for problem in walker.problems} | walker.hidden
    return told.get(file, "hidden files are not looked at")


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
