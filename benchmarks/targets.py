"""What Nuvom wants to reach, as ratios within one run, and whether it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

Found = dict[str, Any]
Figures = dict[str, float]
FULL, NORMAL, FILE, MEMORY = (
    "nuvom-sqlite-full",
    "nuvom-sqlite-normal",
    "nuvom-file-normal",
    "nuvom-memory",
)
POSTGRES, REDIS = "nuvom-postgres-full", "nuvom-redis"
PGQUEUER = ("pgqueuer-10", "pgqueuer-100", "pgqueuer-500")
PROCRASTINATE, ARDIQ, HUEY = "procrastinate", "ardiq", "huey-redis"
BOTH = (*PGQUEUER, PROCRASTINATE)  # PgQueuer and Procrastinate
SIX = (HUEY, "dramatiq", "saq", "taskiq", "rq", "celery")
LOOP_FULL, LOOP_NORMAL, HUEY_FILE = "loop-full", "loop-normal", "huey-file"
SERVED, PEERS = "peers with a server", "peers"  # that keep results: the best of them
PICK_UP, P95 = "pick_up_ms_median", "pick_up_ms_p95"

# What it is, which row, which figure, of which row or the best of which rows, at least how much.
_AT_LEAST = (
    ("drain, of the fastest peer with a server", FULL, "drain", SERVED, 15),
    ("drain, of the fastest peer of all", FULL, "drain", PEERS, 15),
    ("drain, of the plain loop", FULL, "drain", LOOP_FULL, 0.3),
    ("enqueue without a flush, of the fastest peer with a server", NORMAL, "enqueue", SERVED, 2),
    ("enqueue without a flush, of the fastest peer of all", NORMAL, "enqueue", PEERS, 2),
    ("enqueue without a flush, of the plain insert", NORMAL, "enqueue", LOOP_NORMAL, 0.6),
    ("enqueue with a flush, of the plain insert", FULL, "enqueue", LOOP_FULL, 0.8),
    ("bulk, of the plain insert", FULL, "bulk", LOOP_FULL, 0.5),
    ("file drain, of Huey's files", FILE, "drain", HUEY_FILE, 5),
    ("memory drain, of SQLite", MEMORY, "drain", NORMAL, 1),
    ("PostgreSQL drain, of PgQueuer's best", POSTGRES, "drain", PGQUEUER, 2.5),
    ("PostgreSQL drain, of Procrastinate", POSTGRES, "drain", PROCRASTINATE, 60),
    (
        "PostgreSQL enqueue, of the faster of PgQueuer and Procrastinate",
        POSTGRES,
        "enqueue",
        BOTH,
        1.2,
    ),
    ("Redis drain, of the fastest of six peers", REDIS, "drain", SIX, 10),
    ("Redis drain, of ardiq", REDIS, "drain", ARDIQ, 4),
    ("Redis enqueue, of Huey", REDIS, "enqueue", HUEY, 1),
)
_AT_MOST = (
    ("pick-up without a flush, of the fastest peer", NORMAL, PICK_UP, PEERS, 1),
    ("pick-up with a flush, of the fastest peer", FULL, PICK_UP, PEERS, 2),
    ("result, of the fastest peer", NORMAL, "result_ms_median", PEERS, 1),
    ("start, of the fastest peer", FULL, "start_secs", PEERS, 1),
    ("PostgreSQL pick-up, of the faster of the two", POSTGRES, PICK_UP, BOTH, 0.75),
    ("Redis pick-up, of Huey", REDIS, PICK_UP, HUEY, 1),
)
_TWO_WORKERS = (
    ("PostgreSQL drain by two workers, of one", POSTGRES),
    ("Redis drain by two workers, of one", REDIS),
)
# What it is, which figure of Nuvom's alone, how much of it, whether at most.
_OWN = (
    ("drain beside a busy loop, of the drain alone", "drain_beside_a_loop_ratio", 0.15, False),
    ("enqueue with a flush by eight threads, of one", "enqueue_8_threads_over_one", 3, False),
    ("an idle worker, per cent of a core", "idle_per_cent", 0.5, True),
    ("memory of a map over a million items, MiB", "map_mib", 100, True),
    ("memory of a worker with a million waiting, MiB", "worker_peak_mib", 60, True),
    ("claim among two million rows, of two thousand", "flat_claim_ratio", 1.2, True),
    ("settle among two million rows, of two thousand", "flat_settle_ratio", 1.2, True),
    ("nuvom --help, of importing click", "help_over_import_click", 2.5, True),
    ("closed after its limit, in get(), ms", "closed_in_get_ms", 100, True),
    ("closed after its limit, in map(), ms", "closed_in_map_ms", 100, True),
    ("discovery, speed of reading and parsing", "discovery_speed_ratio", 0.5, False),
    ("CPU-bound jobs in two processes, of one", "two_processes_over_one", 1.8, False),
)


class Target(NamedTuple):
    """One thing to reach that was measured.

    Attributes:
        limit: What is wanted: at least so much, or at most where ``is_most``.
    """

    text: str
    value: float
    limit: float
    is_most: bool

    @property
    def wanted(self) -> str:
        """The limit as text."""
        return f"at {'most' if self.is_most else 'least'} {self.limit:g}"

    @property
    def verdict(self) -> str:
        """``reached`` or ``missed``."""
        is_met = self.value <= self.limit if self.is_most else self.value >= self.limit
        return "reached" if is_met else "missed"


def targets(found: Found) -> Iterator[Target]:
    """Yield the targets of what a run has measured."""
    rows = {one["name"]: one["median"] for one in found["peers"]}
    peers = [one for one in found["peers"] if one["kind"] == "peer"]
    peers = [one for one in peers if one.get("keeps_results", True)]  # the same work
    beside = {name: [median] for name, median in rows.items()}
    beside[PEERS] = [one["median"] for one in peers]
    beside[SERVED] = [one["median"] for one in peers if one.get("server")]
    for table, best in ((_AT_LEAST, max), (_AT_MOST, min)):
        for text, row, figure, others, limit in table:
            value = rows.get(row, {}).get(figure)
            known = [one[figure] for one in _of(beside, others) if figure in one]
            if value is not None and known:
                yield Target(text, value / best(known), limit, best is min)
    for name, told in ((NORMAL, "without"), (FULL, "with")):
        if PICK_UP in (figures := rows.get(name, {})):
            spread = figures[P95] / figures[PICK_UP]
            yield Target(f"pick-up {told} a flush, p95 of the median", spread, 5, is_most=True)
    for text, figure, limit, is_most in _OWN:
        value = rows.get(FULL, {}).get(f"reach_{figure}")
        if value is not None:
            yield Target(text, value, limit, is_most)
    for text, row in _TWO_WORKERS:
        value = rows.get(row, {}).get("reach_two_workers_over_one")
        if value is not None:
            yield Target(text, value, 1.1, is_most=False)


def _of(beside: dict[str, list[Figures]], others: str | tuple[str, ...]) -> list[Figures]:
    """Return the figures of one row, of all that have a name together, or of several rows."""
    names = (others,) if isinstance(others, str) else others
    return [figures for name in names for figures in beside.get(name, ())]
