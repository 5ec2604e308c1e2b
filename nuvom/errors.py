"""Every error that Nuvom raises: one tree under ``NuvomError``.

An error carries its fields, says what happened and why (``message``) and what to do
(``remedy``). Both are class attributes and not docstrings, since ``python -OO`` removes
those. This module knows nothing of the rest of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def suggest(name: str, known: Iterable[str]) -> list[str]:
    """Return at most three names of ``known`` that look like ``name``, best first.

    Names are compared whole and by their last dotted part, without regard to case.
    Similarity is ``difflib``'s ratio, at least 0.6.
    """
    from difflib import get_close_matches  # noqa: PLC0415  # only a failing path needs it

    candidates: dict[str, str] = {}
    for candidate in known:
        candidates.setdefault(candidate.lower(), candidate)
        candidates.setdefault(candidate.rpartition(".")[2].lower(), candidate)
    close = get_close_matches(name.lower(), candidates, n=6, cutoff=0.6)
    found = dict.fromkeys(candidates[match] for match in close)
    return list(found)[:3]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``' Did you mean "add"?'`` with up to three suggestions, or ``''``."""
    names = suggest(name, known)
    if not names:
        return ""
    quoted = [f'"{candidate}"' for candidate in names]
    listed = quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
    return f" Did you mean {listed}?"


def plural(count: int, noun: str) -> str:
    """Return ``1 job``, ``2 jobs``, ``12,000 jobs``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _restore(cls: type[NuvomError], args: tuple[Any, ...], state: dict[str, Any]) -> NuvomError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class NuvomError(Exception):
    """Root of all errors of Nuvom.

    Attributes:
        message: Template of the sentence that says what happened and why.
        remedy: Template of the sentence that says what to do.
        usual_remedy: What mostly helps, where the remedy is a different one in each case.
        fields: The values that fill both, by name.
    """

    message: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "Read the reason above; `nuvom doctor` checks the whole setup."
    usual_remedy: ClassVar[str] = ""

    def __init__(self, reason: str = "", **fields: Any) -> None:
        self.fields: dict[str, Any] = {"reason": reason, **fields}
        super().__init__(self.message.format(**self.fields))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def what(self) -> str:
        """The message alone, without the remedy."""
        return str(self.args[0]) if self.args else ""

    @property
    def fix(self) -> str:
        """The remedy with its fields filled in."""
        return self.remedy.format(**self.fields)

    def __str__(self) -> str:
        return f"{self.what}\nFix: {self.fix}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__.copy())


class Refused(NuvomError):
    """Something that destroys data or weakens security has to be allowed explicitly."""

    message = "{reason}; nothing was changed."
    remedy = "{repair}"
    usual_remedy = "Allow it with --yes, as the message says; --dry-run shows what would happen."

    def __init__(self, reason: str, repair: str) -> None:
        super().__init__(reason, repair=repair)


# ---- configuration --------------------------------------------------------------------


class ConfigError(NuvomError):
    """The settings cannot be used."""

    remedy = "Run `nuvom config check` to see each setting and where it comes from."


class UnknownSetting(ConfigError):
    """No setting has this name."""

    message = 'There is no setting named "{name}" ({origin}).{hint}'
    remedy = "Correct or remove it; `nuvom config` lists all settings."

    def __init__(self, name: str, known: Iterable[str], *, origin: str = "configure()") -> None:
        super().__init__(name=name, origin=origin, hint=did_you_mean(name, known))


class InvalidSetting(ConfigError):
    """A setting's value has the wrong type or is out of range."""

    message = "The setting {name}{part} cannot be {value!r} ({origin}): expected {expected}.{hint}"
    remedy = "Change the value where it is set; `nuvom config explain {name}` shows all origins."

    def __init__(
        self,
        name: str,
        value: object,
        expected: str,
        *,
        origin: str,
        part: str = "",
        hint: str = "",
    ) -> None:
        """Args: part: Of a table, such as ``.nightly.cron``."""
        place = {"origin": origin, "part": part, "hint": hint}
        super().__init__(name=name, value=value, expected=expected, **place)


