"""Finds all tasks of a project: walks it, reads its modules, follows decorators, names the tasks.

Writes only its cache. The command line calls this module, and so does a worker in development,
through ``auto_register.py``.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from nuvom.config.project import STATE_DIR, import_roots
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.options import check_task_name, task_options
from nuvom.discovery.description import without_first
from nuvom.discovery.entries import Duplicate, Problem, TaskEntry
from nuvom.discovery.ignore import IgnoreRules, PatternList
from nuvom.discovery.modules import Cache, Modules, Outcome, guess_roots
from nuvom.discovery.parser import NEWER, UNPACKED
from nuvom.discovery.references import DJANGO, NUVOM, SHIM
from nuvom.discovery.stub import unread_schedule
from nuvom.discovery.walker import Walker
from nuvom.errors import InvalidSchedule, InvalidTaskOption, ProjectNotFound, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.discovery.modules import Tell
    from nuvom.discovery.parser import Sighting
    from nuvom.discovery.references import DecoratorValue, Made

_PACKAGE = "__init__.py"
_NOT_CHECKED = ("force",)
_OF_SHIM = {
    "name": "name",
    "queue": "queue",
    "max_retries": "retries",
    "default_retry_delay": "retry_delay_secs",
    "time_limit": "timeout_secs",
    "soft_time_limit": "soft_timeout_secs",
    "ignore_result": "store_result",
}
_ENDLESS = 2**31 - 1
_OF_DJANGO = {
    "queue_name": "queue",
    "priority": "priority",
    "retries": "retries",
    "max_attempts": "retries",
    "timeout": "timeout_secs",
    "backoff": "backoff",
    "isolation": "isolation",
}


class Hints(NamedTuple):
    """What the settings of a project say about its code.

    Attributes:
        task_decorators: Dotted names of decorators that make tasks.
        source_roots: Folders, besides the root and ``src``, from which the code imports.
    """

    task_decorators: tuple[str, ...] = ()
    source_roots: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return those in the settings."""
        return cls(settings.task_decorators, settings.source_roots)


NO_HINTS = Hints()


