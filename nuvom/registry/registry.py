"""Maps task names to functions, and gives tasks their default names.

The decorator registers definitions. The manifest adds names whose modules are imported when their
first job arrives. The dispatcher and the job runner look names up here. ``import nuvom`` loads
this module, so it must stay fast: it searches the file system only to name a task of ``__main__``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from nuvom.core.options import CO_COROUTINE, TaskOptions
from nuvom.errors import AmbiguousTask, DuplicateTask, TaskImportFailed, TaskNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class ManifestTask(Protocol):
    """What the registry needs to know about a task that is discovered but not imported."""

    @property
    def name(self) -> str:
        """Full name of the task."""

    @property
    def module(self) -> str:
        """Module to import."""

    @property
    def aliases(self) -> Iterable[str]:
        """Its former names."""


class TaskDefinition:
    """A registered task: its name, function and options.

    Args:
        given: Names of the options that ``@task`` was given, which no default of the project
            replaces.

    Attributes:
        is_async: Whether calling ``func`` returns a coroutine.
    """

    __slots__ = ("func", "given", "is_async", "name", "options")

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        options: TaskOptions | None = None,
        *,
        given: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.func = func
        self.options = options or TaskOptions()
        self.given = given
        self.is_async = _is_coroutine_function(func)

    def options_under(self, defaults: Mapping[str, Any]) -> TaskOptions:
        """Return the options, with the project's ``defaults`` for those that were not given."""
        missing = {name: value for name, value in defaults.items() if name not in self.given}
        return self.options._replace(**missing) if missing else self.options

    @property
    def place(self) -> str:
        """Where the function is defined, as ``file:line``, or its module."""
        code = getattr(self.func, "__code__", None)
        if code is None:
            return str(getattr(self.func, "__module__", "?"))
        return f"{code.co_filename}:{code.co_firstlineno}"

    def __repr__(self) -> str:
        return f"TaskDefinition({self.name!r}, {self.place})"


def _is_coroutine_function(func: Callable[..., Any]) -> bool:
    code = getattr(func, "__code__", None)
    if code is not None:
        return bool(code.co_flags & CO_COROUTINE)
    from inspect import iscoroutinefunction  # noqa: PLC0415  # rare: callables without code of their own

    return iscoroutinefunction(func) or iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004  # the method is inspected, not tested for


class Registry:
    """Tasks by full name, and by their former names: ``aliases``.

    All methods are thread-safe. Each change is a single dict operation and needs no lock, which a
    forked child could inherit in a locked state.
    """

    def __init__(self) -> None:
        self._definitions: dict[str, TaskDefinition] = {}
        self._listed: dict[str, ManifestTask] = {}
        self._aliases: dict[str, TaskDefinition] = {}
        self._listed_aliases: dict[str, ManifestTask] = {}
        self._loader: Callable[[Any], None] | None = None

    def register(
        self,
        task: TaskDefinition | Callable[..., Any],
        *,
        name: str | None = None,
        force: bool = False,
    ) -> TaskDefinition:
        """Add a task.

        Args:
            task: A definition, an object with a ``definition`` attribute (a decorated
                function), or a plain function.
            name: Overrides the definition's name; for a function the default is
                ``module.qualname``.
            force: Replace any task that has the name, or one of the aliases.
        Raises: DuplicateTask: another function has the name, or one of the aliases. Defining the
            same function again (a reloaded module, a notebook cell run again) is no duplicate.
        """
        definition = _definition_of(task, name)
        aliases = [one for one in definition.options.aliases if one != definition.name]
        if not force:
            for one in aliases:
                _refuse_another(one, self.get(one), definition)
            known = self.get(definition.name)
            known = known or self._definitions.setdefault(definition.name, definition)
            _refuse_another(definition.name, known, definition)
        self._definitions[definition.name] = definition
        for one in aliases:
            self._aliases[one] = definition
        return definition

    def unregister(self, name: str) -> bool:
        """Remove a task; return False if there was none."""
        definition = self._definitions.pop(name, None)
        if definition is None:
            return False
        for alias in definition.options.aliases:
            self._aliases.pop(alias, None)
        return True

    def add_manifest(self, tasks: Iterable[ManifestTask], loader: Callable[[Any], None]) -> None:
        """Add discovered tasks without importing them.

        Args:
            loader: Called with an entry when its task is first needed. It must import the
                module, which registers the task.
        """
        self._loader = loader
        self._listed = {task.name: task for task in tasks}
        self._listed_aliases = {one: task for task in self._listed.values() for one in task.aliases}

    def get(self, name: str) -> TaskDefinition | None:
        """Return a registered task without importing anything, or None."""
        return self._definitions.get(name) or self._aliases.get(name)

    def resolve(self, name: str) -> TaskDefinition:
        """Return the task, importing its module if it is listed but not yet registered.

        Raises:
            TaskNotFound: the name is neither registered nor listed.
            TaskImportFailed: its module could not be imported or does not define it.
        """
        definition = self.get(name)
        if definition is not None:
            return definition
        entry = self._listed.get(name) or self._listed_aliases.get(name)
        if entry is None or self._loader is None:
            raise TaskNotFound(name, self.names())
        self._loader(entry)
        definition = self.get(name)
        if definition is None:
            raise TaskImportFailed(name, entry.module, "the module no longer defines it")
        return definition

    def find(self, name: str) -> str:
        """Return the full name for a full name or an unambiguous last part.

        Raises: TaskNotFound, AmbiguousTask.
        """
        return find_name(name, self.names())

    def names(self) -> list[str]:
        """Return all names, registered or listed, sorted."""
        return sorted({**self._definitions, **self._listed})

    @property
    def runnable(self) -> list[str]:
        """The names of all stored jobs that can be run: names of tasks, and their aliases."""
        return [*self.names(), *{**self._aliases, **self._listed_aliases}]

    @property
    def has_async(self) -> bool:
        """Whether any task, registered or listed, is known to be async."""
        known = [*self._definitions.copy().values(), *self._listed.values()]
        return any(getattr(task, "is_async", False) for task in known)

    def __contains__(self, name: object) -> bool:
        return name in self._definitions or name in self._listed

    def __len__(self) -> int:
        return len(self.names())

    def clear(self) -> None:
        """Remove everything. For tests."""
        self._definitions, self._aliases = {}, {}
        self._listed, self._listed_aliases = {}, {}
        self._loader = None