class HooksFailed(ConfigError):
    """The project's module of hooks could not be imported, or a start hook raised."""

    message = "The worker did not start: {hook}: {reason}."
    remedy = "Correct the hook, or the setting `hooks`, which names the module."

    def __init__(self, hook: str, reason: str) -> None:
        super().__init__(hook=hook, reason=reason.rstrip("."))


class InvalidConfigFile(ConfigError):
    """A configuration file cannot be read or parsed."""

    message = "The configuration file {path} cannot be used: {reason}."
    remedy = "Correct the file, or move it away to use the defaults."

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(reason, path=path)


class InvalidAddress(ConfigError):
    """A text is not the address of a store."""

    message = "{url} is not the address of a store."
    remedy = "Write sqlite:///PATH, file:///FOLDER, postgresql://... or redis://..."

    def __init__(self, url: str) -> None:
        super().__init__(url=url)


class CannotListen(ConfigError):
    """A server cannot listen at an address: mostly because another program does."""

    message = "Nothing can be served at {address}: {reason}."
    remedy = "Choose another port: --port 8322. Or stop the program that uses this one."

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(reason.rstrip("."), address=address)


class ProjectNotFound(ConfigError):
    """There is no Nuvom project in the working directory or above it."""

    message = "There is no Nuvom project here or above. Looked in: {tried}."
    remedy = (
        "Run `nuvom init` to make one here, or go to your project's folder, or say where it is: "
        "--project DIR, NUVOM_ROOT, or nuvom.configure(root=...)."
    )

    def __init__(self, tried: Iterable[object]) -> None:
        super().__init__(tried=", ".join(str(path) for path in tried))


class InvalidManifest(ConfigError):
    """The manifest is damaged or of a version that this Nuvom does not know."""

    message = "The manifest {path} cannot be used: {reason}."
    remedy = "Run `nuvom discover tasks` to write it again."

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(reason, path=path)


# ---- tasks ----------------------------------------------------------------------------


class TaskError(NuvomError):
    """Something is wrong with a task or with a call of it."""


class TaskNotFound(TaskError):
    """No task has this name."""

    message = 'No task is named "{name}".{hint}'
    remedy = "Run `nuvom discover tasks`, or import the module that defines it."

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(name=name, hint=did_you_mean(name, known))


class TaskHidden(TaskNotFound):
    """No task has this name, although there is a file where it would be."""

    message = 'No task is named "{name}". Looked into {file}: {reason}.{hint}'
    remedy = "Correct that file, or what hides it; then run `nuvom discover tasks`."

    def __init__(self, name: str, file: str, reason: str, known: Iterable[str] = ()) -> None:
        NuvomError.__init__(self, reason, name=name, file=file, hint=did_you_mean(name, known))


class AmbiguousTask(TaskError):
    """The last part of a name fits several tasks."""

    message = 'Several tasks are named "{name}": {candidates}.'
    remedy = "Use the full name."

    def __init__(self, name: str, candidates: Iterable[str]) -> None:
        super().__init__(name=name, candidates=", ".join(sorted(candidates)))


class DuplicateTask(TaskError, ValueError):
    """Two functions claim the same task name."""

    message = 'The task name "{name}" is taken: defined in {first} and again in {second}.'
    remedy = "Give one of them another name with @task(name=...), or register with force=True."

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(name=name, first=first, second=second)


class InvalidTaskOption(TaskError, TypeError):
    """An option of ``@task`` or ``.options()`` cannot be used."""

    message = "The task option {option}={value!r} cannot be used: expected {expected}.{hint}"
    remedy = "Correct the option where the task is defined or called."

    def __init__(self, option: str, value: object, expected: str, *, hint: str = "") -> None:
        super().__init__(option=option, value=value, expected=expected, hint=hint)


class InvalidArguments(TaskError, TypeError):
    """The arguments of a call do not fit the task's signature."""

    message = "{task}: {reason}."
    remedy = "The task's signature is {task}{signature}; nothing was enqueued."

    def __init__(self, task: str, reason: str, *, signature: str = "(...)") -> None:
        super().__init__(reason, task=task, signature=signature)


