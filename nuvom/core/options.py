"""Options of tasks and of calls, checked as soon as they are given.

``TaskOptions`` belongs to a task's definition, ``CallOptions`` to the next calls made through
``.options()``. Both are plain data. This module is loaded by ``import nuvom`` and therefore
imports next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, cast
from warnings import warn

from nuvom.errors import InvalidTaskOption, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta

_OF_ONE = frozenset(  # options that only code can give, or that describe a single task
    {"retry_on", "discard_on", "unique_by", "description", "category", "tags", "aliases"}
    | {"before_job", "after_job", "on_error", "schedule", "timezone_name", "redact"}
)
BACKOFFS = ("constant", "linear", "exponential")
TIMEOUT_POLICIES = ("retry", "fail", "ignore")
ISOLATIONS = ("thread", "process")

DEFAULT_RETRY_DELAY_SECS = 5.0
_MOST_SECS = 1e11  # three thousand years, so that calendars have each moment that follows
DEFAULT_MAX_RETRY_DELAY_SECS = 3600.0
_MOST_NESTED = 32  # levels of nested lists and dicts in ``metadata``
_PLAIN = "a dict of plain data: texts, numbers, booleans, None, lists, dicts with text keys"
CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect


class TaskOptions(NamedTuple):
    """Options of ``@task``. ``None`` means the value from the settings.

    Attributes:
        queue: Name of the queue for the task's jobs.
        priority: Lower runs first; any integer.
        retries: Additional attempts after the first; ``n`` means at most ``n + 1`` attempts.
        retry_delay_secs, max_retry_delay_secs: Base and cap of the wait between attempts.
        backoff: ``constant``, ``linear`` or ``exponential``.
        jitter: Randomize each wait between zero and its full length.
        retry_on, discard_on: Exception classes that are retried, or that end the job at once.
            ``discard_on`` wins over ``retry_on``.
        timeout_secs: Deadline of one attempt, in seconds.
        soft_timeout_secs: Seconds after which ``SoftTimeout`` is raised in the task.
        timeout_policy: What happens after a timeout: ``retry``, ``fail`` or ``ignore``.
        interrupt_on_stop: Raise ``JobStopping`` in the task when its worker is told to stop.
        isolation: ``thread`` or ``process``. With ``thread``, coroutines run on the worker's event
            loop; with ``process``, in their own loop in a child process.
        tags: Labels for people; one string or several.
        store_result: Whether to store the task's return value.
        result_ttl_secs: How long a successful job is kept.
        unique: A call with equal arguments returns the job that is not final, if there is one.
        unique_by: Names of the parameters that ``unique`` compares; the default is all of them.
        before_job, after_job, on_error: Hooks, called as ``before_job()``,
            ``after_job(result)`` and ``on_error(exception)``.
        aliases: Former names of the task; jobs that are stored under them still run.
        schedule: When schedulers enqueue a job of the task: a cron expression, seconds or a
            ``timedelta`` between two jobs, or a dict with options of ``Task.schedule``.
        timezone_name: The IANA name of the time zone of ``schedule``; the default is UTC.
        redact: Names of parameters, and of keys inside arguments and results, whose values are
            never shown; one string or several. ``result`` stands for the whole result.
    """

    queue: str = "default"
    priority: int = 5
    retries: int = 0
    retry_delay_secs: float | None = None
    backoff: str = "exponential"
    max_retry_delay_secs: float = DEFAULT_MAX_RETRY_DELAY_SECS
    jitter: bool = True
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    discard_on: tuple[type[BaseException], ...] = ()
    timeout_secs: float | None = None
    soft_timeout_secs: float | None = None
    timeout_policy: str | None = None
    interrupt_on_stop: bool = False
    isolation: str = "thread"
    store_result: bool = True
    result_ttl_secs: float | None = None
    unique: bool = False
    unique_by: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    description: str = ""
    category: str = "default"
    before_job: Callable[[], Any] | None = None
    after_job: Callable[[Any], Any] | None = None
    on_error: Callable[[BaseException], Any] | None = None
    aliases: tuple[str, ...] = ()
    schedule: str | float | timedelta | dict[str, Any] | None = None
    timezone_name: str | None = None
    redact: tuple[str, ...] = ()

    @property
    def has_hooks(self) -> bool:
        """Whether any hook is set."""
        return not (self.before_job is None and self.after_job is None and self.on_error is None)


class CallOptions(TypedDict, total=False):
    """Options of the next calls, set by ``.options()``. If missing, the task's own option counts.

    Attributes:
        delay: Seconds, or a ``timedelta``, from the call until the job may start.
        run_at: The earliest start of the job; naive datetimes are taken as UTC.
        expires: Seconds or a ``timedelta`` from the call, or a ``datetime``: a job that has not
            started by then ends CANCELLED.
        unique_key: A task has at most one job with this key that is not final.
        unique_for: Seconds from the call during which the key stays taken even by a final job.
        metadata: Plain data stored with the job, for people and plugins.
        connection: A connection of the caller's to the database of the queue: the job is stored
            in its transaction, and only exists once that commits.
    """

    queue: str | None
    priority: int | None
    retries: int | None
    retry_delay_secs: float | None
    timeout_secs: float | None
    soft_timeout_secs: float | None
    timeout_policy: str | None
    store_result: bool | None
    result_ttl_secs: float | None
    tags: str | Sequence[str] | None
    delay: float | timedelta | None
    run_at: datetime | None
    expires: float | timedelta | datetime | None
    unique_key: str | None
    unique_for: float | None
    metadata: dict[str, Any] | None
    connection: object


CALL_OPTION_NAMES = tuple(CallOptions.__annotations__)
NO_CALL_OPTIONS: CallOptions = {}  # never changed, as are all call options


def task_options(given: dict[str, Any]) -> TaskOptions:
    """Return checked ``TaskOptions`` from keyword arguments; None stands for the default.

    Raises: InvalidTaskOption: a name is unknown or a value cannot be used.
    """
    options = TaskOptions(**_checked(given, TaskOptions._fields))
    check_time_limits(options.soft_timeout_secs, options.timeout_secs)
    return options


def check_time_limits(soft: float | None, hard: float | None) -> None:
    """Raises: InvalidTaskOption: the soft time limit would never be reached."""
    if soft is not None and hard is not None and soft >= hard:
        expected = f"less than timeout_secs, which is {hard:g}"
        raise InvalidTaskOption("soft_timeout_secs", soft, expected)


def default_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return checked defaults for the options of all tasks of a project.

    Raises: InvalidTaskOption: an option is unknown, invalid, or belongs to a single task.
    """
    checked = _checked(given, tuple(name for name in TaskOptions._fields if name not in _OF_ONE))
    task_options(checked)
    return checked


