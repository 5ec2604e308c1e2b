"""Surveys code that uses Celery: what runs with another import, what needs a hand, what does not.

It reads the code and never runs it. Whose tasks the functions are is told by discovery, which
follows decorators from module to module.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.compat.celery.options import OF_CALLS, REFUSED, WITHOUT_EFFECT
from nuvom.config.project import CONFIG_FILE, PYPROJECT, has_section, import_roots
from nuvom.discovery.ignore import IgnoreRules
from nuvom.discovery.modules import Modules, guess_roots
from nuvom.discovery.parser import syntax_tree
from nuvom.discovery.walker import Walker, read_file
from nuvom.errors import ProjectNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuvom.discovery.parser import Sighting

MAPS, HAND, UNSUPPORTED = "maps", "hand", "unsupported"
KINDS = ("import", "definition", "submission", "retry", "canvas", "schedule")
_HOMES = {  # Celery's modules that have another name here
    "celery": "nuvom.compat.celery",
    "celery.app": "nuvom.compat.celery",
    "celery.app.base": "nuvom.compat.celery",
    "celery.app.task": "nuvom.compat.celery.task",
    "celery._state": "nuvom.compat.celery",
    "celery.utils": "nuvom.compat.celery",
    "billiard.exceptions": "nuvom.compat.celery.exceptions",
    **{
        f"celery.{name}": f"nuvom.compat.celery.{name}"
        for name in (
            *("canvas", "exceptions", "result", "schedules", "signals", "states", "utils.log"),
        )
    },
}
_ELSEWHERE = ("celery", "kombu", "billiard", "django_celery_beat", "django_celery_results", "amqp")
_CANVAS = {"chain", "group", "chord", "chunks", "starmap", "xmap", "xstarmap"}
_SIGNATURES = {"s", "si", "signature", "subtask"}
_CALLS = {"delay", "apply_async", "send_task", "delay_on_commit", "apply_async_on_commit"}
_FROM = re.compile(r"from(\s+)[\w.]+")
_SETTING = re.compile(r"^task_decorators\s*=\s*\[[^\]]*\]", re.MULTILINE)
_SECTION = re.compile(r"^\[tool\.nuvom\].*\n", re.MULTILINE)
_NO_WORKFLOWS = "Nuvom has no workflows yet"
_NO_SUN = "Nuvom knows no times of the sun; use a crontab()"


class Remark(NamedTuple):
    """One thing of Celery's in the code.

    Attributes:
        kind: ``import``, ``definition``, ``submission``, ``retry``, ``canvas`` or ``schedule``.
        level: ``maps``, ``hand`` or ``unsupported``.
        what: As in the code.
        reason: Why it does not map, and what to do; ``""`` if it maps.
    """

    file: str
    line: int
    kind: str
    level: str
    what: str
    reason: str = ""


class Edit(NamedTuple):
    """A file that changes: its imports, or the setting ``task_decorators``.

    Attributes:
        before, after: Its text.
    """

    file: str
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The change, as a unified diff."""
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        names = f"a/{self.file}", f"b/{self.file}"
        return "".join(difflib.unified_diff(before, after, *names))