class TaskNotImportable(TaskError):
    """A worker in another process could not find this task."""

    message = 'No worker could import the task "{name}": {reason}.'
    remedy = "{move}"
    usual_remedy = "Move the task to the top level of a module that a worker can import."

    def __init__(self, name: str, reason: str, move: str) -> None:
        super().__init__(reason, name=name, move=move)


class TaskImportFailed(TaskError):
    """The module that should define a task could not be imported, or does not define it.

    Attributes:
        is_over: Where the import is only taking long: whether it has ended by now. Else None.
    """

    message = 'The task "{name}" could not be loaded from {module}: {reason}.'
    remedy = "Correct the module, then run `nuvom discover tasks`; its jobs wait as PARKED."

    def __init__(
        self, name: str, module: str, reason: str, *, is_over: Callable[[], bool] | None = None
    ) -> None:
        super().__init__(reason, name=name, module=module)
        self.is_over = is_over


class WorkerChildDied(TaskError):
    """The child process that ran the attempt died."""

    message = "The child process that ran the job ended: {reason}."
    remedy = "Look for what ends a whole process: a crash in C code, os._exit(), lack of memory."


class NoCurrentJob(TaskError):
    """``current_job()`` was called outside a running job."""

    message = "current_job() was called outside a running job."
    remedy = "Call it inside a task or one of its hooks, and in the thread that runs it."

    def __init__(self) -> None:
        super().__init__()


class NoTransaction(TaskError):
    """``.delay_on_commit()`` was called where Nuvom does not know of the program's transactions."""

    message = "Nuvom does not know of the transactions of this program."
    remedy = (
        'With Django, add "nuvom.contrib.django" to INSTALLED_APPS; elsewhere call .delay() after '
        "the commit, or .options(connection=...).delay()."
    )

    def __init__(self) -> None:
        super().__init__()


class EnqueueInTest(TaskError):
    """A test run by pytest uses tasks, workers or jobs without a store of its own."""

    message = (
        "A test would use the store of the project {root}, where a job that it enqueues would be "
        "run by the next worker; the store was not opened."
    )
    remedy = (
        "Give the test the fixture nuvom, nuvom_inline or nuvom_worker, or the marker "
        "@pytest.mark.nuvom; a test run with a store of its own sets NUVOM_ENVIRONMENT=test."
    )

    def __init__(self, root: object) -> None:
        super().__init__(root=root)


# ---- queues ---------------------------------------------------------------------------


class QueueError(NuvomError):
    """A queue backend cannot do what was asked."""


class BackendUnavailable(QueueError):
    """The store cannot be opened, read or written."""

    message = "The store {where} cannot be used: {reason}."
    remedy = "{repair}"
    usual_remedy = (
        "Run `nuvom doctor`: it checks the store's address, its folder and the server's settings."
    )

    def __init__(
        self,
        where: object,
        reason: str,
        repair: str = "Run `nuvom doctor`; nothing was changed.",
    ) -> None:
        super().__init__(reason, where=where, repair=repair)


class UnknownBackend(QueueError, ConfigError):
    """No backend of this kind has this name."""

    message = 'There is no {kind} backend named "{name}".{hint}'
    remedy = "Use one of: {known}; or install or register the plugin that offers it."

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(
            kind=kind, name=name, known=", ".join(names), hint=did_you_mean(name, names)
        )


class LeaseLost(QueueError):
    """A job no longer belongs to the worker that runs it; its outcome was dropped."""

    message = "The lease {lease_epoch} on job {job_id} is lost; this outcome was dropped."
    remedy = "It was cancelled, or another worker has it now: make the task idempotent."

    def __init__(self, job_id: str, lease_epoch: int) -> None:
        super().__init__(job_id=job_id, lease_epoch=lease_epoch)


class CapabilityMissing(QueueError):
    """The backend in use does not offer what the call needs."""

    message = "The backend {backend} has no capability {capability}: {reason}."
    remedy = "Use a backend that has it (memory, file and sqlite do), or do without."

    def __init__(self, backend: str, capability: str, reason: str = "it is needed here") -> None:
        super().__init__(reason, backend=backend, capability=capability)