class Scan(NamedTuple):
    """The result of one walk through a project.

    Attributes:
        tasks: One entry for each name, sorted by name.
        problems: Sorted by file and line; includes duplicates and tasks that cannot be imported.
        files_seen: How many Python files no rule hides.
        files_read: How many of them were read.
        files_parsed: How many of them were parsed.
        others: How many tasks of other engines there are, as text, or ``""``.
        guessed_roots: Folders from which the code seems to import, where ``source_roots`` is not
            set; the tasks are named accordingly.
        unparsed: Files that may define tasks and cannot be parsed.
    """

    tasks: tuple[TaskEntry, ...]
    problems: tuple[Problem, ...]
    duplicates: tuple[Duplicate, ...]
    files_seen: int
    files_read: int
    files_parsed: int
    others: str = ""
    guessed_roots: tuple[str, ...] = ()
    unparsed: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems because of which something could not be used."""
        return tuple(problem for problem in self.problems if problem.level == "error")


def scan(
    root: str | Path,
    *,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    hints: Hints = NO_HINTS,
    use_cache: bool = True,
    clock: Clock = SYSTEM_CLOCK,
    tell: Tell | None = None,
) -> Scan:
    """Return all tasks below ``root``, without importing or running anything.

    Args:
        exclude: Patterns as in ``.nuvomignore``, relative to the root; they take precedence.
        include: If given, only files that match one of these patterns are considered.
        hints: What the project's settings say.
        use_cache: False means neither read nor write the cache. The cache is written only if
            ``.nuvom`` already exists or something was found.
        tell: Called for each file with how many are read, and how many there are.
    Raises: ProjectNotFound: ``root`` is not a folder.
    """
    base = Path(os.path.realpath(root))
    if not base.is_dir():
        raise ProjectNotFound([root])
    rules = IgnoreRules(
        exclude=PatternList(exclude, "--exclude"),
        include=PatternList(include, "--include") if include else None,
    )
    walker = Walker(os.fspath(base), rules)
    sources = list(walker.files())
    cache = Cache(base, int(clock.now() * 1e9), repr(hints)) if use_cache else None
    outcome, read, parsed = cache.outcome(sources) if cache is not None else None, 0, 0
    if outcome is None:
        guessed = () if hints.source_roots else guess_roots(sources)
        own = hints.source_roots or guessed
        folders = [folder.relative_to(base) for folder in import_roots(base, own)]
        prefixes = ("" if one == Path() else f"{one.as_posix()}/" for one in folders)
        roots = sorted(prefixes, reverse=True)
        modules = Modules(sources, roots, hints.task_decorators, cache, tell=tell)
        read, parsed = modules.read, modules.parsed
        outcome = _Findings(modules).outcome(roots, guessed)
        if cache is not None and (outcome.tasks or os.path.isdir(base / STATE_DIR)):
            cache.save(modules.known, modules.tops, outcome)
    hiding = hiding_problems(base, hints.source_roots or outcome.guessed_roots)
    problems = tuple(sorted([*walker.problems, *outcome.problems, *hiding]))
    counts = len(sources), read, parsed
    more = outcome.others, outcome.guessed_roots, outcome.unparsed
    return Scan(outcome.tasks, problems, outcome.duplicates, *counts, *more)


class _Findings:
    """What was found in the modules of a project."""

    def __init__(self, modules: Modules) -> None:
        self._entries: list[TaskEntry] = []
        self._others: list[str] = []  # the engine of each task that is not Nuvom's
        self._modules = modules
        self._problems = modules.problems
        self._unfollowed: Counter[tuple[str, str]] = Counter()
        self._unknown: dict[str, list[Problem]] = {}

    def outcome(self, roots: Sequence[str], guessed: tuple[str, ...]) -> Outcome:
        """Return all of it."""
        for file, sighting, made in self._modules.made:
            self._add(file, sighting, made)
        tasks, duplicates = _by_name(self._entries, self._problems, roots)
        self._report_wrappers()
        self._report_unknown()
        others = _counted(self._others)
        problems = tuple(_newer_said_once(self._problems))
        return Outcome(tasks, problems, duplicates, others, guessed, self._modules.unparsed)

    def _add(self, file: str, sighting: Sighting, made: Made | None) -> None:
        module, obstacle = self._modules.names[file]
        if made is None:
            self._note_unfollowed(file, sighting, module)
        elif made.decorator.engine not in (NUVOM, SHIM, DJANGO):
            self._others.append(made.decorator.engine)
        else:
            told = sighting.obstacle or obstacle
            entry = msgspec.structs.replace(sighting.entry, module=module, file=file)
            decorator = made.decorator
            if decorator.engine == SHIM or _is_given_shim(decorator):
                entry, decorator = _of_shim(entry, decorator)
            elif decorator.engine == DJANGO:
                entry, decorator = _of_django(entry, decorator)
            self._entries.append(self._described(entry, decorator, told))

    def _report_wrappers(self) -> None:
        """Report functions of the project that decorate others and call ``nuvom.task``."""
        for (module, function), count in self._unfollowed.items():
            file = self._modules.files[module]
            line = self._modules.line_of_call(file, function)
            if line:
                verb = "are" if count > 1 else "is"
                reason = (
                    f"{plural(count, 'function')} {verb} decorated with {module}.{function}, which "
                    "calls nuvom.task: add it to the setting task_decorators if it makes tasks"
                )
                self._problems.append(Problem(file, line, reason, "warning"))

    def _report_unknown(self) -> None:
        """Report ``task`` of objects that the project makes in a way that cannot be followed."""
        files = self._modules.files
        for path, places in self._unknown.items():
            owner = path.removesuffix(".task")
            module = owner.rpartition(".")[0]
            is_near = not self._entries or self._modules.is_parsed(files.get(module, ""))
            if owner not in files and module in files and is_near:
                verb = "are" if len(places) > 1 else "is"
                reason = (
                    f"{plural(len(places), 'function')} {verb} decorated with {path}, and the code "
                    f"does not tell what {owner} is: add {path} to the setting task_decorators if "
                    "it makes tasks"
                )
                self._problems.append(places[0]._replace(reason=reason))

    def _note_unfollowed(self, file: str, sighting: Sighting, module: str) -> None:
        for paths in sighting.decorators:
            place = self._modules.references.place_of(paths, module)
            unknown = self._modules.references.unknown_in(paths, module)
            if place is not None:
                self._unfollowed[place] += 1
            elif unknown:
                one = Problem(file, sighting.entry.line, "", "warning")
                self._unknown.setdefault(unknown, []).append(one)

    def _described(
        self, entry: TaskEntry, decorator: DecoratorValue, obstacle: str | None
    ) -> TaskEntry:
        """Return the entry of a task; add what is to be reported about it."""
        options, dynamic = dict(sorted(decorator.options.items())), set(decorator.dynamic)
        name = options.pop("name", None)
        label = entry.qualname.rpartition(".")[2]
        for what in sorted(dynamic & {"name", "aliases"}):
            verb = "is" if what == "name" else "are"
            self._warn(entry, f"the {what} of the task {label} {verb} known only at import")
        if obstacle:
            self._warn(entry, f"no worker can import the task {entry.qualname}: {obstacle}")
        checked = {} if decorator.is_given else options
        refused = _refused(decorator.refused, name, checked)
        if refused:
            self._warn(entry, f"@task refuses an option of {label}: {refused}")
        found = msgspec.structs.replace(
            entry,
            name=str(name) if name and not refused else f"{entry.module}.{entry.qualname}",
            importable=not obstacle,
            options=options,
            dynamic_options=tuple(sorted(dynamic)),
        )
        unread = unread_schedule(found)
        if unread:
            reason = (
                f"no scheduler can make the schedule of the task {label}, since only an import "
                f"tells its {unread}: use literals, or the setting schedules"
            )
            self._warn(entry, reason)
        return found

    def _warn(self, entry: TaskEntry, reason: str) -> None:
        self._problems.append(Problem(entry.file, entry.line, reason, "warning"))


def _counted(engines: Iterable[str]) -> str:
    """Return text such as ``107 Celery tasks and 2 RQ tasks``."""
    counts = Counter(engines)
    return " and ".join(
        f"{count} {engine} task{'s' if count > 1 else ''}" for engine, count in counts.most_common()
    )


def _is_given_shim(given: DecoratorValue) -> bool:
    """Whether the setting ``task_decorators`` names one of Celery's: Nuvom's take no ``bind``."""
    return given.is_given and given.options.get("bind") is True


def _of_shim(entry: TaskEntry, given: DecoratorValue) -> tuple[TaskEntry, DecoratorValue]:
    """Return a task of ``nuvom.compat.celery`` with Nuvom's options, and without ``self``."""
    options = {"max_retries": 3, **given.options}
    if options.pop("bind", False):
        entry = msgspec.structs.replace(entry, signature=without_first(entry.signature))
    if options["max_retries"] is None:
        options["max_retries"] = _ENDLESS
    known = {own: options[name] for name, own in _OF_SHIM.items() if options.get(name) is not None}
    if "store_result" in known:
        known["store_result"] = not known["store_result"]
    dynamic = frozenset(_OF_SHIM[name] for name in given.dynamic if name in _OF_SHIM)
    return entry, replace(given, options=known, dynamic=dynamic, refused="")


