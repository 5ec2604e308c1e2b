"""Some lines for each of many equal events, and a count of the rest once a second.

A worker that finishes a hundred thousand jobs a second must neither flood its log nor be
slowed down by it; and no failure may pass without a trace.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.clock import Clock

_SECOND = 1.0


class Bursts:
    """Admits a number of events a second, by word, and reports how many were not.

    A thread runs only while something is held back. ``stop`` reports at once.
    """

    def __init__(self, clock: Clock, report: Callable[[str, int], None]) -> None:
        self._clock = clock
        self._report = report
        self._seen: dict[str, int] = {}
        self._most: dict[str, int] = {}
        self._ends_at = 0.0
        self._reporter: threading.Thread | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def admit(self, word: str, most: int) -> bool:
        """Return whether this is one of the first ``most`` events called ``word`` of a second."""
        with self._lock:
            # Under load a reporter runs and ends the seconds: then this asks no clock.
            if self._reporter is None and self._clock.monotonic() >= self._ends_at:
                self._begin_second()
            seen = self._seen.get(word, 0)
            self._seen[word] = seen + 1
            self._most[word] = most
            if seen < most:
                return True
            if self._reporter is None:
                self._start_reporter()
            return False

    def stop(self) -> None:
        """Report what is held back, and end the thread; twice is fine."""
        with self._lock:
            reporter = self._reporter
            self._stopping.set()
        self._report_held()
        if reporter is not None:
            reporter.join(_SECOND)

    def _begin_second(self) -> None:
        self._seen.clear()
        self._ends_at = self._clock.monotonic() + _SECOND

    def _start_reporter(self) -> None:
        self._stopping = threading.Event()
        self._reporter = threading.Thread(
            target=self._report_each_second,
            args=(self._stopping,),
            name="nuvom-log-counts",
            daemon=True,
        )
        self._reporter.start()

    def _report_each_second(self, stopping: threading.Event) -> None:
        is_held = True
        while is_held:
            self._clock.wait(stopping, _SECOND)
            is_held = self._report_held()

    def _report_held(self) -> bool:
        """Report and forget what is held back; return whether there was anything."""
        with self._lock:
            counts = {word: self._seen[word] - self._most[word] for word in self._seen}
            held = {word: count for word, count in counts.items() if count > 0}
            self._begin_second()
            if not held:
                self._reporter = None
        for word, count in held.items():
            self._report(word, count)
        return bool(held)


class Quiet:
    """Admits one event of a kind, and the next one not before some seconds have passed."""

    def __init__(self, clock: Clock, secs: float) -> None:
        self._clock = clock
        self._secs = secs
        self._until: dict[str, float] = {}
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    def admit(self, kind: str) -> int | None:
        """Return how many were held back since the last one admitted, None to hold this one."""
        with self._lock:
            now = self._clock.monotonic()
            if now < self._until.get(kind, now):
                self._held[kind] = self._held.get(kind, 0) + 1
                return None
            self._until[kind] = now + self._secs
            return self._held.pop(kind, 0)

    def drain(self) -> dict[str, int]:
        """Return and forget how many are held back of each kind."""
        with self._lock:
            held, self._held = self._held, {}
            return held