class StorageFull(QueueError):
    """The disk has no room; nothing was stored."""

    message = "There is no space left to write {where}: {reason}. Nothing was stored."
    remedy = "Free some disk space and call again; `nuvom prune` removes old results."

    def __init__(self, where: object, reason: str) -> None:
        super().__init__(reason, where=where)


class QueueFull(QueueError):
    """The queue holds as many waiting jobs as ``max_queue_size`` allows."""

    message = 'The queue "{queue}" is full: {size} of at most {limit} jobs wait.'
    remedy = "Start more workers, call again later, or raise the setting max_queue_size."

    def __init__(self, queue: str, size: int, limit: int) -> None:
        super().__init__(queue=queue, size=size, limit=limit)


class InvalidId(QueueError, ValueError):
    """An id, queue name or key holds characters that are not allowed."""

    message = "{value!r} is not allowed as {kind}: expected {expected}."
    remedy = "Use letters, digits, '_', '-' and '.', starting with a letter or digit."

    def __init__(self, kind: str, value: object, expected: str) -> None:
        super().__init__(kind=kind, value=value, expected=expected)


class QueueNotFound(QueueError):
    """No queue has this name."""

    message = 'No queue is named "{name}".{hint}'
    remedy = "Run `nuvom queues` to see the queues that hold or held jobs."

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(name=name, hint=did_you_mean(name, known))


class WorkerNotFound(QueueError):
    """No live worker has this id."""

    message = "There is no live worker {worker}."
    remedy = "Run `nuvom workers` to see the live ones; a few last characters of the id are enough."

    def __init__(self, worker: str) -> None:
        super().__init__(worker=worker)


# ---- results --------------------------------------------------------------------------


class ResultError(NuvomError):
    """A result cannot be returned."""


class JobNotFound(ResultError, KeyError):
    """No job has this id."""

    message = "There is no job {job_id}."
    remedy = (
        "Check the id (to a command, its last six characters are enough) and the project "
        "(`nuvom history recent`); old jobs are pruned."
    )

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id=job_id)


class AmbiguousJob(ResultError):
    """A shortened id fits several jobs."""

    message = "Several jobs end in {suffix}: {candidates}."
    remedy = "Give more characters of the id."

    def __init__(self, suffix: str, candidates: Iterable[str]) -> None:
        super().__init__(suffix=suffix, candidates=", ".join(candidates))


class FailureNotFound(ResultError):
    """No group of failures has this fingerprint."""

    message = "{fingerprint} does not name one group of failures.{hint}"
    remedy = "Run `nuvom errors` to see the groups; the first characters that differ are enough."

    def __init__(self, fingerprint: str, known: Iterable[str] = ()) -> None:
        super().__init__(fingerprint=fingerprint, hint=did_you_mean(fingerprint, known))


class JobFailed(ResultError):
    """The job ended FAILED or DEAD.

    Attributes:
        type: Name of the exception's class, as stored.
        text: Its message.
        traceback: Its traceback as text, or None.
    """

    message = "Job {job_id} failed: {type}: {text}"
    remedy = "See the traceback with `nuvom inspect job {job_id}`; run it again with job.retry()."

    def __init__(self, job_id: str, type: str, text: str, traceback: str | None = None) -> None:  # noqa: A002
        super().__init__(job_id=job_id, type=type, text=text, traceback=traceback)


class JobCancelled(ResultError):
    """The job was cancelled."""

    message = "Job {job_id} was cancelled."
    remedy = "Run it again with job.retry(), if it should run after all."

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id=job_id)


class JobExpired(JobCancelled):
    """The job was cancelled because it had not started by the time given as `expires`."""

    message = "Job {job_id} {reason}."
    remedy = (
        "Allow more time with .options(expires=...), or start more workers; run it all the same "
        "with job.retry()."
    )

    def __init__(self, job_id: str, reason: str) -> None:
        ResultError.__init__(self, job_id=job_id, reason=reason)


class JobMoved(JobCancelled):
    """The job was moved to another store by `nuvom copy`."""

    message = "Job {job_id} is no longer in this store: it was moved to {home}."
    remedy = "Read it there: point the settings at that store."

    def __init__(self, job_id: str, home: str) -> None:
        ResultError.__init__(self, job_id=job_id, home=home)