def _of_django(entry: TaskEntry, given: DecoratorValue) -> tuple[TaskEntry, DecoratorValue]:
    """Return a task of ``django.tasks`` with Nuvom's options, and without ``context``.

    Its settings may have more options for it (``task_options``), which discovery does not read.
    """
    options = {"queue_name": "default", "priority": 0, **given.options}
    if options.get("takes_context") is True:
        entry = msgspec.structs.replace(entry, signature=without_first(entry.signature))
    known = {
        own: options[name] for name, own in _OF_DJANGO.items() if options.get(name) is not None
    }
    if isinstance(known.get("priority"), int):
        known["priority"] = -known["priority"]  # there, higher runs first
    if isinstance(options.get("max_attempts"), int):
        known["retries"] = options["max_attempts"] - 1
    dynamic = {_OF_DJANGO.get(name, name) for name in given.dynamic} & {*_OF_DJANGO.values()}
    known = {name: value for name, value in known.items() if name not in dynamic}
    return entry, replace(given, options=known, dynamic=frozenset({*dynamic, UNPACKED}))


def _newer_said_once(problems: list[Problem]) -> Iterator[Problem]:
    """Yield all problems, but those of files for a newer Python as one."""
    newer = [one for one in problems if one.reason.startswith(NEWER)]
    yield from (one for one in problems if one not in newer)
    if newer:
        first = max(newer, key=lambda one: one.reason)
        others = len({one.file for one in newer}) - 1
        more = f" (as {plural(others, 'other file')})" if others else ""
        running = f"{sys.version_info.major}.{sys.version_info.minor}"
        reason = f"{first.reason}{more}, and this is {running}: run Nuvom with that version"
        yield first._replace(reason=reason)


