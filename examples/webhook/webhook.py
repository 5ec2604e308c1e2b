"""A plugin that posts what becomes of jobs to an address of yours.

Events are handed to a callback in the thread where they happen, so the callback only puts them
aside; one thread of the plugin's own sends them. A receiver that is slow or gone costs jobs
nothing: at most so many reports wait, and further ones are dropped and counted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import queue
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

from nuvom.events import JobDead, JobFailed, JobSucceeded
from nuvom.plugins.contracts import Plugin
from nuvom.plugins.registry import register_metrics_provider

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.config import Settings
    from nuvom.plugins.contracts import Extras

_LOG = logging.getLogger("webhook")
_MOST_WAITING = 10_000
_POST_LIMIT_SECS = 5.0
_PAUSES_SECS = (0.1, 0.5, 2.0)  # before the second, third and last try
_FLUSH_SECS = 3.0  # at the end; a worker gives stop() five seconds


class WebhookPlugin(Plugin):
    """Posts JSON to ``WEBHOOK_URL``; signs it if there is a ``WEBHOOK_SECRET``.

    Arguments and results stay here: the receiver gets the job's id, and can ask for them.
    """

    api_version = "1.0"
    name = "webhook"
    provides = ("monitoring",)

    def __init__(self) -> None:
        self.counts = {"webhook_sent_total": 0, "webhook_dropped_total": 0}
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self._stopping = threading.Event()
        self._ends: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None

    def start(self, settings: Settings, extras: Extras) -> None:
        """Listen and start to send."""
        del settings
        self._url = os.environ.get("WEBHOOK_URL", "")
        if not self._url.startswith(("http://", "https://")):
            raise ValueError("set WEBHOOK_URL to the address that wants to be told, http(s)://...")
        self._secret = os.environ.get("WEBHOOK_SECRET", "").encode()
        self._clock = extras["clock"]
        self._stopping.clear()
        bus = extras["events"]
        self._ends = [
            bus.subscribe(JobSucceeded, self._succeeded),
            bus.subscribe(JobFailed, self._failed),
            bus.subscribe(JobDead, self._dead),
            register_metrics_provider(self.name, lambda: self.counts),
        ]
        self._thread = threading.Thread(target=self._send_all, name="webhook", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send what still waits, as far as there is time for it."""
        while self._ends:
            self._ends.pop()()
        if self._thread is None:
            return
        self._stopping.set()  # no more pauses
        try:
            self._waiting.put(None, timeout=_FLUSH_SECS)
        except queue.Full:
            _LOG.warning("%d reports were not sent", self._waiting.qsize())
            return
        self._thread.join(_FLUSH_SECS)

    # ---- in the engine's threads: quick ---------------------------------------------------

    def _succeeded(self, event: JobSucceeded) -> None:
        self._put(event, outcome="success", secs=event.duration_secs)

    def _failed(self, event: JobFailed) -> None:
        self._put(event, outcome="failure", secs=event.duration_secs, error=event.error.type)

    def _dead(self, event: JobDead) -> None:
        self._put(event, outcome="dead")

    def _put(self, event: JobSucceeded | JobFailed | JobDead, **more: object) -> None:
        job = event.job
        report = {"id": job.id, "task": job.func_name, "queue": job.queue, **more}
        try:
            self._waiting.put_nowait({**report, "attempt": job.attempt, "at": self._clock.now()})
        except queue.Full:
            self.counts["webhook_dropped_total"] += 1

    # ---- in the plugin's thread -----------------------------------------------------------

    def _send_all(self) -> None:
        while (report := self._waiting.get()) is not None:
            body = json.dumps(report).encode()
            sent = self._post(body) or any(self._try_again(body, secs) for secs in _PAUSES_SECS)
            self.counts["webhook_sent_total" if sent else "webhook_dropped_total"] += 1

    def _try_again(self, body: bytes, secs: float) -> bool:
        self._clock.wait(self._stopping, secs)
        return self._post(body)

    def _post(self, body: bytes) -> bool:
        headers = {"Content-Type": "application/json"}
        if self._secret:
            signature = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
            headers["X-Nuvom-Signature"] = f"sha256={signature}"
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310  # checked in start
        try:
            with urllib.request.urlopen(request, timeout=_POST_LIMIT_SECS):  # noqa: S310  # as above
                return True
        except OSError as error:  # refused, unreachable, or an HTTP error
            _LOG.warning("a report could not be sent: %s", error)
            return False