class JobTimeout(ResultError, TimeoutError):
    """The job had no final status when the time to wait was over; the job is untouched."""

    message = (
        "Job {job_id} is {status} after waiting {waited_secs:g} s{because}; "
        '{alive} alive on queue "{queue}".'
    )
    remedy = "{advice}"
    usual_remedy = (
        "Wait longer. `nuvom why ID` says why the job does not run; if no worker is alive, start "
        "one: nuvom runworker"
    )

    def __init__(
        self,
        job_id: str,
        waited_secs: float,
        *,
        status: str,
        queue: str,
        workers: int | str,
        reason: str = "",
        fix: str = "",
    ) -> None:
        advice = fix or (
            "Start a worker: nuvom runworker"
            if workers == 0
            else "Wait longer, or see what the workers do with `nuvom workers`."
        )
        super().__init__(
            because=f": {reason}" if reason else "",
            job_id=job_id,
            waited_secs=waited_secs,
            status=status,
            queue=queue,
            workers=workers,
            alive=plural(workers, "worker") if isinstance(workers, int) else f"{workers} workers",
            advice=advice,
        )


class WaitInsideTask(ResultError):
    """A task waits for another job without a limit; its slot could wait for ever."""

    message = "A task waited for job {job_id} without a timeout."
    remedy = "Give get() a timeout, or let the other job enqueue the next step."

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id=job_id)


# ---- serialisation --------------------------------------------------------------------


class SerializationError(NuvomError):
    """A value cannot be turned into bytes, or bytes into a value."""


class NotStorable(SerializationError, TypeError):
    """A value is of a type that is not stored.

    Attributes:
        path: Where the value is, such as ``kwargs['user'].session``.
        type: Name of its type.
    """

    message = "{path}: {type} cannot be stored{because}."
    remedy = (
        "Pass or return plain data (numbers, text, bytes, lists, dicts, dates, UUID, Decimal, "
        "Path), or annotate the parameter or the return with the dataclass, Enum or "
        "msgspec.Struct that it is."
    )

    def __init__(self, path: str, type: str, because: str = "") -> None:  # noqa: A002
        super().__init__(path=path, type=type, because=f" ({because})" if because else "")


class PayloadTooLarge(SerializationError):
    """The arguments of a call take more room than ``max_payload_bytes``."""

    message = "The arguments of {task} take {size} bytes; {limit} are allowed."
    remedy = "Store the data elsewhere and pass its path or key, or raise max_payload_bytes."

    def __init__(self, task: str, size: int, limit: int) -> None:
        super().__init__(task=task, size=size, limit=limit)


class ResultTooLarge(SerializationError):
    """A task's result takes more room than ``max_result_bytes``."""

    message = "The result of {task} takes {size} bytes; {limit} are allowed."
    remedy = "Store the data elsewhere and return its path or key, or raise max_result_bytes."

    def __init__(self, task: str, size: int, limit: int) -> None:
        super().__init__(task=task, size=size, limit=limit)


class PayloadError(SerializationError):
    """Stored bytes are not what Nuvom writes."""

    message = "Stored bytes cannot be decoded: {reason}."
    remedy = "Use the version of the code that stored them, or enqueue the job again."

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class CorruptRecord(SerializationError):
    """A stored job is damaged; its bytes were kept aside."""

    message = "The stored job {job_id} in {where} is damaged: {reason}."
    remedy = "Its bytes are kept in quarantine; enqueue the job again."

    def __init__(self, job_id: str, where: object, reason: str) -> None:
        super().__init__(reason, job_id=job_id, where=where)


class InvalidSearch(NuvomError, ValueError):
    """A search for jobs cannot be understood."""

    message = "The search cannot be read at character {place}: {reason}."
    remedy = "{hint}"
    usual_remedy = "Correct it at that place. A search looks like: status:FAILED task:mail.*"

    def __init__(self, at: int, reason: str, hint: str = "") -> None:
        hint = hint or self.usual_remedy
        super().__init__(reason, at=at, place=at + 1, hint=hint)


# ---- schedules, plugins ---------------------------------------------------------------


