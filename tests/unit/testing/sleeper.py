"""A process that says ``up`` and sleeps until it is asked to stop; for tests of ``Victim``."""

from __future__ import annotations

import signal
import threading

stopped = threading.Event()
if hasattr(signal, "SIGTERM"):
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
print("up", flush=True)
stopped.wait(60)
