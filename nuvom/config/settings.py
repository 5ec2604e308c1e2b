"""The settings of Nuvom: which there are, what each means, and its default.

``Settings`` is the one table; documentation, JSON schema and ``nuvom config explain`` are made
from it. Where values come from is ``config_sources.py``; what a valid value is, ``setting.py``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_type_hints

import msgspec

from nuvom.config.setting import (
    MASK,
    WORKER_START,
    Setting,
    backend,
    choice,
    flag,
    free_text,
    place,
    secret,
    secs,
    size,
    whole,
)

_DAY = 86_400
_YEAR = 365 * _DAY
_CENTURY = 100 * _YEAR
_MANY = 2**31 - 1
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LOG_FORMATS = ("rich", "plain", "json", "logfmt")
_SECRET_WORDS = ("password", "passwd", "secret", "token", "dsn", "api_key", "private_key")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one project, checked by ``config_sources.load``, never changed.

    The constructor itself checks nothing. Paths are as given; the properties resolve them.

    Attributes:
        root: The project root, absolute. Not a setting that anybody gives.
    """

    root: Path = msgspec.field(default_factory=Path.cwd)

    environment: Annotated[str, choice("Where the project runs", "dev", "test", "prod")] = "dev"
    log_level: Annotated[str, choice("Least level of log records shown", *_LOG_LEVELS)] = "INFO"
    log_format: Annotated[
        str | None,
        choice("Form of log records", *_LOG_FORMATS, absent="rich on a terminal, else plain"),
    ] = None

    queue_backend: Annotated[
        str, backend("Where jobs wait: memory, file, sqlite, or a plugin's backend")
    ] = "sqlite"
    result_backend: Annotated[
        str, backend("Where results are kept: memory, file, sqlite, or a plugin's backend")
    ] = "sqlite"
    scheduler_backend: Annotated[
        str, backend("Where schedules are kept: memory, sqlite, or a plugin's backend")
    ] = "sqlite"
    serialization_backend: Annotated[str, backend("How arguments and results become bytes")] = (
        "msgpack"
    )
    manifest_path: Annotated[str, place("The list of tasks that `nuvom discover tasks` writes")] = (
        ".nuvom/manifest.json"
    )
    sqlite_path: Annotated[
        str, place("The SQLite file with queue, results and schedules together")
    ] = ".nuvom/nuvom.db"
    sqlite_queue_path: Annotated[
        str | None, place("A SQLite file for the queue alone", absent="as sqlite_path")
    ] = None
    sqlite_result_path: Annotated[
        str | None, place("A SQLite file for the results alone", absent="as sqlite_path")
    ] = None
    sqlite_journal_mode: Annotated[str, choice("SQLite's journal mode", "wal", "delete")] = "wal"
    file_path: Annotated[str, place("The folder of the file backends")] = ".nuvom/files"
    allow_network_fs: Annotated[
        bool, flag("Accept a store on a network file system, where its locks may fail")
    ] = False
    durability: Annotated[
        str,
        choice(
            "What a stored job survives: full, a power cut; normal, the death of any process",
            "full",
            "normal",
        ),
    ] = "full"
    postgres_dsn: Annotated[
        str | None, secret("Address of the PostgreSQL server", absent="no such server")
    ] = None
    redis_url: Annotated[
        str | None, secret("Address of the Redis server", absent="no such server")
    ] = None

    max_workers: Annotated[int, whole("Threads of a worker", 1, 1024, read=WORKER_START)] = 4
    async_slots: Annotated[
        int, whole("Coroutines that a worker runs at once", 1, 1_000_000, read=WORKER_START)
    ] = 1000
    processes: Annotated[
        int, whole("Worker processes that `nuvom runworker` starts", 1, 1024, read=WORKER_START)
    ] = 1
    batch_size: Annotated[
        int | None,
        whole("Most jobs claimed at once", 1, 100_000, absent="adaptive", read=WORKER_START),
    ] = None
    max_jobs_per_child: Annotated[
        int | None,
        whole(
            "Jobs after which a child of the process lane is replaced",
            1,
            _MANY,
            absent="never",
            read=WORKER_START,
        ),
    ] = None
    max_memory_per_child: Annotated[
        int | None,
        size(
            "Memory above which a child of the process lane is replaced",
            2**20,
            2**40,
            absent="never",
            read=WORKER_START,
        ),
    ] = None
    max_stuck_threads: Annotated[
        int,
        whole(
            "Timed-out threads still running, at which a worker replaces its own process",
            1,
            100_000,
            read=WORKER_START,
        ),
    ] = 32
    task_import: Annotated[
        str,
        choice(
            "When a worker imports the modules of tasks: lazy, at a task's first job; start",
            "lazy",
            "start",
            read=WORKER_START,
        ),
    ] = "lazy"
    shutdown_timeout_secs: Annotated[
        float, secs("Time that running jobs get when a worker stops", 0, _DAY, read=WORKER_START)
    ] = 10.0
    lease_secs: Annotated[
        float, secs("Time without a heartbeat after which a worker loses its jobs", 0.5, _DAY)
    ] = 30.0
    max_deliveries: Annotated[
        int, whole("Deaths of a worker under a job until the job is DEAD", 1, 1000)
    ] = 3

    job_timeout_secs: Annotated[
        float | None,
        secs(
            "Deadline of an attempt, for tasks that give none", 0.001, _YEAR, absent="no deadline"
        ),
    ] = None
    timeout_policy: Annotated[
        str,
        choice("What follows a timeout, for tasks that do not say", "retry", "fail", "ignore"),
    ] = "fail"
    retry_delay_secs: Annotated[
        float, secs("Wait before the first retry, for tasks that do not say", 0, _YEAR)
    ] = 5.0
    max_queue_size: Annotated[
        int | None,
        whole(
            "Jobs that may wait in one queue; then a call raises QueueFull",
            1,
            _MANY,
            absent="no limit",
        ),
    ] = None
    max_payload_bytes: Annotated[int, size("Largest arguments of a call", 1, _MANY)] = 1 << 20
    max_result_bytes: Annotated[int, size("Largest result of a job", 1, _MANY)] = 16 << 20
    result_ttl_secs: Annotated[float, secs("How long a SUCCESS is kept", 0, _CENTURY)] = 7.0 * _DAY
    failed_ttl_secs: Annotated[
        float, secs("How long a FAILED, DEAD or CANCELLED job is kept", 0, _CENTURY)
    ] = 30.0 * _DAY
    parked_ttl_secs: Annotated[
        float,
        secs("How long a PARKED job waits for a worker that knows its task", 0, _CENTURY),
    ] = 7.0 * _DAY

    plugins: Annotated[str, choice("Whether plugins are loaded", "on", "off")] = "on"
    prometheus_host: Annotated[
        str, free_text("Address that the metrics endpoint listens on", read=WORKER_START)
    ] = "127.0.0.1"
    prometheus_port: Annotated[
        int, whole("Port of the metrics endpoint; 0 is any free one", 0, 65_535, read=WORKER_START)
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
        shown = (f"{name}={mask(name, getattr(self, name))!r}" for name in self.__struct_fields__)
        return f"Settings({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Keep secrets out of Rich's rendering, which does not use ``repr``."""
        return [(name, mask(name, getattr(self, name))) for name in self.__struct_fields__]


def _table() -> dict[str, Setting]:
    table = {}
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        if field.name == "root":
            continue
        kind, about = get_args(hints[field.name])
        optional = type(None) in get_args(kind)
        table[field.name] = Setting(field.name, about, optional, field.default)
    return table


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
