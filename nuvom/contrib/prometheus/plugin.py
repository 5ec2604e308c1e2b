"""The Prometheus plugin: a metrics exporter and the HTTP endpoint that Prometheus scrapes."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.registry import Collector

from nuvom.contrib.prometheus.series import ProcessSeries, StoreSeries, gauge, merged
from nuvom.core.record import StoredError
from nuvom.errors import NuvomError
from nuvom.events import BackendFailed
from nuvom.host.lock import FileLock
from nuvom.log import get_logger, log_event
from nuvom.plugins.contracts import Plugin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client.core import Metric

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.events import EventBus
    from nuvom.plugins.contracts import Extras, Inspector, RunningSystem

_LOG = get_logger("nuvom.prometheus")
_TRY_AGAIN_SECS = 5.0
_PATH = "/metrics"
_DEADLINE_SECS = 2.0
_KEPT_SECS = 1.0


class PrometheusPlugin(Plugin):
    """Serves metrics at ``http://prometheus_host:prometheus_port/metrics`` while a worker runs.

    Attributes:
        port: The port it listens on. None while it does not listen, for example because another
            worker has the port; it tries again every few seconds.
    """

    api_version = "1.0"
    name = "prometheus"
    provides = ("monitoring",)

    def __init__(self) -> None:
        self.port: int | None = None
        self._ends: list[Callable[[], None]] = []
        self._stopping = threading.Event()
        self._exporter: Exporter | None = None
        self._thread: threading.Thread | None = None

    def start(self, settings: Settings, extras: Extras) -> None:
        """Subscribe to this process's events; ``update_runtime`` opens the endpoint later."""
        self._stopping.clear()
        self._settings = settings
        self._extras = extras
        self._process = ProcessSeries(extras["events"], extras["clock"])
        self._ends = self._process.subscribe()

    def update_runtime(self, runtime: RunningSystem) -> None:
        """Make the store count events, and open the endpoint."""
        try:
            self._extras["control"].keep_totals()
        except NuvomError as error:  # metrics without counters are better than none
            text = f"no counters of jobs: {error.what}"
            log_event(_LOG, logging.WARNING, "prometheus.no_totals", text)
        self._exporter = Exporter(
            runtime,
            self._extras["inspector"],
            self._process,
            bus=self._extras["events"],
            clock=self._extras["clock"],
        )
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self._exporter)
        if not self._open(level=logging.WARNING):
            self._thread = threading.Thread(
                target=self._keep_trying, name="nuvom-prometheus", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Close the endpoint and unsubscribe."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        while self._ends:
            self._ends.pop()()
        if self.port is not None:
            self._server.shutdown()
            self._server.server_close()
            self.port = None
        if self._exporter is not None:
            self._exporter.close()

    def _open(self, *, level: int) -> bool:
        host, port = self._settings.prometheus_host, self._settings.prometheus_port
        try:
            self._server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            reason = error.strerror or str(error)
            text = f"metrics cannot be served at {host}:{port}: {reason}; it is tried again"
            log_event(_LOG, level, "prometheus.port", text)
            return False
        self._server.set_app(_only_metrics(self._server.get_app()))
        self.port = self._server.server_port
        text = f"metrics are at http://{host}:{self.port}/metrics"
        log_event(_LOG, logging.INFO, "prometheus.serving", text)
        return True

    def _keep_trying(self) -> None:
        """Keep trying to take over the port when another worker ends."""
        clock = self._extras["clock"]
        while not clock.wait(self._stopping, _TRY_AGAIN_SECS):
            if self._open(level=logging.DEBUG):
                return


def _only_metrics(app: WSGIApplication | None) -> WSGIApplication:
    """Return an app that answers 404 for all paths but ``/metrics``, unlike the client's."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if app is not None and environ.get("PATH_INFO") == _PATH:
            return app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"Not found. Metrics are at {_PATH}.\n".encode()]

    return answer


def text_source(
    runtime: RunningSystem, inspector: Inspector, bus: EventBus, clock: Clock
) -> Callable[[], bytes]:
    """Return a function that makes the text of a scrape, for a server of one's own."""
    process = ProcessSeries(bus, clock)
    process.subscribe()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Exporter(runtime, inspector, process, bus=bus, clock=clock))
    return lambda: generate_latest(registry)


# ---- one scrape -------------------------------------------------------------------------


class Exporter(Collector):
    """Collector for a registry of ``prometheus_client``. Scrapes may be concurrent.

    Only one of a project's exporters serves the store's series, so that sums over all exporters
    count each job once. The holder of a lock serves them. When it ends, the next scrape of another
    exporter takes over and continues with the same figures.
    """

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
        """Return all families; the store's only if this exporter serves them and reads in time."""
        families = list(self._process.collect(self._runtime))
        if self._serves_store():
            reading = self._read()
            is_done = self._clock.wait(reading.done, _DEADLINE_SECS)
            found = reading.families if is_done else None
            families.extend(found or ())
            about = "Whether the store's series are missing here."
            families.append(gauge("nuvom_scrape_partial", about, {(): found is None}))
        return merged(families)

    def close(self) -> None:
        """Let another exporter serve the store's series."""
        with self._lock:
            self._turn.release()

    def _serves_store(self) -> bool:
        with self._lock:
            return self._turn.held or self._turn.acquire()

    def _read(self) -> _Reading:
        """Return a reading that is in progress or still fresh, else a new one."""
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
        except NuvomError as error:  # locked, missing, full: the scrape is partial
            self._bus.emit(BackendFailed("scrape", StoredError(type(error).__name__, error.what)))
        except Exception as error:  # noqa: BLE001  # a backend's code: any failure is only reported
            self._bus.report("Exporter.collect", error)
        finally:
            reading.ended_at = self._clock.monotonic()
            reading.done.set()


class _Reading:
    """One pass over the store, shared by all scrapes that arrive while it is fresh."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.families: list[Metric] | None = None
        self.ended_at = 0.0

    def is_over(self, now: float) -> bool:
        return self.done.is_set() and now - self.ended_at >= _KEPT_SECS