# ---- the name of a task -----------------------------------------------------------------


def task_name(func: Callable[..., Any]) -> str:
    """Return the default name of the task that ``func`` becomes.

    It is ``module.qualname``. A function of ``__main__`` is named after its file, as a worker
    would import it.
    """
    qualname: str = getattr(func, "__qualname__", None) or type(func).__qualname__
    module: str = getattr(func, "__module__", None) or type(func).__module__
    if module == "__main__":
        code = getattr(func, "__code__", None)
        module = _module_of_main(code.co_filename if code is not None else "")
    return f"{module}.{qualname}"


def _module_of_main(filename: str) -> str:
    """Return the module that a worker would import, even for a script outside a project."""
    path = os.path.abspath(filename)
    if not filename.endswith(".py") or not os.path.isfile(path):
        return "__main__"
    from nuvom.config.project import module_of_program  # noqa: PLC0415  # for programs only

    return module_of_program(path)


def find_name(name: str, known: Iterable[str]) -> str:
    """Return the name in ``known`` that equals ``name`` or ends in ``.name``.

    Raises: TaskNotFound, AmbiguousTask.
    """
    names = list(known)
    if name in names:
        return name
    matches = [one for one in names if one.endswith(f".{name}")]
    if not matches:
        raise TaskNotFound(name, names)
    if len(matches) > 1:
        raise AmbiguousTask(name, matches)
    return matches[0]


def _definition_of(task: TaskDefinition | Callable[..., Any], name: str | None) -> TaskDefinition:
    carried = getattr(task, "definition", task)
    if isinstance(carried, TaskDefinition):
        if name is None or name == carried.name:
            return carried
        return TaskDefinition(name, carried.func, carried.options, given=carried.given)
    return TaskDefinition(name or task_name(carried), carried)


def _refuse_another(name: str, known: TaskDefinition | None, definition: TaskDefinition) -> None:
    if known is not None and not _is_same(known.func, definition.func):
        raise DuplicateTask(name, known.place, definition.place)


def _is_same(first: Callable[..., Any], second: Callable[..., Any]) -> bool:
    if first is second:
        return True
    return _origin(first) is not None and _origin(first) == _origin(second)


def _origin(func: Callable[..., Any]) -> tuple[str, str] | None:
    """Return file and qualified name of a module-level function; redefining it keeps both."""
    code = getattr(func, "__code__", None)
    if code is None or "<locals>" in code.co_qualname:
        return None
    return code.co_filename, code.co_qualname


_default = Registry()


def default_registry() -> Registry:
    """Return the registry that ``@task`` uses."""
    return _default
