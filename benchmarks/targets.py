"""What Nuvom wants to reach, as ratios within one run, and whether it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

Found = dict[str, Any]
FULL, NORMAL, FILE, MEMORY = (
    "nuvom-sqlite-full",
    "nuvom-sqlite-normal",
    "nuvom-file-normal",
    "nuvom-memory",
)
LOOP_FULL, LOOP_NORMAL, HUEY_FILE = "loop-full", "loop-normal", "huey-file"


class Target(NamedTuple):
    """One thing to reach.

    Attributes:
        value: What was found, None where it was not measured.
        limit: What is wanted: at least so much, or at most where ``is_most``.
    """

    text: str
    value: float | None
    limit: float
    is_most: bool = False

    @property
    def wanted(self) -> str:
        """The limit as text."""
        return f"at {'most' if self.is_most else 'least'} {self.limit:g}"

    @property
    def verdict(self) -> str:
        """``reached``, ``missed`` or ``not measured``."""
        if self.value is None:
            return "not measured"
        is_met = self.value <= self.limit if self.is_most else self.value >= self.limit
        return "reached" if is_met else "missed"


def targets(found: Found) -> list[Target]:
    """Return all targets with what a run has found of them."""
    return list(_Figures(found).targets())


class _Figures:
    """Medians of one run, by row and figure."""

    def __init__(self, found: Found) -> None:
        self._rows = {one["name"]: one["median"] for one in found["peers"]}
        peers = [one for one in found["peers"] if one["kind"] == "peer"]
        peers = [one for one in peers if one.get("keeps_results", True)]  # the same work
        self._peers = [one["median"] for one in peers]
        self._served = [one["median"] for one in peers if one.get("server")]

    def targets(self) -> Iterator[Target]:
        """Yield them in the order in which they were set."""
        yield from self._throughput()
        yield from self._latency()
        yield from self._own()

    def _throughput(self) -> Iterator[Target]:
        for text, peers in (("with a server", self._served), ("of all", self._peers)):
            found = _of(peers, "drain", self._figure(FULL, "drain"))
            yield Target(f"drain, of the fastest peer {text}", found, 15)
        yield Target("drain, of the plain loop", self._ratio(FULL, LOOP_FULL, "drain"), 0.3)
        beside = self._own_figure("reach_drain_beside_a_loop_ratio")
        yield Target("drain beside a busy loop, of the drain alone", beside, 0.15)
        text = "enqueue without a flush, of "
        for which, peers in (("with a server", self._served), ("of all", self._peers)):
            found = _of(peers, "enqueue", self._figure(NORMAL, "enqueue"))
            yield Target(f"{text}the fastest peer {which}", found, 2)
        of_loop = self._ratio(NORMAL, LOOP_NORMAL, "enqueue")
        yield Target(text + "the plain insert", of_loop, 0.6)
        of_loop = self._ratio(FULL, LOOP_FULL, "enqueue")
        yield Target("enqueue with a flush, of the plain insert", of_loop, 0.8)
        crowd = self._own_figure("reach_enqueue_8_threads_over_one")
        yield Target("enqueue with a flush by eight threads, of one", crowd, 3)
        yield Target("bulk, of the plain insert", self._ratio(FULL, LOOP_FULL, "bulk"), 0.5)
        yield Target("file drain, of Huey's files", self._ratio(FILE, HUEY_FILE, "drain"), 5)
        yield Target("memory drain, of SQLite", self._ratio(MEMORY, NORMAL, "drain"), 1)

    def _latency(self) -> Iterator[Target]:
        for name, text, limit in ((NORMAL, "without a flush", 1), (FULL, "with a flush", 2)):
            median, p95 = (self._figure(name, f"pick_up_ms_{one}") for one in ("median", "p95"))
            of_peers = self._of_quickest(name, "pick_up_ms_median")
            yield Target(f"pick-up {text}, of the fastest peer", of_peers, limit, is_most=True)
            spread = _divided(p95, median)
            yield Target(f"pick-up {text}, p95 of the median", spread, 5, is_most=True)
        result = self._of_quickest(NORMAL, "result_ms_median")
        yield Target("result, of the fastest peer", result, 1, is_most=True)
        start = self._of_quickest(FULL, "start_secs")
        yield Target("start, of the fastest peer", start, 1, is_most=True)

    def _own(self) -> Iterator[Target]:
        for figure, text, limit in (
            ("reach_idle_per_cent", "an idle worker, per cent of a core", 0.5),
            ("reach_map_mib", "memory of a map over a million items, MiB", 100),
            ("reach_worker_peak_mib", "memory of a worker with a million waiting, MiB", 60),
            ("reach_flat_claim_ratio", "claim among two million rows, of two thousand", 1.2),
            ("reach_flat_settle_ratio", "settle among two million rows, of two thousand", 1.2),
            ("reach_help_over_import_click", "nuvom --help, of importing click", 2.5),
            ("reach_closed_in_get_ms", "closed after its limit, in get(), ms", 100),
            ("reach_closed_in_map_ms", "closed after its limit, in map(), ms", 100),
        ):
            yield Target(text, self._own_figure(figure), limit, is_most=True)
        speed = self._own_figure("reach_discovery_speed_ratio")
        yield Target("discovery, speed of reading and parsing", speed, 0.5)
        two = self._own_figure("reach_two_processes_over_one")
        yield Target("CPU-bound jobs in two processes, of one", two, 1.8)

    def _figure(self, name: str, figure: str) -> float | None:
        value: float | None = self._rows.get(name, {}).get(figure)
        return value

    def _own_figure(self, figure: str) -> float | None:
        return self._figure(FULL, figure)

    def _ratio(self, name: str, base: str, figure: str) -> float | None:
        return _divided(self._figure(name, figure), self._figure(base, figure))

    def _of_quickest(self, name: str, figure: str) -> float | None:
        known = [one[figure] for one in self._peers if figure in one]
        return _divided(self._figure(name, figure), min(known, default=None))


def _of(peers: list[dict[str, float]], figure: str, value: float | None) -> float | None:
    return _divided(value, max((one[figure] for one in peers if figure in one), default=None))


def _divided(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None
