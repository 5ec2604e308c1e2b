"""The settings of Nuvom in one table: name, type, range, default and meaning of each.

The annotations of ``Settings`` are what values are checked against; the table in the
documentation and ``nuvom config explain`` are made from them and from its docstring.
``nuvom.config.sources`` finds the values.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Self,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta

from nuvom.core.ids import valid_name
from nuvom.core.options import check_task_name, default_options
from nuvom.errors import (
    ALL_OPTIONS,
    InvalidSchedule,
    InvalidSetting,
    InvalidTaskOption,
    NuvomError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MASK = "***"
NONE = "none"  # how text says that an optional setting is not set
PROGRAM_START = "when a program or a command first uses Nuvom"
WORKER_START = "at worker start"

_DAY = 86_400
_YEAR = 365 * _DAY
_MANY = 2**31 - 1
_FLAGS = {
    **dict.fromkeys(("1", "true", "on", "yes"), True),
    **dict.fromkeys(("0", "false", "off", "no"), False),
}
# Surrogates stand for bytes that are not UTF-8. SQLite would take ":memory:" and "file:" for
# something other than a file. "$" alone would let a newline at the end through.
_CHARS = r"[^\x00-\x1f\x7f\ud800-\udfff]+$(?!\n)"


def _text(kind: str, wanted: str, pattern: str, *, secret: bool = False) -> Meta:
    extra = {"kind": kind, "wanted": wanted, "secret": secret}
    return Meta(pattern=pattern, extra=extra)


_PLAIN_TEXT = "a text without control characters"
Text = Annotated[str, _text("text", _PLAIN_TEXT, f"^{_CHARS}")]
Secret = Annotated[str, _text("text", _PLAIN_TEXT, f"^{_CHARS}", secret=True)]
FilePath = Annotated[
    str, _text("path", "the path of a file or folder", f"^(?!:memory:|file:){_CHARS}")
]
BackendName = Annotated[
    str,
    _text(
        "name",
        "the name of a backend: letters, digits, '_', '-' and '.'",
        r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$(?!\n)",
    ),
]
SchemaName = Annotated[
    str,
    _text(
        "name",
        "a name of letters, digits and '_' that does not begin with a digit",
        r"^[A-Za-z_][A-Za-z0-9_]{0,47}$(?!\n)",
    ),
]
KeyPrefix = Annotated[
    str,
    _text(
        "name",
        "a name of letters, digits, '_', '-', '.' and ':'",
        r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$(?!\n)",
    ),
]
ModuleName = Annotated[
    str,
    _text(
        "name",
        "the dotted name of a module, such as shop.nuvom_hooks",
        r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$(?!\n)",
    ),
]
_LIST = "list"
DottedNames = Annotated[
    tuple[Annotated[str, Meta(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$(?!\n)")], ...],
    Meta(extra={"kind": _LIST, "wanted": "a list of dotted names, such as shop.worker.job"}),
]
Folders = Annotated[
    tuple[Annotated[str, Meta(pattern=rf"^(?![/\\]|[A-Za-z]:|\.\.){_CHARS}")], ...],
    Meta(extra={"kind": _LIST, "wanted": "a list of folders below the project root"}),
]
ValueNames = Annotated[
    tuple[Annotated[str, Meta(pattern=f"^{_CHARS}")], ...],
    Meta(extra={"kind": _LIST, "wanted": "a list of names of values, such as card_number"}),
]
_TABLE = "table"


def _values_by_name(wanted: str, convert: Callable[[Any], object]) -> Meta:
    return Meta(extra={"kind": _TABLE, "wanted": wanted, "convert": convert})


Options = Annotated[
    dict[str, Any],
    _values_by_name("a table of options of @task, such as retries = 3", default_options),
]
Routes = Annotated[
    dict[str, str],
    _values_by_name(
        'a table of queues, such as "shop.mail.*" = "mail"',
        lambda given: {one: valid_name("queue", to) for one, to in given.items()},
    ),
]


class _WrongEntryError(Exception):
    """One entry of the table of schedules cannot be used."""

    def __init__(self, name: str, given: object, error: InvalidSchedule) -> None:
        is_whole = error.option == ALL_OPTIONS
        self.part = f".{name}" if is_whole else f".{name}.{error.option}"
        self.value = given if is_whole else error.value
        self.expected, self.hint = error.expected, error.hint
        super().__init__(self.part)


def _schedules(given: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return schedules by name, in plain data. Raises: _WrongEntryError."""
    checked = {}
    for name, entry in given.items():
        try:
            checked[name] = _schedule(name, entry)
        except InvalidSchedule as error:
            raise _WrongEntryError(name, entry, error) from error
    return checked


