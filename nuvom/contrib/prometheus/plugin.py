"""The plugin: an exporter of metrics, and the HTTP endpoint that Prometheus scrapes."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server

from nuvom.contrib.prometheus.exporter import Exporter
from nuvom.contrib.prometheus.series import ProcessSeries
from nuvom.errors import NuvomError
from nuvom.log import get_logger, log_event
from nuvom.plugins.contracts import Plugin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from nuvom.config.settings import Settings
    from nuvom.plugins.contracts import Extras, RunningSystem

_LOG = get_logger("nuvom.prometheus")
_TRY_AGAIN_SECS = 5.0
_PATH = "/metrics"


class PrometheusPlugin(Plugin):
    """Serves metrics at ``http://prometheus_host:prometheus_port/metrics`` while a worker runs.

    Attributes:
        port: Where it listens; None while it does not, for example because another worker has
            the port. It is tried again every few seconds.
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
        """Listen to what happens in this process; the endpoint comes with the store."""
        self._stopping.clear()
        self._settings = settings
        self._extras = extras
        self._process = ProcessSeries(extras["events"], extras["clock"])
        self._ends = self._process.subscribe()

    def update_runtime(self, runtime: RunningSystem) -> None:
        """Have the store count, and open the endpoint."""
        try:
            self._extras["control"].keep_totals()
        except NuvomError as error:  # metrics without counters are better than none
            text = f"no counters of jobs: {error.what}"
            log_event(_LOG, logging.WARNING, "prometheus.no_totals", text)
        clock = self._extras["clock"]
        self._exporter = Exporter(
            runtime,
            self._extras["inspector"],
            self._process,
            bus=self._extras["events"],
            clock=clock,
        )
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self._exporter)
        if not self._open(level=logging.WARNING):
            self._thread = threading.Thread(
                target=self._keep_trying, name="nuvom-prometheus", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Close the endpoint and stop listening."""
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
        """Take over the port of a worker that ends."""
        clock = self._extras["clock"]
        while not clock.wait(self._stopping, _TRY_AGAIN_SECS):
            if self._open(level=logging.DEBUG):
                return


def _only_metrics(app: WSGIApplication | None) -> WSGIApplication:
    """Return what answers 404 to every path but ``/metrics``, which the client does not do."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if app is not None and environ.get("PATH_INFO") == _PATH:
            return app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"Not found. Metrics are at {_PATH}.\n".encode()]

    return answer