class ScheduleError(NuvomError):
    """A schedule cannot be made, found or changed."""


ALL_OPTIONS = "options"
"""What ``InvalidSchedule.option`` is if no single option of a schedule is wrong."""


class InvalidSchedule(ScheduleError, ValueError):
    """An option of a schedule cannot be used."""

    message = "The schedule's {option}={value!r} cannot be used: expected {expected}.{hint}"
    remedy = "Correct it; `nuvom schedule explain` tries a cron expression. Nothing was changed."

    def __init__(self, option: str, value: object, expected: str, *, hint: str = "") -> None:
        super().__init__(option=option, value=value, expected=expected, hint=hint)


class ScheduleNotFound(ScheduleError, KeyError):
    """No schedule has this name."""

    message = 'There is no schedule named "{name}".{hint}'
    remedy = "`nuvom schedule list` shows all schedules of the project's store."

    def __init__(self, name: str, known: Iterable[str] = (), *, hint: str = "") -> None:
        super().__init__(name=name, hint=hint or did_you_mean(name, known))


class PluginError(NuvomError):
    """A plugin cannot be used."""


class PluginNotFound(PluginError):
    """No plugin has this name."""

    message = 'There is no plugin named "{name}".{hint}'
    remedy = (
        "Run `nuvom plugin list`; install the plugin's package or name it in .nuvom_plugins.toml."
    )

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(name=name, hint=did_you_mean(name, known))


class PluginFailed(PluginError):
    """A plugin could not be imported, started or used."""

    message = "The plugin {plugin} ({origin}) failed: {reason}."
    remedy = "Correct or remove the plugin; NUVOM_PLUGINS=off runs without any."

    def __init__(self, plugin: str, origin: str, reason: str) -> None:
        super().__init__(reason, plugin=plugin, origin=origin)


class PluginNotTrusted(PluginError):
    """The plugin file could have been written by somebody else."""

    message = "The plugin file {path} is not trusted: {reason}."
    remedy = "{repair}"
    usual_remedy = "Take it from the other user, as the message says, after you have read it."

    def __init__(self, path: object, reason: str, repair: str) -> None:
        super().__init__(reason, path=path, repair=repair)


class IncompatiblePlugin(PluginError):
    """A plugin was written for another major version of the plugin interface."""

    message = "The plugin {plugin} requires plugin interface {wants}; this Nuvom has {has}."
    remedy = "Install a version of the plugin that fits, or another version of Nuvom."

    def __init__(self, plugin: str, wants: str, has: str) -> None:
        super().__init__(plugin=plugin, wants=wants, has=has)


class PluginNotLoaded(PluginError):
    """A read-only command needs a backend that only a project's plugin offers."""

    message = 'The {kind} backend "{name}" needs a plugin, which read-only commands do not load.'
    remedy = "Install it as a package with a `nuvom` entry point, or use a command that loads it."

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind=kind, name=name)


class PluginsOff(PluginError):
    """A backend is not built in, and plugins are switched off."""

    message = 'The {kind} backend "{name}" is not built in, and plugins are off.{hint}'
    remedy = "Set plugins to on (or unset NUVOM_PLUGINS), or use a built-in backend."

    def __init__(self, kind: str, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(kind=kind, name=name, hint=did_you_mean(name, known))


class BackendNameTaken(PluginError):
    """A plugin registers a backend under a name that another class has."""

    message = 'The {kind} backend name "{name}" is taken by {first}; {second} was not registered.'
    remedy = "Register it under another name, or with force=True to replace the first."

    def __init__(self, kind: str, name: str, first: str, second: str) -> None:
        super().__init__(kind=kind, name=name, first=first, second=second)


class MissingExtra(PluginError):
    """An optional part of Nuvom is not installed."""

    message = "{plugin} needs packages that are not installed."
    remedy = "Install them: pip install 'nuvom[{extra}]'"

    def __init__(self, plugin: str, extra: str) -> None:
        super().__init__(plugin=plugin, extra=extra)


__all__ = [  # a list that cannot miss one
    name
    for name, value in tuple(globals().items())
    if isinstance(value, type) and issubclass(value, NuvomError)
]