def known_options(given: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the options that are given, not left to a default."""
    return frozenset(name for name, value in given.items() if value is not None)


def call_options(base: CallOptions, given: Mapping[str, Any]) -> CallOptions:
    """Return ``base`` updated with the checked keyword arguments; None changes nothing.

    The last one given of ``delay`` and ``run_at`` counts.
    Raises: InvalidTaskOption: a name is unknown or a value cannot be used.
    """
    options: dict[str, Any] = {**base, **_checked(given, CALL_OPTION_NAMES)}
    if given.get("run_at") is not None and given.get("delay") is not None:
        raise InvalidTaskOption("run_at", given["run_at"], "either run_at or delay, not both")
    if given.get("run_at") is not None:
        options.pop("delay", None)
    if given.get("delay") is not None:
        options.pop("run_at", None)
    return cast("CallOptions", options)


def check_task_name(name: object) -> None:
    """Raise InvalidTaskOption if ``name`` cannot be a task's name."""
    if not _text("name", name).isprintable() or name == "":
        raise InvalidTaskOption("name", name, "a text without line breaks, not empty")


def _checked(given: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    checked = {}
    for name, value in given.items():
        if name not in known:
            listed = f"one of the options {', '.join(known)}"
            raise InvalidTaskOption(name, value, listed, hint=did_you_mean(name, known))
        if value is not None:
            checked[name] = _CHECKS[name](name, value)
    return checked


def _text(name: str, value: object) -> str:
    try:
        if isinstance(value, str):
            value.encode()  # refuses a lone surrogate, which no store can hold
            return value
    except UnicodeEncodeError:
        pass
    raise InvalidTaskOption(name, value, "a text")


def _queue(name: str, value: object) -> str:
    from nuvom.core.ids import valid_name  # noqa: PLC0415  # loads ``re``: only when a queue is named

    return value if value == "default" else valid_name(name, value)


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**31:
        raise InvalidTaskOption(name, value, "a whole number of at most 32 bits")
    return value


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise InvalidTaskOption(name, value, "a whole number, 0 or more")
    return value


def _secs(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST_SECS:
        raise InvalidTaskOption(name, value, "seconds, 0 or more")
    return value


def _positive_secs(name: str, value: object) -> float:
    secs = _secs(name, value)
    if secs <= 0:
        raise InvalidTaskOption(name, value, "seconds, more than 0")
    return secs


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidTaskOption(name, value, "True or False")
    return value


def _choice(*allowed: str) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        if value not in allowed:
            raise InvalidTaskOption(name, value, f"one of {', '.join(allowed)}")
        return value

    return check


def _exceptions(name: str, value: object) -> tuple[type[BaseException], ...]:
    classes = value if isinstance(value, tuple | list) else (value,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise InvalidTaskOption(name, value, "an exception class or a tuple of them")
    return tuple(classes)


def _tags(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):  # a list of its characters is hardly intended
        return (_text(name, value),)
    if not isinstance(value, tuple | list | set | frozenset):
        raise InvalidTaskOption(name, value, "a text or a list of texts")
    return tuple(_text(name, tag) for tag in value)


def _names(name: str, value: object) -> tuple[str, ...]:
    names = _tags(name, value)
    if not names:
        raise InvalidTaskOption(name, value, "the name of a parameter or several of them")
    return names


def _aliases(name: str, value: object) -> tuple[str, ...]:
    aliases = _tags(name, value)
    for alias in aliases:
        check_task_name(alias)
    return aliases


def is_plain_function(value: object) -> bool:
    """Whether a value can be called as a hook: a coroutine function would not be awaited."""
    code = getattr(value, "__code__", None)
    return callable(value) and not (code is not None and code.co_flags & CO_COROUTINE)


def _hook(name: str, value: object) -> object:
    if not is_plain_function(value):
        raise InvalidTaskOption(name, value, "a plain function")
    return value


def _schedule(name: str, value: object) -> object:
    """Return what may be a schedule; its content is checked in ``nuvom.scheduler.trigger``."""
    if isinstance(value, dict):
        return value.copy()
    if isinstance(value, str | int | float) or hasattr(value, "total_seconds"):
        return value
    expected = "a cron expression, seconds, a timedelta, or a dict of options of a schedule"
    raise InvalidTaskOption(name, value, expected)


def _delay(name: str, value: object) -> object:
    secs = value.total_seconds() if hasattr(value, "total_seconds") else value
    _secs(name, secs)
    return value


def _moment(name: str, value: object, *, stacklevel: int = 5) -> datetime:
    from datetime import UTC, datetime  # noqa: PLC0415  # not with every import of the package

    if not isinstance(value, datetime):
        raise InvalidTaskOption(name, value, "a datetime")
    if value.utcoffset() is not None:
        return value
    warn(
        f"{name}={value.isoformat()} has no time zone and is taken as UTC; "
        "pass an aware datetime, such as datetime.now(timezone.utc) + ...",
        UserWarning,
        stacklevel=stacklevel,  # where .options() is called
    )
    return value.replace(tzinfo=UTC)


def _expiry(name: str, value: object) -> object:
    if hasattr(value, "utcoffset"):
        return _moment(name, value, stacklevel=6)
    return _delay(name, value)


def _mapping(name: str, value: object) -> object:
    """Return a copy that is safe from later changes by the caller."""
    try:
        if isinstance(value, dict):
            return _plain(value, _MOST_NESTED)
    except ValueError:
        pass
    raise InvalidTaskOption(name, value, _PLAIN)


def _plain(value: object, levels: int) -> object:
    """Return a copy of plain data. Raises: ValueError: it is not plain."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, str):
        value.encode()  # refuses a lone surrogate, which no store can hold
        return value
    if levels and isinstance(value, list | tuple):
        return [_plain(item, levels - 1) for item in value]
    if levels and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {_plain(key, 0): _plain(item, levels - 1) for key, item in value.items()}
    raise ValueError


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "queue": _queue,
    "priority": _whole,
    "retries": _count,
    "retry_delay_secs": _secs,
    "backoff": _choice(*BACKOFFS),
    "max_retry_delay_secs": _secs,
    "jitter": _flag,
    "retry_on": _exceptions,
    "discard_on": _exceptions,
    "timeout_secs": _positive_secs,
    "soft_timeout_secs": _positive_secs,
    "timeout_policy": _choice(*TIMEOUT_POLICIES),
    "isolation": _choice(*ISOLATIONS),
    "interrupt_on_stop": _flag,
    "store_result": _flag,
    "result_ttl_secs": _secs,
    "unique": _flag,
    "unique_by": _names,
    "tags": _tags,
    "description": _text,
    "category": _text,
    "before_job": _hook,
    "after_job": _hook,
    "on_error": _hook,
    "aliases": _aliases,
    "schedule": _schedule,
    "timezone_name": _text,
    "redact": _names,
    "delay": _delay,
    "run_at": _moment,
    "expires": _expiry,
    "unique_key": _text,
    "unique_for": _secs,
    "metadata": _mapping,
    "connection": lambda _, value: value,  # the queue knows what it can use
}
