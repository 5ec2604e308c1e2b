"""Metrics of a real worker, as users switch them on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.engine import wait_until

PLUGIN_FILE = """
[plugins]
monitoring = ["nuvom.contrib.prometheus:PrometheusPlugin"]
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def scrape(port: int) -> str:
    """Return what is served at ``port``, or nothing while nobody serves."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_a_worker_serves_metrics_when_the_plugin_file_says_so(project: Path) -> None:
    plugin_file = project / ".nuvom_plugins.toml"
    plugin_file.write_text(PLUGIN_FILE)
    plugin_file.chmod(0o600)
    project.chmod(0o700)
    port = free_port()
    worker = subprocess.Popen(
        [sys.executable, "-m", "nuvom", "runworker"],
        cwd=project,
        env={**os.environ, "NUVOM_PROMETHEUS_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: 'nuvom_workers{state="alive"} 1.0' in scrape(port))
    finally:
        worker.terminate()
        printed, _ = worker.communicate(timeout=60)
    assert "prometheus" in printed
    assert f"http://127.0.0.1:{port}/metrics" in printed
    assert "" == scrape(port)
