"""``NuvomBackend``: Django's task backend that stores tasks as jobs of Nuvom.

A task is registered when Django validates it, which is when its module is imported. So a job's
task is looked up among those that this process has imported; no stored name is ever imported.
"""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from asgiref.sync import sync_to_async
from django.core import checks
from django.db import connections, transaction
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import Task, TaskResult, TaskResultStatus
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.utils import timezone
from django.utils.json import normalize_json

from nuvom.config.project import CONFIG_FILE, PYPROJECT
from nuvom.contrib.django.calls import TaskCall, alias_of, call_of
from nuvom.contrib.django.project import HOOKS, import_tasks, same_database, set_up
from nuvom.contrib.django.results import METADATA, moment, task_of, task_result
from nuvom.core.guard import engine_call
from nuvom.core.options import call_options, known_options, task_options
from nuvom.errors import InvalidTaskOption, JobNotFound, NuvomError
from nuvom.inspection.inspector import Inspector
from nuvom.job import submit, submit_on_commit
from nuvom.registry.registry import TaskDefinition, default_registry
from nuvom.runtime import current_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nuvom.core.options import CallOptions
    from nuvom.core.record import JobRecord

    Given = tuple[list[Any], dict[str, Any]]

_ALIASES = {"timeout": "timeout_secs"}
_IN_TRANSACTION = (
    "A task was enqueued inside a transaction of the database {alias!r}, but its job is stored at "
    "once: a worker may run it before the commit, and it stays after a rollback. Set "
    'OPTIONS = {{"enqueue_on_commit": True}} for the task backend {backend!r}.'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NuvomTask(Task):
    """A task with options of Nuvom; since Django 6.1 ``@task(retries=3)`` sets them.

    Attributes:
        retries: Additional attempts after the first.
        max_attempts: The same, with the first one counted.
        timeout: Seconds that an attempt may take.
        backoff: ``constant``, ``linear`` or ``exponential``.
        isolation: ``thread`` or ``process``.
    """

    retries: int | None = None
    max_attempts: int | None = None
    timeout: float | None = None
    backoff: str | None = None
    isolation: str | None = None


_OWN = tuple(field.name for field in fields(NuvomTask) if field.name not in Task.__slots__)


class NuvomBackend(BaseTaskBackend):
    """Stores tasks as jobs, which Nuvom's workers run.

    ``OPTIONS``:
        task_options: Options of ``@nuvom.task`` by pattern of a task's path:
            ``{"shop.tasks.*": {"retries": 3}}``. They also have the names of ``NuvomTask``.
        task_modules: Modules that workers import from each app; the default is ``["tasks"]``.
        enqueue_on_commit: Store a job only when the transaction around the call commits.
        database: Alias of the database whose transactions count; the default is ``"default"``.
    """

    task_class = NuvomTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True
    option_names: ClassVar = {"task_options", "task_modules", "enqueue_on_commit", "database"}

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self.database = self.options.get("database", "default")
        self._has_imported_tasks = False
        set_up()

    # ---- tasks --------------------------------------------------------------------------

    def validate_task(self, task: Any) -> None:
        """Check a task as Django does, then its options for Nuvom, and register it.

        Raises: InvalidTask.
        """
        super().validate_task(task)
        try:
            given = self._given(task)
            task_options({**given, "queue": task.queue_name})
        except NuvomError as error:
            raise InvalidTask(str(error)) from error
        self._register(task, given)

    def _given(self, task: Any) -> dict[str, Any]:
        """Return the options of a task: of the first pattern that fits, and its own."""
        own = {name: getattr(task, name, None) for name in _OWN}
        path, patterns = task.module_path, self.options.get("task_options", {})
        found: Mapping[str, Any] = next(
            (some for one, some in patterns.items() if fnmatchcase(path, one)), {}
        )
        return {**_named_as_in_nuvom(found), **_named_as_in_nuvom(known(own))}

    @staticmethod
    def _register(task: Any, given: dict[str, Any]) -> None:
        registry, path = default_registry(), task.module_path
        before = registry.get(path)
        call = call_of(before)
        is_same = call is not None and call.is_same(task)
        if call is not None and is_same:
            task = call.task  # as it was decorated, not a copy made by using()
        given = {**given, "queue": task.queue_name, "priority": -int(task.priority)}
        options = task_options(given)
        if before is None or not is_same or before.options != options:
            definition = TaskDefinition(path, TaskCall(task), options, given=known_options(given))
            registry.register(definition, force=call is not None)

    def import_tasks(self) -> None:
        """Import the modules with tasks of all apps, once, which registers their tasks."""
        if not self._has_imported_tasks:
            self._has_imported_tasks = True
            import_tasks(self.options.get("task_modules", ["tasks"]))

    # ---- enqueue ------------------------------------------------------------------------

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Store a job that calls a task.

        Returns: its ``TaskResult``, with the status READY.
        Raises: InvalidTask; TypeError: the arguments are no JSON, or do not fit the function;
            QueueError: the store refuses the job. Nothing is stored then.
        """
        definition, given = self._checked(task, args, kwargs)
        sent: list[Any] = []

        def send(record: JobRecord) -> None:
            sent.append(self._new_result(task, record, given))
            task_enqueued.send(type(self), task_result=sent[-1])

        record = self._store(definition, given, self._call_options(task), then=send)
        return sent[-1] if sent else self._new_result(task, record, given)

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Do as ``enqueue`` without blocking the event loop, or Django's thread with the commit.

        Transactions belong to the thread that Django has for synchronous code, as do synchronous
        receivers of signals. A job that is enqueued inside a transaction is stored in that thread,
        by ``enqueue``; a subclass that overrides ``enqueue`` should override this as well.
        If it is cancelled, the job is stored or not.
        """

        def store() -> Any:
            definition, given = self._checked(task, args, kwargs)
            job = submit(definition, tuple(given[0]), given[1], self._call_options(task))
            return self._new_result(task, job.record, given)

        if await sync_to_async(lambda: connections[self.database].in_atomic_block)():
            return await super().aenqueue(task, args, kwargs)
        result = await asyncio.to_thread(store)
        await task_enqueued.asend(type(self), task_result=result)
        return result

    def _checked(self, task: Any, args: Any, kwargs: Any) -> tuple[TaskDefinition, Given]:
        """Return the definition of a valid task, and its arguments as JSON has them.

        Raises: InvalidTask; TypeError: the arguments are no JSON.
        """
        self.validate_task(task)
        definition = default_registry().get(task.module_path)
        assert definition is not None  # noqa: S101  # it was just registered
        return definition, (normalize_json(list(args)), normalize_json(dict(kwargs)))

    def _call_options(self, task: Any) -> CallOptions:
        run_after = task.run_after
        if run_after is not None and timezone.is_naive(run_after):  # without USE_TZ
            run_after = timezone.make_aware(run_after, timezone.get_default_timezone())
        noted = {"backend": self.alias}
        if run_after is not None:
            noted["run_after"] = run_after.timestamp()
        options = {
            "queue": task.queue_name,
            "priority": -int(task.priority),
            "run_at": run_after,
            "metadata": {METADATA: noted},
        }
        return call_options({}, options)

    def _store(
        self,
        definition: TaskDefinition,
        given: Given,
        options: CallOptions,
        *,
        then: Callable[[JobRecord], None],
    ) -> JobRecord:
        """Store a job now, or when the transaction commits; ``then`` is called after that."""
        args, kwargs = tuple(given[0]), given[1]
        connection = connections[self.database]
        if not connection.in_atomic_block:
            record = submit(definition, args, kwargs, options).record
            then(record)
            return record
        on_commit = partial(transaction.on_commit, using=self.database)
        if self.options.get("enqueue_on_commit"):
            job = submit_on_commit(definition, args, kwargs, options, on_commit=on_commit)
            on_commit(lambda: then(job.record))
            return job.record
        if same_database(connection, current_runtime().settings):
            options = call_options(options, {"connection": connection})
        elif not all(getattr(one, "_from_testcase", False) for one in connection.atomic_blocks):
            text = _IN_TRANSACTION.format(alias=self.database, backend=self.alias)
            warnings.warn(text, RuntimeWarning, stacklevel=4)  # where .enqueue() is called
        record = submit(definition, args, kwargs, options).record
        then(record)
        return record

    def _new_result(self, task: Any, record: JobRecord, given: Given) -> Any:
        return TaskResult(
            task=task_of(task, record, self.alias),
            id=record.id,
            status=TaskResultStatus.READY,
            enqueued_at=moment(record.created_at),
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=given[0],
            kwargs=given[1],
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )

    # ---- results ------------------------------------------------------------------------

    @engine_call
    def get_result(self, result_id: str) -> Any:
        """Return the ``TaskResult`` of a job, whichever process enqueued or ran it.

        Raises: TaskResultDoesNotExist: this backend has no such job, or no app has its task.
        """
        runtime = current_runtime()
        inspector = Inspector(runtime)
        try:
            snapshot = inspector.snapshot(str(result_id))
        except JobNotFound as error:
            raise TaskResultDoesNotExist(result_id) from error
        record = snapshot.record
        if record.func_name not in runtime.registry:
            self.import_tasks()
        call = call_of(runtime.registry.get(record.func_name))
        if call is None or alias_of(record, call) != self.alias:
            raise TaskResultDoesNotExist(result_id)
        args, kwargs = runtime.codec.decode_call(record.args, record.kwargs)
        return task_result(
            call.task,
            snapshot,
            inspector.attempts(record.id),
            alias=self.alias,
            args=args,
            kwargs=kwargs,
            value=inspector.result(snapshot),
        )

    async def aget_result(self, result_id: str) -> Any:
        """Do as ``get_result`` without blocking the event loop or Django's thread."""
        return await asyncio.to_thread(self.get_result, result_id)

    # ---- check --------------------------------------------------------------------------

    def check(self, **kwargs: Any) -> list[Any]:
        """Check settings and options without opening the store."""
        del kwargs
        place = f"TASKS[{self.alias!r}]"
        return [
            (checks.Warning if code.startswith("W") else checks.Error)(
                text, hint=hint, obj=place, id=f"nuvom.{code}"
            )
            for code, text, hint in self._faults()
        ]

    def _faults(self) -> Iterator[tuple[str, str, str]]:
        unknown = sorted(set(self.options) - self.option_names)
        if unknown:
            text = f"OPTIONS has unknown names: {', '.join(unknown)}."
            yield "E001", text, f"Known are: {', '.join(sorted(self.option_names))}."
        for queue in sorted(self.queues):
            try:
                task_options({"queue": queue})
            except NuvomError as error:
                yield "E002", error.what, error.fix
        if self.database not in connections:
            text = f"OPTIONS names a database that does not exist: {self.database!r}."
            yield "E003", text, "Use an alias of DATABASES."
        try:
            origins = current_runtime().loaded.origins["hooks"]  # opens nothing
        except NuvomError as error:
            yield "E004", error.what, error.fix
            return
        for origin in origins:
            if origin.source in (CONFIG_FILE, PYPROJECT) and origin.raw != HOOKS:
                text = f"The hooks in {origin.source} are not used in a Django project."
                yield "W001", text, f'Move them to settings.py: NUVOM = {{"hooks": {origin.raw!r}}}'


def _named_as_in_nuvom(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under the names that ``@nuvom.task`` has for them.

    Raises: InvalidTaskOption: ``max_attempts`` is no count, or ``retries`` is given as well.
    """
    renamed = {_ALIASES.get(name, name): value for name, value in given.items()}
    most = renamed.pop("max_attempts", None)
    if most is None:
        return renamed
    if isinstance(most, bool) or not isinstance(most, int) or most < 1 or "retries" in renamed:
        wanted = "a whole number, 1 or more, and no retries beside it"
        raise InvalidTaskOption("max_attempts", most, wanted)
    return {**renamed, "retries": most - 1}


def known(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given, without the options that are left to their defaults."""
    return {name: value for name, value in given.items() if value is not None}