class Survey(NamedTuple):
    """What a project uses of Celery.

    Attributes:
        files: How many Python files were looked at.
    """

    files: int
    remarks: tuple[Remark, ...]
    edits: tuple[Edit, ...]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many remarks there are, by kind and level."""
        counted = Counter((one.kind, one.level) for one in self.remarks)
        levels = (MAPS, HAND, UNSUPPORTED)
        return {kind: {level: counted[kind, level] for level in levels} for kind in KINDS}


def survey(
    root: Path,
    path: Path | None = None,
    decorators: Sequence[str] = (),
    *,
    has_hooks: bool = False,
) -> Survey:
    """Return what the code of a project uses of Celery.

    Args:
        root: The folder from which modules are imported.
        path: The file or folder in it that is meant; None means all.
        decorators: The setting ``task_decorators``.
        has_hooks: Whether the setting ``hooks`` names a module, which every worker imports.
    Raises: ProjectNotFound: there is no such folder or file.
    """
    wanted = Path(os.path.realpath(path or root))
    if not root.is_dir() or not wanted.exists():
        raise ProjectNotFound([path or root])
    base = Path(os.path.realpath(root))
    sources = list(Walker(os.fspath(base), IgnoreRules()).files())
    folders = [one.relative_to(base) for one in import_roots(base, guess_roots(sources))]
    prefixes = ["" if one == Path() else f"{one.as_posix()}/" for one in folders]
    modules = Modules(sources, sorted(prefixes, reverse=True), decorators, None)
    tasks: dict[str, dict[int, str]] = {}
    names: set[str] = set()
    for file, sighting, made in modules.made:
        unknown = "" if made is not None else _unknown(modules, file, sighting)
        if unknown or (made and (made.decorator.engine == "Celery" or made.decorator.is_given)):
            tasks.setdefault(file, {})[sighting.entry.line] = unknown
            names.add(sighting.entry.qualname.rpartition(".")[2])
    remarks: list[Remark] = []
    edits: list[Edit] = []
    found: set[str] = set()
    chosen = [one for one in sources if (base / one.file).is_relative_to(wanted)]
    for source in chosen:
        try:
            content = read_file(source.path)
            of_file = tasks.get(source.file, {})
            reader = _File(source.file, content, of_file, names, has_hooks=has_hooks)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # `nuvom discover` reports what cannot be read
        remarks += reader.remarks()
        edits += reader.edits()
        found |= reader.decorators
    if found:
        edits.append(_settings_edit(base, [*decorators, *sorted(found)]))
    return Survey(len(chosen), tuple(sorted(remarks)), tuple(edits))


def _unknown(modules: Modules, file: str, sighting: Sighting) -> str:
    """Return the full name of the ``task`` of an object that cannot be followed, or ``""``."""
    module = modules.names[file][0]
    for paths in sighting.decorators:
        found = modules.references.unknown_in(paths, module)
        owner = found.removesuffix(".task")
        if owner not in modules.files and owner.rpartition(".")[0] in modules.files:
            return found
    return ""


def _settings_edit(root: Path, decorators: list[str]) -> Edit:
    """Return the change after which the settings name these decorators."""
    own, shared = root / CONFIG_FILE, root / PYPROJECT
    is_shared = shared.is_file() and has_section(shared.read_bytes())
    path = shared if is_shared else own
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    line = f"task_decorators = {json.dumps(decorators)}"
    if _SETTING.search(before):
        after = _SETTING.sub(line, before, count=1)
    elif not is_shared:
        after = f"{line}\n{before}"  # before the first table
    elif section := _SECTION.search(before):
        after = f"{before[: section.end()]}{line}\n{before[section.end() :]}"
    else:
        after = f"{before}\n[tool.nuvom]\n{line}\n"
    return Edit(path.name, before, after)


class _File:
    """One file.

    Args:
        tasks: The line of each task, with the full name of its decorator if discovery cannot
            follow it.
        names: The names of all tasks of the project.

    Attributes:
        decorators: Those of Celery's that discovery cannot follow; ``remarks`` finds them.
    """

    def __init__(
        self,
        file: str,
        content: bytes,
        tasks: dict[int, str],
        names: set[str],
        *,
        has_hooks: bool,
    ) -> None:
        self._has_hooks = has_hooks
        self.decorators: set[str] = set()
        self._file = file
        self._text = content.decode("utf-8", "surrogateescape")
        self._uses_celery = b"celery" in content.lower() or bool(tasks)
        self._tree = syntax_tree(content) if self._uses_celery or names else ast.Module([], [])
        self._tasks = tasks
        self._names = names
        self._replaced: list[tuple[ast.stmt, str]] = []
        self._canvas: set[str] = set()

    def remarks(self) -> Iterator[Remark]:
        """Yield what the file uses."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from self._of_import(node)
        for node in ast.walk(self._tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from self._of_function(node)
            elif isinstance(node, ast.Call):
                yield from self._of_call(node)
            elif self._uses_celery and _is_schedule(node):
                yield self._of_schedule(node, "beat_schedule")

    def edits(self) -> Iterator[Edit]:
        """Yield the change of the imports, if any; ``remarks`` comes first."""
        lines = self._text.splitlines(keepends=True)
        for node, text in sorted(self._replaced, key=lambda one: -one[0].lineno):
            end = node.end_lineno or node.lineno
            tail = lines[end - 1].encode("utf-8", "surrogateescape")[node.end_col_offset or 0 :]
            head = lines[node.lineno - 1][: node.col_offset]
            after = tail.decode("utf-8", "surrogateescape")
            lines[node.lineno - 1 : end] = [f"{head}{text}{after}"]
        if self._replaced:
            yield Edit(self._file, self._text, "".join(lines))

    def _remark(self, node: Any, kind: str, *told: str) -> Remark:
        return Remark(self._file, node.lineno, kind, *told)

    # ---- imports --------------------------------------------------------------------------

    def _of_import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Remark]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from self._of_module(node, alias)
            return
        module = node.module or ""
        if node.level or module.partition(".")[0] not in _ELSEWHERE:
            return
        home = _HOMES.get(module)
        known = [one for one in node.names if home and _has(home, one.name)]
        self._canvas |= {one.asname or one.name for one in known if one.name in _CANVAS}
        for one in node.names:
            what = f"{module}.{one.name}"
            if one in known:
                yield self._remark(node, "import", MAPS, what)
            else:
                yield self._remark(node, "import", UNSUPPORTED, what, _why_not(module, one.name))
        if len(known) == len(node.names):
            own = ast.get_source_segment(self._text, node) or ""
            self._replaced.append((node, _FROM.sub(rf"from\g<1>{home}", own, count=1)))
        elif known:
            parts = {home: known, module: [one for one in node.names if one not in known]}
            indent = f"\n{' ' * node.col_offset}"
            texts = [f"from {name} import {_written(ones)}" for name, ones in parts.items()]
            self._replaced.append((node, indent.join(texts)))

    def _of_module(self, node: ast.Import, alias: ast.alias) -> Iterator[Remark]:
        if alias.name == "celery" and len(node.names) == 1:
            name = f" as {alias.asname}" if alias.asname else ""
            self._replaced.append((node, f"from nuvom.compat import celery{name}"))
            yield self._remark(node, "import", MAPS, alias.name)
        elif alias.name.partition(".")[0] in _ELSEWHERE:
            reason = "import what is used of it by `from ... import`, if Nuvom has it"
            yield self._remark(node, "import", HAND, alias.name, reason)

    # ---- tasks ----------------------------------------------------------------------------

    def _of_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Remark]:
        unknown = self._tasks.get(node.lineno)
        if unknown == "":
            yield self._of_task(node)
            return
        for decorator in node.decorator_list:
            used = decorator.func if isinstance(decorator, ast.Call) else decorator
            if self._uses_celery and isinstance(used, ast.Attribute) and used.attr == "task":
                found = self._of_task(node)
                name = ast.unparse(used)
                to_do = "add its full name"
                if unknown:
                    self.decorators.add(unknown)
                    to_do = f"--write adds {unknown}"
                reason = f"discovery cannot follow {name}: {to_do} to task_decorators"
                lost = found._replace(level=HAND, what=f"{node.name}: @{name}", reason=reason)
                yield lost if found.level == MAPS else found

    def _of_task(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Remark:
        for decorator in filter(_is_celerys, node.decorator_list):
            for name, value in _keywords(decorator):
                reason = _refusal(name, value)
                if reason:
                    what = f"{node.name}: {name}="
                    return self._remark(node, "definition", UNSUPPORTED, what, reason)
        return self._remark(node, "definition", MAPS, node.name)

    # ---- calls ----------------------------------------------------------------------------

    def _of_call(self, node: ast.Call) -> Iterator[Remark]:
        function = node.func
        if isinstance(function, ast.Name) and function.id in self._canvas:
            yield self._remark(node, "canvas", UNSUPPORTED, function.id, _NO_WORKFLOWS)
        if self._uses_celery and ast.unparse(function).rpartition(".")[2] == "solar":
            yield self._remark(node, "schedule", UNSUPPORTED, "solar", _NO_SUN)
        if not isinstance(function, ast.Attribute):
            return
        owner, name = ast.unparse(function.value), function.attr
        is_task = owner.rpartition(".")[2] in self._names
        if name == "retry" and owner == "self" and self._uses_celery:
            yield self._of_retry(node)
        elif name == "add_periodic_task":
            yield self._of_schedule(node, name)
        elif name in _CANVAS and (owner == "celery" or is_task):
            yield self._remark(node, "canvas", UNSUPPORTED, f"{owner}.{name}", _NO_WORKFLOWS)
        elif name in _CALLS and (is_task or name == "send_task" or self._uses_celery):
            yield self._of_submission(node, f"{owner}.{name}"[-60:])
        elif name in _SIGNATURES and is_task:
            yield self._remark(node, "canvas", HAND, f"{owner}.{name}", "runs if it is only called")

    def _of_schedule(self, node: ast.AST, what: str) -> Remark:
        if self._has_hooks:
            return self._remark(node, "schedule", MAPS, what)
        reason = "name a module that imports it in the setting hooks: workers then store it"
        return self._remark(node, "schedule", HAND, what, reason)

    def _of_submission(self, node: ast.Call, what: str) -> Remark:
        if isinstance(node.func, ast.Attribute) and _is_canvas(node.func.value, self._canvas):
            return self._remark(node, "canvas", UNSUPPORTED, what, _NO_WORKFLOWS)
        if not what.endswith("delay") and not what.endswith("delay_on_commit"):
            for name, value in _keywords(node):
                reason = _refusal(name, value)
                if not reason and name not in {"args", "kwargs", "name", "**", *OF_CALLS}:
                    reason = "apply_async() has no such option"
                if reason:
                    return self._remark(node, "submission", UNSUPPORTED, f"{what}({name}=)", reason)
        return self._remark(node, "submission", MAPS, what)

    def _of_retry(self, node: ast.Call) -> Remark:
        allowed = {"exc", "countdown", "eta", "max_retries", "**", *WITHOUT_EFFECT}
        for name, value in _keywords(node):
            if name in ("args", "kwargs"):
                reason = "runs if the arguments are those of the job; else call apply_async()"
                return self._remark(node, "retry", HAND, f"self.retry({name}=)", reason)
            if name not in allowed and not (name == "throw" and _literal(value) is True):
                reason = "a retry is the same job; enqueue another one by apply_async()"
                return self._remark(node, "retry", UNSUPPORTED, f"self.retry({name}=)", reason)
        return self._remark(node, "retry", MAPS, "self.retry")


def write_edits(root: Path, edits: Sequence[Edit]) -> None:
    """Write the files that change."""
    for edit in edits:
        content = edit.after.encode("utf-8", "surrogateescape")
        (root / edit.file).write_bytes(content)


def _has(module: str, name: str) -> bool:
    return name == "*" or hasattr(import_module(module), name)


def _why_not(module: str, name: str) -> str:
    top = module.partition(".")[0]
    if top.startswith("django_celery"):
        return "its models belong to Celery; Nuvom keeps schedules and results in its own store"
    if top in ("kombu", "amqp", "billiard"):
        return "Nuvom has no broker"
    if "beat" in module or "schedule" in name:
        return "workers fire schedules: there is no beat, and no class for schedules of your own"
    return "nuvom.compat.celery has no such name"


def _written(names: Sequence[ast.alias]) -> str:
    return ", ".join(ast.unparse(one) for one in names)


def _keywords(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Call):
        for one in node.keywords:
            yield one.arg or "**", one.value


def _is_celerys(decorator: ast.expr) -> bool:
    used = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return used.rpartition(".")[2] in ("task", "shared_task")


def _literal(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else ...


def _refusal(name: str, value: ast.expr) -> str:
    """Return why an option with a value is refused, or ``""``."""
    given = _literal(value)
    if name in REFUSED and given not in (None, 0, False):
        return REFUSED[name].rstrip(".")
    if name == "serializer" and given not in (None, "json", "msgpack", ...):
        return "arguments are always stored as MessagePack"
    if name in ("acks_late", "typing") and given is False:
        return "cannot be False on Nuvom; leave it out"
    return ""


def _is_canvas(node: ast.expr, canvas: set[str]) -> bool:
    """Whether a call goes to what canvas returns, such as ``chain(...).delay()``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return True
    name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    return name in canvas or (name.startswith("celery.") and name.rpartition(".")[2] in _CANVAS)


def _is_schedule(node: ast.AST) -> bool:
    targets = map(ast.unparse, node.targets) if isinstance(node, ast.Assign) else ()
    return any(one.lower().endswith(("beat_schedule", "celerybeat_schedule")) for one in targets)