def _schedule(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    from nuvom.scheduler.trigger import declared_rule  # noqa: PLC0415  # few projects have one

    _check_name("name", name)
    call = {key: entry[key] for key in _CALL if key in entry}
    for key, (wanted, expected) in _CALL.items():
        if key not in call and key != "task":
            continue
        if not isinstance(call.get(key), wanted):
            raise InvalidSchedule(key, call.get(key), expected)
    _check_name("task", call["task"])
    rule = {key: _plain_time(value) for key, value in entry.items() if key not in _CALL}
    declared_rule(rule)
    return {**call, **rule}


def _check_name(option: str, name: str) -> None:
    try:
        check_task_name(name)
    except InvalidTaskOption as error:
        raise InvalidSchedule(option, name, error.expected) from error


def _plain_time(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value


_CALL: dict[str, tuple[tuple[type, ...], str]] = {
    "task": ((str,), "the full name of a task"),
    "args": ((list, tuple), "a list of arguments"),
    "kwargs": ((dict,), "a table of arguments by name"),
}
Schedules = Annotated[
    dict[str, dict[str, Any]],
    _values_by_name(
        'a table of schedules, such as nightly = { task = "shop.tidy", cron = "@daily" }',
        _schedules,
    ),
]
_BYTES = Meta(extra={"unit": "bytes"})
Count = Annotated[int, Meta(ge=1, le=_MANY)]
Bytes = Annotated[int, Meta(ge=1, le=_MANY), _BYTES]
Memory = Annotated[int, Meta(ge=2**20, le=2**40), _BYTES]
UpTo1024 = Annotated[int, Meta(ge=1, le=1024)]
UpTo100k = Annotated[int, Meta(ge=1, le=100_000)]
UpToADay = Annotated[float, Meta(ge=0, le=_DAY)]
UpToAYear = Annotated[float, Meta(ge=0, le=_YEAR)]
UpTo100Years = Annotated[float, Meta(ge=0, le=100 * _YEAR)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_AT_START = Meta(extra={"read": WORKER_START})


def _absent(text: str) -> Meta:
    """Say what happens where an optional setting is not set."""
    return Meta(extra={"absent": text})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one project. ``sources.load`` checks them; the constructor does not.

    Paths are kept as given; the properties resolve them. The documentation and ``nuvom config``
    show the following texts.

    Attributes:
        root: The project root, absolute. Found, not set.
        environment: Where the project runs.
        project_name: Tells the project from others whose schedules are in the same store.
        release: Name of the code's version, to tell workers that run another one.
        log_level: Lowest level of log records to show.
        log_format: Format of log records.
        queue_backend: Where jobs wait: memory, file, sqlite, or a plugin's backend.
        result_backend: Where results are kept: memory, file, sqlite, or a plugin's backend.
        scheduler_backend: Where schedules are kept, if not with the jobs.
        serialization_backend: How arguments and results become bytes.
        manifest_path: The list of tasks that `nuvom discover tasks` writes.
        task_decorators: Your own decorators that make tasks in a way that discovery cannot follow.
        source_roots: Folders from which the code imports, besides the project root and src.
        hooks: A module with hooks, which each process that runs jobs imports first.
        task_defaults: Options for all tasks that do not set them themselves.
        routes: Queues by pattern of a task's name, for tasks that name no queue; the first counts.
        schedules: Schedules by name, besides those that `@task` declares.
        sqlite_path: The SQLite file for queue, results and schedules together.
        sqlite_queue_path: A SQLite file for the queue alone.
        sqlite_result_path: A SQLite file for the results alone.
        sqlite_journal_mode: SQLite's journal mode.
        file_path: The folder of the file backends.
        allow_network_fs: Accept a store on a network file system, where its locks may fail.
        durability: What a stored job survives: full, a power cut; normal, the death of any process.
        postgres_dsn: Address of the PostgreSQL server.
        postgres_schema: The schema of the database that holds Nuvom's tables.
        redis_url: Address of the Redis or Valkey server.
        redis_prefix: What the names of Nuvom's keys on the server begin with.
        threads: Threads of a worker. `max_workers` is another name of this setting.
        async_slots: Coroutines that a worker runs at once.
        processes: Worker processes that `nuvom runworker` starts.
        batch_size: Most jobs claimed at once.
        max_jobs_per_child: Jobs after which a child of the process lane is replaced.
        max_memory_per_child: Memory above which a child of the process lane is replaced.
        max_stuck_threads: Timed-out threads still running, at which a worker replaces its
            own process.
        task_import: When a worker imports the modules of tasks: lazy, at a task's first job; start.
        shutdown_timeout_secs: Time that running jobs get when a worker stops.
        lease_secs: Time without a heartbeat after which a worker loses its jobs.
        max_deliveries: Deaths of a worker under a job until the job is DEAD.
        job_timeout_secs: Time limit of an attempt, for tasks that set none.
        timeout_policy: What follows a timeout, for tasks that do not say.
        check_types: Whether a call is refused if an argument is not of its annotated type.
        retry_delay_secs: Wait before the first retry, for tasks that do not say.
        max_queue_size: Jobs that may wait in one queue; then a call raises QueueFull.
        max_payload_bytes: Largest arguments of a call.
        max_result_bytes: Largest result of a job.
        result_ttl_secs: How long a SUCCESS is kept.
        failed_ttl_secs: How long a FAILED, DEAD or CANCELLED job is kept.
        parked_ttl_secs: How long a PARKED job waits for a worker that knows its task.
        redact: Names of arguments, and of keys in arguments and results, whose values are never
            shown, besides names such as password.
        plugins: Whether plugins are loaded.
        prometheus_host: Address that the metrics endpoint listens on.
        prometheus_port: Port of the metrics endpoint; 0 is any free one.
    """

    root: Path = msgspec.field(default_factory=Path.cwd)
    environment: Literal["dev", "test", "prod"] = "dev"
    project_name: Annotated[
        Text | None, _absent("the name in pyproject.toml, else that of the root's folder")
    ] = None
    release: Annotated[Text | None, _absent("a hash over the modules with tasks")] = None
    log_level: LogLevel = "INFO"
    log_format: Annotated[
        Literal["rich", "plain", "json", "logfmt"] | None, _absent("rich on a terminal, else plain")
    ] = None
    queue_backend: BackendName = "sqlite"
    result_backend: BackendName = "sqlite"
    scheduler_backend: Annotated[BackendName | None, _absent("the queue's store")] = None
    serialization_backend: BackendName = "msgpack"
    manifest_path: FilePath = ".nuvom/manifest.json"
    task_decorators: DottedNames = ()
    source_roots: Folders = ()
    hooks: Annotated[ModuleName | None, _AT_START, _absent("none")] = None
    task_defaults: Options = msgspec.field(default_factory=dict)
    routes: Routes = msgspec.field(default_factory=dict)
    schedules: Schedules = msgspec.field(default_factory=dict)
    sqlite_path: FilePath = ".nuvom/nuvom.db"
    sqlite_queue_path: Annotated[FilePath | None, _absent("as sqlite_path")] = None
    sqlite_result_path: Annotated[FilePath | None, _absent("as sqlite_path")] = None
    sqlite_journal_mode: Literal["wal", "delete"] = "wal"
    file_path: FilePath = ".nuvom/files"
    allow_network_fs: bool = False
    durability: Literal["full", "normal"] = "full"
    postgres_dsn: Annotated[Secret | None, _absent("no such server")] = None
    postgres_schema: SchemaName = "nuvom"
    redis_url: Annotated[Secret | None, _absent("no such server")] = None
    redis_prefix: KeyPrefix = "nuvom"
    threads: Annotated[UpTo1024, _AT_START] = 4
    async_slots: Annotated[int, Meta(ge=1, le=1_000_000), _AT_START] = 1000
    processes: Annotated[UpTo1024, _AT_START] = 1
    batch_size: Annotated[UpTo100k | None, _AT_START, _absent("adaptive")] = None
    max_jobs_per_child: Annotated[Count | None, _AT_START, _absent("never")] = None
    max_memory_per_child: Annotated[Memory | None, _AT_START, _absent("never")] = None
    max_stuck_threads: Annotated[UpTo100k, _AT_START] = 32
    task_import: Annotated[Literal["lazy", "start"], _AT_START] = "lazy"
    shutdown_timeout_secs: Annotated[UpToADay, _AT_START] = 10.0
    lease_secs: Annotated[float, Meta(ge=0.5, le=_DAY)] = 30.0
    max_deliveries: Annotated[int, Meta(ge=1, le=1000)] = 3
    job_timeout_secs: Annotated[
        Annotated[float, Meta(ge=0.001, le=_YEAR)] | None, _absent("no limit")
    ] = None
    timeout_policy: Literal["retry", "fail", "ignore"] = "fail"
    check_types: bool = False
    retry_delay_secs: UpToAYear = 5.0
    max_queue_size: Annotated[Count | None, _absent("no limit")] = None
    max_payload_bytes: Bytes = 1 << 20
    max_result_bytes: Bytes = 16 << 20
    result_ttl_secs: UpTo100Years = 7.0 * _DAY
    failed_ttl_secs: UpTo100Years = 30.0 * _DAY
    parked_ttl_secs: UpTo100Years = 7.0 * _DAY
    redact: ValueNames = ()
    plugins: Literal["on", "off"] = "on"
    prometheus_host: Annotated[Text, _AT_START] = "127.0.0.1"
    prometheus_port: Annotated[int, Meta(ge=0, le=65_535), _AT_START] = 9150

    @property
    def max_workers(self) -> int:
        """Another name of ``threads``."""
        return self.threads

    @property
    def state_dir(self) -> Path:
        """The project's ``.nuvom`` folder."""
        return self.root / ".nuvom"

    @property
    def manifest_file(self) -> Path:
        """The manifest, absolute."""
        return self.resolve(self.manifest_path)

    @property
    def db_path(self) -> Path:
        """The SQLite file that holds the queue, absolute."""
        return self.resolve(self.sqlite_queue_path or self.sqlite_path)

    @property
    def result_db_path(self) -> Path:
        """The SQLite file that holds the results, absolute."""
        return self.resolve(self.sqlite_result_path or self.sqlite_path)

    @property
    def files_dir(self) -> Path:
        """The folder of the file backends, absolute."""
        return self.resolve(self.file_path)

    def resolve(self, path: str) -> Path:
        """Return ``path`` absolute: relative to the root, a leading ``~`` is the home folder."""
        return self.root / (os.path.expanduser(path) if path.startswith("~") else path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a child process. It holds the secrets."""
        return {**msgspec.structs.asdict(self), "root": str(self.root)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return what ``to_dict`` described."""
        lists = {name: tuple(one) for name, one in data.items() if isinstance(one, list)}
        return cls(**{**data, **lists, "root": Path(data["root"])})

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Settings({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Keep secrets out of Rich's rendering, which does not use ``repr``."""
        shown = [(name, one.masked(getattr(self, name))) for name, one in SETTINGS.items()]
        return [("root", self.root), *shown]


class Setting(NamedTuple):
    """One row of the table, read from an annotation of ``Settings``.

    Attributes:
        hint: The whole annotation; ``msgspec`` checks values against it.
        base: ``bool``, ``int``, ``float``, ``str``, ``Literal``, a tuple of texts, or a dict.
        choices: What a ``Literal`` can be.
        bounds: The lowest and the highest number, both allowed.
        meaning: What it is for, in one line without a full stop.
        kind: ``text``, ``path`` or ``name``, for a setting that is text; ``list`` for texts;
            ``table`` for values by name.
        wanted: What such a text has to be.
        absent: What happens where an optional setting is not set.
        unit: ``seconds``, ``bytes`` or nothing.
        read: When it is read.
        convert: Returns what to hold of a value of the right type, or raises TypeError, ValueError.
        secret: Whether its value may never be shown.
    """

    name: str
    default: Any
    hint: Any
    base: Any
    choices: tuple[str, ...]
    optional: bool
    bounds: tuple[float, ...]
    meaning: str
    unit: str
    kind: str = ""
    wanted: str = ""
    absent: str = ""
    read: str = PROGRAM_START
    convert: Callable[[Any], object] | None = None
    secret: bool = False

    @classmethod
    def of(cls, name: str, default: object, hint: object, meaning: str) -> Self:
        """Read an annotation."""
        parts = _parts(hint)
        metas = [part for part in parts if isinstance(part, Meta)]
        base = next(part for part in parts if part is not NoneType)
        facts = {key: value for meta in metas for key, value in (meta.extra or {}).items()}
        bounds: Any = next(((meta.ge, meta.le) for meta in metas if meta.ge is not None), ())
        choices = get_args(base) if get_origin(base) is Literal else ()
        facts.setdefault("unit", "seconds" if base is float else "")
        return cls(
            name,
            default,
            hint,
            base=Literal if choices else base,
            choices=choices,
            optional=NoneType in parts,
            bounds=bounds,
            meaning=meaning,
            **facts,
        )

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return f"NUVOM_{self.name.upper()}"

    def range(self, between: str) -> str:
        """Return the bounds as text, such as ``1 to 10``."""
        return between.join(map(show, self.bounds))

    @property
    def expected(self) -> str:
        """What a value has to be, as part of a sentence."""
        unit = f" of {self.unit}" if self.unit else ""
        wanted = {
            bool: "true or false",
            int: f"a whole number{unit} from {self.range(' to ')}",
            float: f"a number{unit} from {self.range(' to ')}",
            Literal: f"one of {', '.join(self.choices)}",
        }.get(self.base) or self.wanted
        return wanted + (f', or "{NONE}"' if self.optional else "")

    @property
    def note(self) -> str:
        """Its type, its range and when it is read, in one line."""
        form = self.kind or " | ".join(self.choices) or self.base.__name__
        if self.bounds:
            form += (f" of {self.unit}" if self.unit else "") + f", {self.range('..')}"
        again = "; changing needs a restart" if self.read == WORKER_START else ""
        return f"type {form}; read {self.read}{again}"

    def parse(self, text: str, origin: str) -> object:
        """Return the value that ``text`` stands for, checked.

        Raises: InvalidSetting: it stands for none.
        """
        value: object = text.strip()
        try:
            if self.kind == _LIST:
                value = re.findall(r"[^\s,]+", text)
            elif self.kind == _TABLE:
                value = msgspec.json.decode(text)
            elif self.base in (int, float):
                value = self.base(value)
            elif self.base is bool:
                value = _FLAGS[text.strip().lower()]
        except (ValueError, KeyError):
            value = text  # ``check`` refuses it, with the one message
        return self.check(value, origin)

    def check(self, value: object, origin: str) -> object:
        """Return ``value`` in the form that ``Settings`` holds.

        Args:
            value: Of the setting's own type; text is not taken for a number here.
            origin: Where the value was given, for the error.

        Raises: InvalidSetting: the type or the range is wrong.
        """
        given = os.fspath(value) if isinstance(value, os.PathLike) else value
        if self.choices:
            given = self._choice(given)
        if self.optional and isinstance(given, str) and given.strip().lower() == NONE:
            given = None
        try:
            found = msgspec.convert(given, self.hint)
            return found if self.convert is None else self.convert(found)
        except (msgspec.ValidationError, OverflowError):  # a number that no float can hold
            shown, expected = self.masked(value), self.expected
        except _WrongEntryError as error:
            place = {"origin": origin, "part": error.part, "hint": error.hint}
            raise InvalidSetting(self.name, error.value, error.expected, **place) from error
        except NuvomError as error:  # of a value inside a table
            shown, expected = value, f"{self.expected} ({error.what.rstrip('.')})"
        raise InvalidSetting(self.name, shown, expected, origin=origin)

    def _choice(self, value: object) -> object:
        """Return the choice that is meant, in whatever case, or the value as it is."""
        if "off" in self.choices:  # TOML's ``plugins = false`` says what "off" says
            flag = _FLAGS.get(value.lower(), value) if isinstance(value, str) else value
            value = {True: "on", False: "off"}[flag] if isinstance(flag, bool) else flag
        known = {choice.lower(): choice for choice in self.choices}
        return known.get(value.lower(), value) if isinstance(value, str) else value

    def show(self, value: object) -> str:
        """Return a value as text; what its absence means stands in brackets."""
        text = show(value)
        return f"{text} ({self.absent})" if value is None else text

    def masked(self, value: object) -> object:
        """Return ``value``, or ``***`` where it may not be shown."""
        return MASK if self.secret and value is not None else value


def show(value: object) -> str:
    """Return a value of a setting as text, as one would write it into ``.env``."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _parts(hint: object) -> list[Any]:
    """Return the types and the metas of an annotation, however they are nested."""
    if get_origin(hint) in (Annotated, Union, UnionType):
        return [part for inner in get_args(hint) for part in _parts(inner)]
    return [hint]


def _table() -> dict[str, Setting]:
    # ``python -OO`` removes docstrings, and Python 3.13 their indentation.
    attribute = re.compile(r"^( {4}| {8})(\w+): (.+(?:\n\1 {4}.+)*)", re.MULTILINE)
    texts = attribute.findall(Settings.__doc__ or "")
    meanings = {name: " ".join(text.split()).removesuffix(".") for _, name, text in texts}
    hints = get_type_hints(Settings, include_extras=True)
    return {
        field.name: Setting.of(
            field.name,
            {} if field.default is msgspec.NODEFAULT else field.default,  # of a table
            hints[field.name],
            meanings.get(field.name, ""),
        )
        for field in msgspec.structs.fields(Settings)
        if field.name != "root"
    }


SETTINGS: dict[str, Setting] = _table()
ALIASES = {"max_workers": "threads"}  # names that sources may use as well
