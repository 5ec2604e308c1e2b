"""Why a file, or a function in it, is not among the discovered tasks.

Asked by the command line when a task is not found. It goes through the same rules as a scan,
for one path, and says which of them decided.
"""

from __future__ import annotations

import ast
import os
import stat
from pathlib import Path

from nuvom.discovery.ignore import ENVIRONMENT_MARKS, IGNORE_FILE, IgnoreRules
from nuvom.discovery.parser import parse, syntax_tree
from nuvom.discovery.walker import (
    LEAVES_ROOT,
    MAX_FILE_BYTES,
    NOT_REGULAR,
    TOO_LARGE,
    is_inside,
    is_junction,
    read_file,
    read_ignore_file,
)


def why_hidden(root: str | Path, path: str | Path) -> str | None:
    """Return what keeps the file ``path`` from being discovered, or None if nothing does.

    Args:
        path: Absolute, or relative to ``root``.
    """
    base = os.path.realpath(root)
    # Links above the root are resolved, those below it are part of the question.
    file = os.path.normpath(os.path.join(base, path))
    if not is_inside(file, base):
        file = os.path.join(os.path.realpath(os.path.dirname(file)), os.path.basename(file))
    if not is_inside(file, base):
        return "it is outside the project"
    parts = Path(file).relative_to(base).parts
    try:
        return _why(base, parts)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def why_no_task(root: str | Path, path: str | Path, function: str) -> str | None:
    """Return why ``function`` in ``path`` is not listed as a task, or None if it is.

    Args:
        function: Its name, or dotted path inside the module.
    """
    hidden = why_hidden(root, path)
    if hidden is not None:
        return hidden
    source = read_file(os.path.realpath(os.path.join(os.path.realpath(root), path)))
    parsed = parse(source)
    name = function.rpartition(".")[2]
    if any(task.qualname.rpartition(".")[2] == name for task in parsed.tasks):
        return None
    for line, reason, level in parsed.notes:
        if level == "error":
            return f"line {line}: {reason}" if line else reason
    return _why_undecorated(source, name)


def _why(base: str, parts: tuple[str, ...]) -> str | None:
    rules = IgnoreRules()
    folder, prefix = base, ""
    for part in parts[:-1]:
        rules = _with_ignore_file(rules, folder, prefix)
        folder, prefix = os.path.join(folder, part), f"{prefix}{part}/"
        reason = _why_folder(rules, folder, prefix[:-1])
        if reason is not None:
            return f"its folder {prefix} is left out: {reason}"
    rules = _with_ignore_file(rules, folder, prefix)
    return _why_file(rules, base, os.path.join(folder, parts[-1]), prefix + parts[-1])


def _with_ignore_file(rules: IgnoreRules, folder: str, prefix: str) -> IgnoreRules:
    path = os.path.join(folder, IGNORE_FILE)
    return rules.within(read_ignore_file(path, prefix)) if os.path.lexists(path) else rules


def _why_folder(rules: IgnoreRules, path: str, file: str) -> str | None:
    if os.path.islink(path) or is_junction(path):
        return "it is a symbolic link, and linked folders are not entered"
    reason = rules.why_folder(file)
    if reason is None and not rules.brings_back(file):
        marks = sorted(ENVIRONMENT_MARKS.intersection(os.listdir(path)))
        if marks:
            return f"it holds {marks[0]}, as an environment of installed packages does"
    return reason


def _why_file(rules: IgnoreRules, base: str, path: str, file: str) -> str | None:
    name = os.path.basename(path)
    if not name.endswith(".py") or name.startswith("."):
        return "only files named *.py that are not hidden are looked at"
    reason = rules.why_file(file)
    if reason is not None:
        return reason
    target = os.path.realpath(path)
    found = os.stat(target)
    if not is_inside(target, base):
        return LEAVES_ROOT
    if not stat.S_ISREG(found.st_mode):
        return NOT_REGULAR
    return TOO_LARGE if found.st_size > MAX_FILE_BYTES else None


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
