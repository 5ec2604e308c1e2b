"""Which peers there are: what each needs to run, and how many jobs measure it well."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

HERE = "this checkout"
_TITLES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "redis": "Redis"}


@dataclass(frozen=True)
class Peer:
    """One row of the table.

    Attributes:
        module: Where its adapter is.
        variables: Environment variables that choose the variant.
        server: ``redis``, ``postgres`` or none.
        environment: Its own one inside ``.bench-venv``, where it does not get along with others
            or cannot be installed on each system.
        oldest_python: What it needs, when it has an environment of its own.
        drain, enqueue, bulk: How many jobs each of these measures takes.
        revision: A commit of Nuvom, or ``HERE``: its environment has that checkout alone.
        kind: ``peer``, ``nuvom`` or ``loop``: what ratios are made of.
    """

    name: str
    title: str
    module: str
    variables: dict[str, str] = field(default_factory=dict)
    server: str | None = None
    environment: str | None = None
    oldest_python: tuple[int, int] = (3, 11)
    revision: str | None = None
    drain: int = 5_000
    enqueue: int = 5_000
    bulk: int = 20_000
    kind: str = "peer"


def _nuvom(backend: str, durability: str, **counts: Any) -> Peer:
    server = backend if backend in ("postgres", "redis") else None
    chosen = {
        "NUVOM_QUEUE_BACKEND": backend,
        "NUVOM_RESULT_BACKEND": backend,
        "NUVOM_DURABILITY": durability,
    }
    told = "" if backend in ("memory", "redis") else f", {durability}"
    return Peer(
        f"nuvom-{backend}-{durability}" if told else f"nuvom-{backend}",
        f"Nuvom, {_TITLES.get(backend, backend)}{told}",
        "peers.nuvom_servers" if server else "peers.nuvom_here",
        chosen,
        server,
        kind="nuvom",
        **counts,
    )


def _huey(name: str, title: str, server: str | None = None, **counts: Any) -> Peer:
    chosen = {"BENCH_VARIANT": name}
    return Peer(f"huey-{name}", title, "peers.huey_app", chosen, server, **counts)


def _honker(name: str, title: str, **counts: Any) -> Peer:
    chosen = {"BENCH_VARIANT": name}
    return Peer(
        f"honker-{name}", title, "peers.honker_sqlite", chosen, environment="honker", **counts
    )


def _pgqueuer(batch: int, **counts: Any) -> Peer:
    chosen = {"BENCH_VARIANT": str(batch)}
    title = f"PgQueuer, PostgreSQL, batches of {batch}, no results"
    return Peer(f"pgqueuer-{batch}", title, "peers.pgqueuer_pg", chosen, "postgres", **counts)


def _loop(durability: str, **counts: Any) -> Peer:
    chosen = {"BENCH_VARIANT": durability}
    return Peer(
        f"loop-{durability}",
        f"Plain loop, {durability}",
        "peers.plain_loop",
        chosen,
        kind="loop",
        **counts,
    )


_MANY = {"drain": 100_000, "enqueue": 20_000, "bulk": 200_000}
PEERS = (
    _nuvom("sqlite", "full", **{**_MANY, "enqueue": 5_000}),
    _nuvom("sqlite", "normal", **_MANY),
    _nuvom("file", "full", drain=50_000, enqueue=5_000, bulk=50_000),
    _nuvom("file", "normal", drain=50_000, enqueue=10_000, bulk=50_000),
    _nuvom("memory", "normal", **_MANY),
    _loop("full", **{**_MANY, "enqueue": 5_000}),
    _loop("normal", **_MANY),
    _huey("redis", "Huey, Redis", "redis", drain=10_000),
    _huey("sqlite", "Huey, SQLite, unflushed", drain=6_000),
    _huey("sqlite-fsync", "Huey, SQLite", drain=3_000, enqueue=3_000),
    _huey("file", "Huey, files", drain=3_000, enqueue=3_000),
    Peer("dramatiq", "Dramatiq, Redis", "peers.dramatiq_redis", server="redis", drain=8_000),
    Peer("saq", "SAQ, Redis", "peers.saq_redis", server="redis", drain=8_000),
    Peer("taskiq", "Taskiq, Redis", "peers.taskiq_redis_list", {}, "redis", "taskiq", drain=6_000),
    Peer("celery", "Celery, Redis", "peers.celery_redis", server="redis", drain=4_000),
    Peer("rq", "RQ, Redis", "peers.rq_redis", server="redis", drain=1_500, bulk=5_000),
    Peer(
        "procrastinate",
        "Procrastinate, PostgreSQL, no results",
        "peers.procrastinate_pg",
        server="postgres",
        drain=1_500,
        enqueue=2_000,
        bulk=10_000,
    ),
    Peer("flexiq", "flexiq, SQLite", "peers.flexiq_sqlite", drain=2_000),
    _honker("tasks", "honker, SQLite, tasks", drain=5_000),
    _honker("batch", "honker, SQLite, raw batches, no results", drain=50_000),
    Peer(
        "ardiq",
        "ardiq, Redis",
        "peers.ardiq_redis",
        server="redis",
        environment="ardiq",
        oldest_python=(3, 12),
        drain=30_000,
    ),
    Peer(
        "nuvom-0.11",
        "Nuvom 0.11.2, SQLite",
        "peers.nuvom_0_11",
        {"NUVOM_QUEUE_BACKEND": "sqlite", "NUVOM_RESULT_BACKEND": "sqlite"},
        environment="nuvom-0.11",
        drain=1_000,
        enqueue=1_000,
    ),
)


_SERVED = {"drain": 100_000, "enqueue": 5_000, "bulk": 100_000}
SERVERS = (
    _nuvom("postgres", "full", **_SERVED),
    _nuvom("postgres", "normal", **_SERVED),
    _pgqueuer(10, drain=15_000),
    _pgqueuer(100, drain=40_000),
    _pgqueuer(500, drain=40_000),
    Peer(
        "awa",
        "awa, PostgreSQL, no results",
        "peers.awa_pg",
        {},
        "postgres",
        "awa",
        drain=15_000,
        enqueue=2_000,
    ),
    Peer(
        "chancy",
        "chancy, PostgreSQL, no results",
        "peers.chancy_pg",
        {},
        "postgres",
        drain=12_000,
        enqueue=3_000,
    ),
    Peer(
        "oban",
        "Oban, PostgreSQL",
        "peers.oban_pg",
        {},
        "postgres",
        "oban",
        oldest_python=(3, 12),
        drain=6_000,
        enqueue=3_000,
    ),
    _nuvom("redis", "normal", **{**_SERVED, "drain": 120_000, "enqueue": 10_000}),
    Peer("streaq", "streaQ, Redis", "peers.streaq_redis", {}, "redis", drain=8_000),
    *(one for one in PEERS if one.server),
)
GROUPS = {"files": PEERS, "servers": SERVERS}


def named(name: str) -> Peer:
    """Return the row of a name, whatever group it is in."""
    return next(one for one in (*PEERS, *SERVERS) if one.name == name.partition("@")[0])


def before_and_after(revision: str) -> tuple[Peer, ...]:
    """Return the rows that compare another checkout of Nuvom with this one.

    The name of a row says in front of ``@`` which entry of ``PEERS`` it is.
    """
    ours = [one for one in PEERS if one.name in ("nuvom-sqlite-full", "nuvom-sqlite-normal")]
    pairs = [
        (
            replace(
                one,
                name=f"{one.name}@{revision}",
                title=f"{one.title}, {revision}",
                revision=revision,
            ),
            replace(one, revision=HERE),
        )
        for one in ours
    ]
    loops = [one for one in PEERS if one.kind == "loop"]
    return (*(row for pair in pairs for row in pair), *loops)
