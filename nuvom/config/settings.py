"""The settings of Nuvom in one table: name, type, range, default and meaning of each.

The annotations of ``Settings`` are what values are checked against; the table in the
documentation, the JSON schema and ``nuvom config explain`` are made from them as well.
``nuvom.config.sources`` finds the values.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from nuvom.errors import InvalidSetting

MASK = "***"
NONE = "none"  # how text says that an optional setting is not set
PROGRAM_START = "when a program or a command first uses Nuvom"
WORKER_START = "at worker start"

_DAY = 86_400
_YEAR = 365 * _DAY
_MANY = 2**31 - 1
_SECRET_WORDS = ("password", "passwd", "secret", "token", "dsn", "api_key", "private_key")
_FLAGS = {
    **dict.fromkeys(("1", "true", "on", "yes"), True),
    **dict.fromkeys(("0", "false", "off", "no"), False),
}
# Surrogates stand for bytes that are not UTF-8. SQLite would take ":memory:" and "file:" for
# something other than a file. "$" alone would let a newline at the end through.
_CHARS = r"[^\x00-\x1f\x7f\ud800-\udfff]+$(?!\n)"

Text = Annotated[
    str,
    Meta(
        pattern=f"^{_CHARS}", extra={"kind": "text", "wanted": "a text without control characters"}
    ),
]
FilePath = Annotated[
    str,
    Meta(
        pattern=f"^(?!:memory:|file:){_CHARS}",
        extra={"kind": "path", "wanted": "the path of a file or folder"},
    ),
]
BackendName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$(?!\n)",
        extra={
            "kind": "name",
            "wanted": "the name of a backend: letters, digits, '_', '-' and '.'",
        },
    ),
]
Count = Annotated[int, Meta(ge=1, le=_MANY)]
Bytes = Annotated[int, Meta(ge=1, le=_MANY)]
Memory = Annotated[int, Meta(ge=2**20, le=2**40)]
UpTo1024 = Annotated[int, Meta(ge=1, le=1024)]
UpTo100k = Annotated[int, Meta(ge=1, le=100_000)]
UpToADay = Annotated[float, Meta(ge=0, le=_DAY)]
UpToAYear = Annotated[float, Meta(ge=0, le=_YEAR)]
UpTo100Years = Annotated[float, Meta(ge=0, le=100 * _YEAR)]


def _about(
    meaning: str,
    *,
    absent: str = "",
    unit: str = "",
    read: str = PROGRAM_START,
    secret: bool = False,
) -> Meta:
    """Describe a setting.

    Args:
        meaning: One line, without a full stop.
        absent: What happens where an optional setting is not set.
        unit: ``bytes`` or nothing; numbers with a fraction are seconds.
        read: When the setting is read.
        secret: Its value may never be shown.
    """
    extra = {"absent": absent, "unit": unit, "read": read, "secret": secret}
    return Meta(description=meaning, extra=extra)


def _worker(meaning: str, *, absent: str = "", unit: str = "") -> Meta:
    """Describe a setting that is read when a worker starts."""
    return _about(meaning, absent=absent, unit=unit, read=WORKER_START)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one project. ``sources.load`` checks them; the constructor does not.

    Paths are kept as given; the properties resolve them.

    Attributes:
        root: The project root, absolute. Found, not set.
    """

    root: Path = msgspec.field(default_factory=Path.cwd)

    environment: Annotated[Literal["dev", "test", "prod"], _about("Where the project runs")] = "dev"
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        _about("Lowest level of log records to show"),
    ] = "INFO"
    log_format: Annotated[
        Literal["rich", "plain", "json", "logfmt"] | None,
        _about("Format of log records", absent="rich on a terminal, else plain"),
    ] = None

    queue_backend: Annotated[
        BackendName, _about("Where jobs wait: memory, file, sqlite, or a plugin's backend")
    ] = "sqlite"
    result_backend: Annotated[
        BackendName, _about("Where results are kept: memory, file, sqlite, or a plugin's backend")
    ] = "sqlite"
    scheduler_backend: Annotated[
        BackendName, _about("Where schedules are kept: memory, sqlite, or a plugin's backend")
    ] = "sqlite"
    serialization_backend: Annotated[
        BackendName, _about("How arguments and results become bytes")
    ] = "msgpack"
    manifest_path: Annotated[
        FilePath, _about("The list of tasks that `nuvom discover tasks` writes")
    ] = ".nuvom/manifest.json"
    sqlite_path: Annotated[
        FilePath, _about("The SQLite file for queue, results and schedules together")
    ] = ".nuvom/nuvom.db"
    sqlite_queue_path: Annotated[
        FilePath | None, _about("A SQLite file for the queue alone", absent="as sqlite_path")
    ] = None
    sqlite_result_path: Annotated[
        FilePath | None, _about("A SQLite file for the results alone", absent="as sqlite_path")
    ] = None
    sqlite_journal_mode: Annotated[Literal["wal", "delete"], _about("SQLite's journal mode")] = (
        "wal"
    )
    file_path: Annotated[FilePath, _about("The folder of the file backends")] = ".nuvom/files"
    allow_network_fs: Annotated[
        bool, _about("Accept a store on a network file system, where its locks may fail")
    ] = False
    durability: Annotated[
        Literal["full", "normal"],
        _about("What a stored job survives: full, a power cut; normal, the death of any process"),
    ] = "full"
    postgres_dsn: Annotated[
        Text | None,
        _about("Address of the PostgreSQL server", absent="no such server", secret=True),
    ] = None
    redis_url: Annotated[
        Text | None, _about("Address of the Redis server", absent="no such server", secret=True)
    ] = None

    max_workers: Annotated[UpTo1024, _worker("Threads of a worker")] = 4
    async_slots: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)], _worker("Coroutines that a worker runs at once")
    ] = 1000
    processes: Annotated[UpTo1024, _worker("Worker processes that `nuvom runworker` starts")] = 1
    batch_size: Annotated[
        UpTo100k | None, _worker("Most jobs claimed at once", absent="adaptive")
    ] = None
    max_jobs_per_child: Annotated[
        Count | None,
        _worker("Jobs after which a child of the process lane is replaced", absent="never"),
    ] = None
    max_memory_per_child: Annotated[
        Memory | None,
        _worker(
            "Memory above which a child of the process lane is replaced",
            absent="never",
            unit="bytes",
        ),
    ] = None
    max_stuck_threads: Annotated[
        UpTo100k,
        _worker("Timed-out threads still running, at which a worker replaces its own process"),
    ] = 32
    task_import: Annotated[
        Literal["lazy", "start"],
        _worker("When a worker imports the modules of tasks: lazy, at a task's first job; start"),
    ] = "lazy"
    shutdown_timeout_secs: Annotated[
        UpToADay, _worker("Time that running jobs get when a worker stops")
    ] = 10.0
    lease_secs: Annotated[
        Annotated[float, Meta(ge=0.5, le=_DAY)],
        _about("Time without a heartbeat after which a worker loses its jobs"),
    ] = 30.0
    max_deliveries: Annotated[
        Annotated[int, Meta(ge=1, le=1000)],
        _about("Deaths of a worker under a job until the job is DEAD"),
    ] = 3

    job_timeout_secs: Annotated[
        Annotated[float, Meta(ge=0.001, le=_YEAR)] | None,
        _about("Time limit of an attempt, for tasks that set none", absent="no limit"),
    ] = None
    timeout_policy: Annotated[
        Literal["retry", "fail", "ignore"],
        _about("What follows a timeout, for tasks that do not say"),
    ] = "fail"
    retry_delay_secs: Annotated[
        UpToAYear, _about("Wait before the first retry, for tasks that do not say")
    ] = 5.0
    max_queue_size: Annotated[
        Count | None,
        _about("Jobs that may wait in one queue; then a call raises QueueFull", absent="no limit"),
    ] = None
    max_payload_bytes: Annotated[Bytes, _about("Largest arguments of a call", unit="bytes")] = (
        1 << 20
    )
    max_result_bytes: Annotated[Bytes, _about("Largest result of a job", unit="bytes")] = 16 << 20
    result_ttl_secs: Annotated[UpTo100Years, _about("How long a SUCCESS is kept")] = 7.0 * _DAY
    failed_ttl_secs: Annotated[
        UpTo100Years, _about("How long a FAILED, DEAD or CANCELLED job is kept")
    ] = 30.0 * _DAY
    parked_ttl_secs: Annotated[
        UpTo100Years, _about("How long a PARKED job waits for a worker that knows its task")
    ] = 7.0 * _DAY

    plugins: Annotated[Literal["on", "off"], _about("Whether plugins are loaded")] = "on"
    prometheus_host: Annotated[Text, _worker("Address that the metrics endpoint listens on")] = (
        "127.0.0.1"
    )
    prometheus_port: Annotated[
        Annotated[int, Meta(ge=0, le=65_535)],
        _worker("Port of the metrics endpoint; 0 is any free one"),
    ] = 9150

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
        return cls(**{**data, "root": Path(data["root"])})

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Settings({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Keep secrets out of Rich's rendering, which does not use ``repr``."""
        return [(name, mask(name, getattr(self, name))) for name in self.__struct_fields__]


class Setting(NamedTuple):
    """One row of the table, read from an annotation of ``Settings``.

    Attributes:
        hint: The whole annotation; ``msgspec`` checks values against it.
        base: ``bool``, ``int``, ``float``, ``str`` or ``Literal``.
        choices: What a ``Literal`` can be.
        bounds: The lowest and the highest number, both allowed.
        meaning: What it is for, in one line without a full stop.
        facts: What else the annotation says: ``kind`` and ``wanted`` of a text, and see ``_about``.
    """

    name: str
    default: Any
    hint: Any
    base: Any
    choices: tuple[str, ...]
    optional: bool
    bounds: tuple[float, ...]
    meaning: str
    facts: dict[str, Any]

    @classmethod
    def of(cls, name: str, default: object, hint: object) -> Self:
        """Read an annotation."""
        base, *metas = get_args(hint)
        optional = NoneType in get_args(base)
        if optional:
            base = next(kind for kind in get_args(base) if kind is not NoneType)
            if get_origin(base) is Annotated:
                base, *inner = get_args(base)
                metas = [*inner, *metas]
        facts = {key: value for meta in metas for key, value in (meta.extra or {}).items()}
        bounds = next(((meta.ge, meta.le) for meta in metas if meta.ge is not None), ())
        choices = get_args(base) if get_origin(base) is Literal else ()
        base = Literal if choices else base
        meaning = metas[-1].description
        return cls(name, default, hint, base, choices, optional, bounds, meaning, facts)

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return f"NUVOM_{self.name.upper()}"

    @property
    def unit(self) -> str:
        """``seconds``, ``bytes`` or nothing."""
        return "seconds" if self.base is float else str(self.facts["unit"])

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
        }.get(self.base) or str(self.facts["wanted"])
        return wanted + (f', or "{NONE}"' if self.optional else "")

    @property
    def note(self) -> str:
        """Its type, its range and when it is read, in one line."""
        form = self.facts.get("kind") or " | ".join(self.choices) or self.base.__name__
        if self.bounds:
            form += (f" of {self.unit}" if self.unit else "") + f", {self.range('..')}"
        again = "; changing needs a restart" if self.facts["read"] == WORKER_START else ""
        return f"type {form}; read {self.facts['read']}{again}"

    def parse(self, text: str, origin: str) -> object:
        """Return the value that ``text`` stands for, checked.

        Raises: InvalidSetting: it stands for none.
        """
        value: object = text.strip()
        try:
            if self.base in (int, float):
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
            return msgspec.convert(given, self.hint)
        except (msgspec.ValidationError, OverflowError):  # a number that no float can hold
            shown = self.masked(value)
            raise InvalidSetting(self.name, shown, self.expected, origin=origin) from None

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
        return f"{text} ({self.facts['absent']})" if value is None else text

    def masked(self, value: object) -> object:
        """Return ``value``, or ``***`` where it may not be shown."""
        return MASK if self.facts["secret"] and value is not None else value


def show(value: object) -> str:
    """Return a value of a setting as text, as one would write it into ``.env``."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _table() -> dict[str, Setting]:
    hints = get_type_hints(Settings, include_extras=True)
    fields = (field for field in msgspec.structs.fields(Settings) if field.name != "root")
    return {one.name: Setting.of(one.name, one.default, hints[one.name]) for one in fields}


SETTINGS: dict[str, Setting] = _table()


def mask(name: str, value: object) -> object:
    """Return ``value``, or ``***`` where a setting of this name may not be shown.

    Names that are not ours are secret when they look like it: a misspelt name must not
    uncover a password.
    """
    if name in SETTINGS:
        return SETTINGS[name].masked(value)
    is_secret = any(word in name.lower() for word in _SECRET_WORDS)
    return MASK if is_secret and value is not None else value
