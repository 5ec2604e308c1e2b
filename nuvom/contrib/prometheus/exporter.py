"""What one scrape gives: the process's series, and the store's where this process serves them.

Of all exporters on a project one serves the store's series, so that nobody who adds up several
of them counts a job twice. Whoever gets the lock is the one; when it ends, the next scrape of
another takes over, and goes on with the same figures.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from nuvom.contrib.prometheus.series import StoreSeries, gauge, merged
from nuvom.core.record import StoredError
from nuvom.errors import NuvomError
from nuvom.events import BackendFailed
from nuvom.host.lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from nuvom.contrib.prometheus.series import ProcessSeries
    from nuvom.core.clock import Clock
    from nuvom.events import EventBus
    from nuvom.plugins.contracts import Inspector, RunningSystem

DEADLINE_SECS = 2.0
_KEPT_SECS = 1.0


class Exporter(Collector):
    """Collects for a registry of ``prometheus_client``; scrapes may come at the same time."""

    def __init__(
        self,
        runtime: RunningSystem,
        inspector: Inspector,
        process: ProcessSeries,
        *,
        bus: EventBus,
        clock: Clock,
    ) -> None:
        self._runtime = runtime
        self._process = process
        self._bus = bus
        self._clock = clock
        self._store = StoreSeries(runtime, inspector, clock)
        folder = runtime.settings.state_dir
        folder.mkdir(parents=True, exist_ok=True)
        self._turn = FileLock(folder / "prometheus.lock")
        self._lock = threading.Lock()
        self._reading: _Reading | None = None

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not read the store."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return all families, those of the store if this exporter serves them in time."""
        families = list(self._process.collect(self._runtime))
        if self._serves_store():
            reading = self._read()
            is_done = self._clock.wait(reading.done, DEADLINE_SECS)
            found = reading.families if is_done else None
            families.extend(found or ())
            about = "Whether the store's series are missing here."
            families.append(gauge("nuvom_scrape_partial", about, {(): found is None}))
        return merged(families)

    def close(self) -> None:
        """Let another exporter serve the store's series."""
        self._turn.release()

    def _serves_store(self) -> bool:
        with self._lock:
            return self._turn.held or self._turn.acquire()

    def _read(self) -> _Reading:
        """Return the reading that is under way or was made just now, else a new one."""
        with self._lock:
            known = self._reading
            if known is None or known.is_over(self._clock.monotonic()):
                known = self._reading = _Reading()
                threading.Thread(
                    target=self._fill, args=(known,), name="nuvom-scrape", daemon=True
                ).start()
            return known

    def _fill(self, reading: _Reading) -> None:
        try:
            reading.families = list(self._store.collect())
        except NuvomError as error:  # locked, missing, full: the scrape says partial
            self._bus.emit(BackendFailed("scrape", StoredError(type(error).__name__, error.what)))
        except Exception as error:  # noqa: BLE001  # a backend's code: any failure is only reported
            self._bus.report("Exporter.collect", error)
        finally:
            reading.ended_at = self._clock.monotonic()
            reading.done.set()


class _Reading:
    """One pass over the store, shared by all scrapes that come while it is fresh."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.families: list[Metric] | None = None
        self.ended_at = 0.0

    def is_over(self, now: float) -> bool:
        return self.done.is_set() and now - self.ended_at >= _KEPT_SECS
