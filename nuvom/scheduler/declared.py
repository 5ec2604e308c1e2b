"""Declared schedules: those of ``@task(schedule=...)`` and of the setting ``schedules``.

A scheduler makes them in the store when it starts: it adds, changes and, what is no longer
declared, disables. It knows the code from the manifest and imports none of it. The rules:

- Only schedules of this project are touched: a program's and another project's stay as they are.
- A pause is kept. A declaration that cannot be read is reported, and its schedule stays as it is.
- While workers run the version of the code that declared a schedule last, nobody disables it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import asdict, replace

from nuvom.config.sources import project_name
from nuvom.core.options import NO_CALL_OPTIONS
from nuvom.discovery.manifest import by_any_name, read_manifest, release_of
from nuvom.discovery.stub import definition_of, unknown_options, unread_schedule
from nuvom.errors import InvalidManifest, NuvomError, TaskNotFound, TaskNotImportable
from nuvom.events import SchedulesReconciled
from nuvom.inspection.inspector import Inspector
from nuvom.scheduler import planner
from nuvom.scheduler.schedule import store_of, wanted_record
from nuvom.scheduler.store import all_records
from nuvom.scheduler.trigger import declared_rule, rule_of_task

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from nuvom.discovery.entries import TaskEntry
    from nuvom.registry.registry import TaskDefinition
    from nuvom.runtime import Runtime
    from nuvom.scheduler.record import ScheduleChange, ScheduleRecord, ScheduleRule

What: TypeAlias = Literal["added", "changed", "enabled", "disabled", "same"]

_OF_CALL = ("task", "args", "kwargs")
NO_MANIFEST = "There is no manifest, so declared schedules stay as they are. Run: nuvom discover"


# ---- what is declared ----------------------------------------------------------------------


class Declared(NamedTuple):
    """The schedules that a project declares.

    Attributes:
        wanted: By name, without what a store knows of them.
        unread: Names of schedules that may be declared, in a way that cannot be followed.
        problems: A sentence for each declaration that cannot be followed.
        notes: A sentence for each that is followed, but perhaps not as intended.
        project, release: Its name, and the version of its code.
    """

    wanted: Mapping[str, ScheduleRecord]
    unread: frozenset[str]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    project: str
    release: str


def declared_by(runtime: Runtime, tasks: Sequence[TaskEntry]) -> Declared:
    """Return what a project declares, given its tasks; the settings count more than the code."""
    return _Reading(runtime, tasks).read()


class _Reading:
    """One pass over all declarations of a project."""

    def __init__(self, runtime: Runtime, tasks: Sequence[TaskEntry]) -> None:
        self._runtime = runtime
        self._tasks = tasks
        self._by_name = by_any_name(tasks)
        self._wanted: dict[str, ScheduleRecord] = {}
        self._unread: set[str] = set()
        self._problems: list[str] = []
        self._notes: list[str] = []

    def read(self) -> Declared:
        settings = self._runtime.settings
        project, release = project_name(settings), release_of(settings)
        for name, entry in settings.schedules.items():
            self._add(name, "settings", f"setting schedules.{name}", entry)
        for task in self._tasks:
            if task.name in settings.schedules:
                continue
            if task.has_schedule:
                self._add(task.name, "code", task.place, {"task": task.name, "of": task})
            elif "**" in task.dynamic_options:
                self._unread.add(task.name)
        wanted = {
            name: replace(one, project=project, release=release)
            for name, one in sorted(self._wanted.items())
        }
        said = tuple(self._problems), tuple(self._notes)
        return Declared(wanted, frozenset(self._unread), *said, project, release)

    def _add(self, name: str, origin: str, place: str, entry: Mapping[str, Any]) -> None:
        try:
            rule, definition = self._rule(entry), self._definition(entry["task"])
            args, kwargs = tuple(entry.get("args", ())), entry.get("kwargs", {})
            job = self._runtime.dispatcher.make_record(definition, args, kwargs)
            one = wanted_record(job, NO_CALL_OPTIONS, rule, name)
        except (NuvomError, SyntaxError) as error:  # the latter: a signature nobody can read
            reason = error.what if isinstance(error, NuvomError) else "its signature is unknown"
            self._problems.append(f'The schedule "{name}" cannot be followed ({place}): {reason}')
            self._unread.add(name)
        else:
            self._wanted[name] = replace(one, origin=origin)

    def _rule(self, entry: Mapping[str, Any]) -> ScheduleRule:
        task: TaskEntry | None = entry.get("of")
        if task is None:
            given = {name: value for name, value in entry.items() if name not in _OF_CALL}
            return declared_rule(given)
        unread = unread_schedule(task)
        if unread:
            advice = "use literals, or the setting schedules"
            raise NuvomError(f"its {unread} can only be known by importing the module: {advice}.")
        return rule_of_task(task.options["schedule"], task.options.get("timezone_name"))

    def _definition(self, name: str) -> TaskDefinition:
        """Return a task as the manifest describes it, or one from outside of the project.

        Raises: TaskNotFound, TaskNotImportable, InvalidTaskOption.
        """
        entry = self._by_name.get(name)
        if entry is None:
            known = self._runtime.registry
            found = known.get(name)
            if found is None:
                raise TaskNotFound(name, sorted({*self._by_name, *known.names()}))
            return found
        if not entry.importable:
            move = f"Move it to the top level of its module ({entry.place})."
            raise TaskNotImportable(name, "importing its module does not define it", move)
        # Of an unpacked mapping nothing is known, and each task of Django's may have one.
        named = [one for one in unknown_options(entry) if one in entry.dynamic_options]
        if named:
            reason = "which schedulers do not run: the default is used."
            self._notes.append(f"{name} computes {', '.join(named)} in code, {reason}")
        return definition_of(entry)


# ---- the difference ------------------------------------------------------------------------


class Field(NamedTuple):
    """A part of a schedule that changes; arguments are named, and not shown."""

    name: str
    before: Any
    after: Any


class Step(NamedTuple):
    """What is to become of one schedule.

    Attributes:
        what: ``same``: at most the version of the code that declares it is new.
        before: As it is stored, or None.
        after: As it is wanted; None if it is not declared any more.
        fields: In what the two differ, except for a schedule that is added or disabled.
        waits_for: A version of the code that declares it, and that workers still run: it is
            disabled once they have ended.
    """

    name: str
    what: What
    before: ScheduleRecord | None
    after: ScheduleRecord | None
    fields: tuple[Field, ...] = ()
    waits_for: str = ""

    @property
    def is_due(self) -> bool:
        """Whether there is something to write now."""
        if self.waits_for:
            return False
        if self.before is None or self.after is None:
            return True
        return planner.differs(self.before, self.after)

    def change(self, project: str, now: float) -> ScheduleChange:
        """Return what to write."""
        if self.before is None:
            assert self.after is not None  # noqa: S101  # nothing becomes nothing
            return planner.created(self.after, now)
        if self.after is None:
            return planner.disabled(self.before, f"{project} no longer declares it", now)
        return planner.adjusted(self.before, self.after, now)


class Difference(NamedTuple):
    """The steps from what is stored to what is declared, by name.

    Attributes:
        problems, notes: As of what is declared, and conflicts with what is stored.
        awaited: Versions of the code that workers still run, and that declared schedules before.
    """

    steps: tuple[Step, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    awaited: frozenset[str] = frozenset()

    def of(self, what: What) -> tuple[Step, ...]:
        """Return the steps of one kind."""
        return tuple(step for step in self.steps if step.what == what)

    @property
    def is_empty(self) -> bool:
        """Whether people would see no change."""
        return all(step.what == "same" for step in self.steps)


def difference(
    declared: Declared, stored: Iterable[ScheduleRecord], running: Collection[str]
) -> Difference:
    """Return what a scheduler has to do; pure.

    Args:
        stored: All schedules, or at least those that were declared or have a name that is.
        running: Versions of the code that workers run now.
    """
    listed = {one.name: one for one in stored}
    before = [one for one in listed.values() if _is_own(one, declared)]
    problems = list(declared.problems)
    steps = []
    for name, wanted in declared.wanted.items():
        seen = listed.get(name)
        conflict = None if seen is None else _conflict(seen, wanted)
        if conflict is None:
            steps.append(_step(seen, wanted))
        else:
            problems.append(f'The schedule "{name}" is declared, but {conflict}; rename one.')
    others = frozenset(running) - {declared.release, ""}
    for seen in before:
        is_left = seen.name in declared.wanted or seen.name in declared.unread
        if not is_left and seen.disabled is None:
            waits_for = seen.release if seen.release in others else ""
            steps.append(Step(seen.name, "disabled", seen, None, waits_for=waits_for))
    awaited = others & {one.release for one in before}
    return Difference(tuple(sorted(steps, key=_name_of)), tuple(problems), declared.notes, awaited)


def _name_of(step: Step) -> str:
    return step.name


def _is_own(seen: ScheduleRecord, declared: Declared) -> bool:
    return seen.is_declared and seen.project == declared.project


def _conflict(seen: ScheduleRecord, wanted: ScheduleRecord) -> str | None:
    """Return why a stored schedule is not the declared one, or None.

    A project that was renamed declares the same tasks as before, unlike another one.
    """
    if not seen.is_declared:
        return "a program has made one with this name"
    if seen.project != wanted.project and seen.task != wanted.task:
        return f"the project {seen.project} also declares one with this name"
    return None


def _step(seen: ScheduleRecord | None, wanted: ScheduleRecord) -> Step:
    if seen is None:
        return Step(wanted.name, "added", None, wanted)
    if planner.is_away(seen):  # it fires from another store
        return Step(wanted.name, "same", seen, wanted)
    fields = tuple(_changed(seen, wanted))
    what: What = "changed" if fields else "same"
    return Step(wanted.name, "enabled" if seen.disabled else what, seen, wanted, fields)


def _changed(seen: ScheduleRecord, wanted: ScheduleRecord) -> Iterator[Field]:
    before, after = _parts(seen), _parts(wanted)
    for name, value in after.items():
        if before[name] != value:
            is_shown = not isinstance(value, bytes)
            old, new = (before[name], value) if is_shown else (None, None)
            yield Field(name, msgspec.to_builtins(old), msgspec.to_builtins(new))


def _parts(one: ScheduleRecord) -> dict[str, Any]:
    """Return what a project decides about a schedule, in the words of its interface."""
    job = asdict(one.job)
    call = {"task": job.pop("func_name"), **{key: bytes(job.pop(key)) for key in _OF_CALL[1:]}}
    about = {"expires": one.expires_secs, "origin": one.origin, "project": one.project}
    return {**call, **asdict(one.rule), **about, **job}


# ---- the store -----------------------------------------------------------------------------


def reconcile(runtime: Runtime) -> Difference:
    """Make the store's schedules those that the project declares; any number may do so at once.

    Returns: what this call has written, what it had to leave, and whom it waits for.
    Raises: CapabilityMissing: the store keeps no schedules; what the store raises.
    """
    try:
        tasks = read_manifest(runtime.settings.manifest_file)
        problems = (NO_MANIFEST,) if tasks is None and runtime.settings.schedules else ()
    except InvalidManifest as error:
        tasks, problems = None, (f"{error.what} Declared schedules stay as they are.",)
    done = Difference(problems=problems)
    if tasks is not None:
        done = _written(runtime, declared_by(runtime, tasks))
    _tell(runtime, done)
    return done


def difference_in(runtime: Runtime, declared: Declared) -> Difference:
    """Return the difference between what is declared and what is stored now."""
    stored = (
        one
        for one in all_records(store_of(runtime))
        if one.is_declared or one.name in declared.wanted
    )
    return difference(declared, stored, running_releases(runtime))


def running_releases(runtime: Runtime) -> frozenset[str]:
    """Return the versions of the code that workers and schedulers run."""
    return frozenset(one.release for one in Inspector(runtime).processes())


def _written(runtime: Runtime, declared: Declared) -> Difference:
    """Write the difference, anew where somebody else was faster."""
    store, done = store_of(runtime), list[Step]()
    while True:
        found = difference_in(runtime, declared)
        due, now = [step for step in found.steps if step.is_due], store.clock.now()
        written = store.apply([step.change(declared.project, now) for step in due])
        done += [step for step, is_written in zip(due, written, strict=True) if is_written]
        if all(written):
            return found._replace(steps=tuple(sorted(done, key=_name_of)))


def _tell(runtime: Runtime, done: Difference) -> None:
    if SchedulesReconciled not in runtime.bus.active:
        return
    names = {what: tuple(step.name for step in done.of(what)) for what in _TOLD}
    said = (*done.problems, *done.notes)
    if said or any(names.values()):
        runtime.bus.emit(SchedulesReconciled(**names, problems=said))


_TOLD: tuple[What, ...] = ("added", "changed", "enabled", "disabled")
