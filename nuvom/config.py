"""The settings of Nuvom: which there are, what each means, and its default.

``Settings`` is the one table; documentation, JSON schema and ``nuvom config explain`` are made
from it. Where values come from is ``config_sources.py``; what a valid value is, ``setting.py``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_type_hints

import msgspec

from nuvom.setting import MASK, WORKER_START, About, Setting

_DAY = 86_400
_YEAR = 365 * _DAY
_MANY = 2**31 - 1
_TiB = 2**40
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SECRET_WORDS = ("password", "passwd", "secret", "token", "dsn", "api_key", "private_key")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one project, checked by ``config_sources.load``, never changed.

    The constructor itself checks nothing. Paths are as given; the properties resolve them.

    Attributes:
        root: The project root, absolute. Not a setting that anybody gives.
    """

    root: Path = msgspec.field(default_factory=Path.cwd)

    environment: Annotated[
        str, About("Where the project runs", "choice", choices=("dev", "test", "prod"))
    ] = "dev"
    log_level: Annotated[
        str, About("Least level of log records shown", "choice", choices=_LOG_LEVELS)
    ] = "INFO"
    log_format: Annotated[
        str | None,
        About(
            "Form of log records",
            "choice",
            choices=("rich", "plain", "json", "logfmt"),
            absent="rich on a terminal, else plain",
        ),
    ] = None

    queue_backend: Annotated[
        str, About("Where jobs wait: memory, file, sqlite, or a plugin's backend", "name")
    ] = "sqlite"
    result_backend: Annotated[
        str, About("Where results are kept: memory, file, sqlite, or a plugin's backend", "name")
    ] = "sqlite"
    scheduler_backend: Annotated[
        str, About("Where schedules are kept: memory, sqlite, or a plugin's backend", "name")
    ] = "sqlite"
    serialization_backend: Annotated[
        str, About("How arguments and results become bytes", "name")
    ] = "msgpack"

    manifest_path: Annotated[
        str, About("The list of tasks that `nuvom discover tasks` writes", "path")
    ] = ".nuvom/manifest.json"
    sqlite_path: Annotated[
        str, About("The SQLite file with queue, results and schedules together", "path")
    ] = ".nuvom/nuvom.db"
    sqlite_queue_path: Annotated[
        str | None,
        About("A SQLite file for the queue alone", "path", absent="the file of sqlite_path"),
    ] = None
    sqlite_result_path: Annotated[
        str | None,
        About("A SQLite file for the results alone", "path", absent="the file of sqlite_path"),
    ] = None
    sqlite_journal_mode: Annotated[
        str, About("SQLite's journal mode", "choice", choices=("wal", "delete"))
    ] = "wal"
    file_path: Annotated[str, About("The folder of the file backends", "path")] = ".nuvom/files"
    allow_network_fs: Annotated[
        bool, About("Accept a store on a network file system, where its locks may fail", "flag")
    ] = False
    durability: Annotated[
        str,
        About(
            "What a stored job survives: full, a power cut; normal, the death of any process",
            "choice",
            choices=("full", "normal"),
        ),
    ] = "full"
    postgres_dsn: Annotated[
        str | None,
        About("Address of the PostgreSQL server", "text", absent="no such server", secret=True),
    ] = None
    redis_url: Annotated[
        str | None,
        About("Address of the Redis server", "text", absent="no such server", secret=True),
    ] = None

    max_workers: Annotated[
        int, About("Threads of a worker", "whole", 1, 1024, read=WORKER_START)
    ] = 4
    async_slots: Annotated[
        int,
        About("Coroutines that a worker runs at once", "whole", 1, 1_000_000, read=WORKER_START),
    ] = 1000
    processes: Annotated[
        int, About("Children of a worker's process lane", "whole", 1, 1024, read=WORKER_START)
    ] = 1
    batch_size: Annotated[
        int | None,
        About(
            "Most jobs claimed at once",
            "whole",
            1,
            100_000,
            absent="adapts to the work",
            read=WORKER_START,
        ),
    ] = None
    max_jobs_per_child: Annotated[
        int | None,
        About(
            "Jobs after which a child of the process lane is replaced",
            "whole",
            1,
            _MANY,
            absent="never",
            read=WORKER_START,
        ),
    ] = None
    max_memory_per_child: Annotated[
        int | None,
        About(
            "Memory above which a child of the process lane is replaced",
            "whole",
            2**20,
            _TiB,
            unit="bytes",
            absent="never",
            read=WORKER_START,
        ),
    ] = None
    max_stuck_threads: Annotated[
        int,
        About(
            "Timed-out threads still running, at which a worker replaces its own process",
            "whole",
            1,
            100_000,
            read=WORKER_START,
        ),
    ] = 32
    task_import: Annotated[
        str,
        About(
            "When a worker imports the modules of tasks: lazy, at a task's first job; start",
            "choice",
            choices=("lazy", "start"),
            read=WORKER_START,
        ),
    ] = "lazy"
    shutdown_timeout_secs: Annotated[
        float,
        About(
            "Time that running jobs get when a worker stops",
            "number",
            0,
            _DAY,
            unit="seconds",
            read=WORKER_START,
        ),
    ] = 10.0
    lease_secs: Annotated[
        float,
        About(
            "Time without a heartbeat after which a worker loses its jobs",
            "number",
            0.5,
            _DAY,
            unit="seconds",
        ),
    ] = 30.0
    max_deliveries: Annotated[
        int,
        About("Deaths of a worker under a job until the job is DEAD", "whole", 1, 1000),
    ] = 3

    job_timeout_secs: Annotated[
        float | None,
        About(
            "Deadline of an attempt, for tasks that give none",
            "number",
            0.001,
            _YEAR,
            unit="seconds",
            absent="no deadline",
        ),
    ] = None
    timeout_policy: Annotated[
        str,
        About(
            "What follows a timeout, for tasks that do not say",
            "choice",
            choices=("retry", "fail", "ignore"),
        ),
    ] = "fail"
    retry_delay_secs: Annotated[
        float,
        About(
            "Wait before the first retry, for tasks that do not say",
            "number",
            0,
            _YEAR,
            unit="seconds",
        ),
    ] = 5.0
    max_queue_size: Annotated[
        int | None,
        About(
            "Jobs that may wait in one queue; then a call raises QueueFull",
            "whole",
            1,
            _MANY,
            absent="no limit",
        ),
    ] = None
    max_payload_bytes: Annotated[
        int, About("Largest arguments of a call", "whole", 64, _MANY, unit="bytes")
    ] = 1 << 20
    max_result_bytes: Annotated[
        int, About("Largest result of a job", "whole", 64, _MANY, unit="bytes")
    ] = 16 << 20
    result_ttl_secs: Annotated[
        float,
        About("How long a SUCCESS is kept", "number", 0, 100 * _YEAR, unit="seconds"),
    ] = 7.0 * _DAY
    failed_ttl_secs: Annotated[
        float,
        About(
            "How long a FAILED, DEAD or CANCELLED job is kept",
            "number",
            0,
            100 * _YEAR,
            unit="seconds",
        ),
    ] = 30.0 * _DAY
    parked_ttl_secs: Annotated[
        float,
        About(
            "How long a PARKED job waits for a worker that knows its task, until it is DEAD",
            "number",
            0,
            100 * _YEAR,
            unit="seconds",
        ),
    ] = 7.0 * _DAY

    plugins: Annotated[
        str, About("Whether plugins are loaded; off loads none", "choice", choices=("on", "off"))
    ] = "on"
    prometheus_host: Annotated[
        str, About("Address that the metrics endpoint listens on", "text", read=WORKER_START)
    ] = "127.0.0.1"
    prometheus_port: Annotated[
        int,
        About(
            "Port of the metrics endpoint; 0 takes any free one",
            "whole",
            0,
            65_535,
            read=WORKER_START,
        ),
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

    def __rich_repr__(self) -> Any:
        """Keep secrets out of Rich's rendering, which does not use ``repr``."""
        for name in self.__struct_fields__:
            yield name, mask(name, getattr(self, name))


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