def _refused(given: str, name: object, options: dict[str, Any]) -> str:
    """Return what ``@task`` will say of literal options, or ``""``."""
    if given:
        return f"{given} is no function; a name goes into name=..."
    known = {name: value for name, value in options.items() if name not in _NOT_CHECKED}
    try:
        if name is not None:
            check_task_name(name)
        checked = task_options(known)
        if checked.schedule is not None:
            from nuvom.scheduler.trigger import rule_of_task  # noqa: PLC0415  # few tasks have one

            rule_of_task(checked.schedule, checked.timezone_name)
    except (InvalidTaskOption, InvalidSchedule) as error:
        return error.what
    return ""


def _by_name(
    entries: list[TaskEntry], problems: list[Problem], roots: Sequence[str]
) -> tuple[tuple[TaskEntry, ...], tuple[Duplicate, ...]]:
    """Return one entry for each name, sorted by name, and the names that are not unique.

    The first claim on a name wins. Importable tasks come first, then those of the root, as on a
    worker's import path, then the order of file and line.
    """

    def rank(entry: TaskEntry) -> tuple[str, bool, bool, str, int]:
        is_below = entry.file.startswith(tuple(filter(None, roots)))
        return entry.name, not entry.importable, is_below, entry.file, entry.line

    tasks, duplicates = [], []
    for name, claims in groupby(sorted(entries, key=rank), key=attrgetter("name")):
        first, *others = claims
        tasks.append(first)
        if others:
            duplicates.append(Duplicate(name, tuple(one.place for one in (first, *others))))
        reason = f'the task name "{name}" is taken: defined in {first.place} and again here'
        problems += [Problem(one.file, one.line, reason) for one in others]
    taken = {task.name: task for task in tasks}
    for task in tasks:
        for alias in task.aliases:
            owner = taken.setdefault(alias, task)
            if owner is not task:
                duplicates.append(Duplicate(alias, (owner.place, task.place)))
                reason = f'the alias "{alias}" of {task.name} is taken: defined in {owner.place}'
                problems.append(Problem(task.file, task.line, reason))
    return tuple(tasks), tuple(duplicates)


def hiding_problems(root: Path, source_roots: Sequence[str] = ()) -> Iterator[Problem]:
    """Yield a warning for each module or package that shares a name with the standard library.

    A worker's import path begins with the project. Everything that the worker and its child
    processes load later therefore imports such a file instead of the standard module.
    """
    for folder in import_roots(root, source_roots):
        for path in sorted((*folder.glob("*.py"), *folder.glob("*/__init__.py"))):
            module = path.parent.name if path.name == _PACKAGE else path.stem
            if module in sys.stdlib_module_names:
                reason = (
                    f"it hides the module {module} of the standard library from workers and "
                    "their child processes, or is hidden by it: rename it"
                )
                yield Problem(path.relative_to(root).as_posix(), 0, reason, "warning")
