"""How fast the dashboard answers over a large store under work, and what memory it takes.

    python -m tests.lab.seeded PATH --jobs 1000000
    python -m tests.lab.dashboard_load PATH

asks for each page and endpoint again and again, while another process enqueues jobs and a worker
runs them, and fails if the 95th percentile of one is above 150 ms, or if memory keeps growing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

from nuvom.cli.processes import own_command
from nuvom.core.clock import SYSTEM_CLOCK

TOKEN = "a token for a measurement"
LIMIT_MS = 150.0
GROWTH_MB = 16.0
_FEED = """
import sys, time
sys.path.insert(0, ".")
from shop.mail import remind
while True:
    remind.map([(number,) for number in range(500)])
    time.sleep(1)
"""
SEARCHES = (
    "status:FAILED",
    "status:DEAD,PARKED",
    "task:shop.images.resize",
    "queue:search status:SUCCESS",
    "status:PENDING queue:mail",
    "TimeoutError",
    "args.order_id:77",
    "tag:weekly dur>2s",
    "-status:SUCCESS after:24h",
)


@contextmanager
def running(folder: Path, *command: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Have a process at work in the project."""
    process = subprocess.Popen(
        command, cwd=folder, text=True, env={**os.environ, "NUVOM_LOG_LEVEL": "ERROR"}, **options
    )  # type: ignore[call-overload]  # Popen's many forms
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


class Client:
    """One connection that stays open."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)

    def get(self, path: str) -> tuple[float, int, str]:
        """Return how many milliseconds an answer took, its status and text."""
        began = SYSTEM_CLOCK.monotonic()
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = self._connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        return (SYSTEM_CLOCK.monotonic() - began) * 1000, answer.status, text


def places(client: Client) -> list[str]:
    """Return what to ask for: each page, one thing of each kind, and the API."""
    jobs = json.loads(client.get("/api/v1/jobs?q=status:FAILED&limit=5")[2])["jobs"]
    failed = jobs[0]["id"]
    group = re.findall(r'href="(/errors\?[^"]*show=[^"]*)"', client.get("/errors")[2])[:1]
    pages = ["/", "/?window=24h", "/?window=7d", "/jobs", f"/jobs?before={failed}", "/errors"]
    pages += [f"/jobs?q={search.replace(' ', '+')}" for search in SEARCHES]
    pages += [f"/jobs/{failed}", *(one.replace("&amp;", "&") for one in group)]
    pages += ["/queues", "/queues/mail", "/workers", "/schedules", "/tasks", "/tasks?window=7d"]
    pages += ["/tasks/shop.mail.remind", "/audit", "/system", "/healthz", "/readyz", "/metrics"]
    listed = ("overview", "jobs", "queues", "workers", "schedules", "errors", "tasks")
    return pages + [f"/api/v1/{name}" for name in listed] + [f"/api/v1/jobs/{failed}"]


def rss_mb(process: subprocess.Popen[str]) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def measure(client: Client, rounds: int) -> bool:
    """Print the times of each place; return whether all are within the limit."""
    times: dict[str, list[float]] = {place: [] for place in places(client)}
    for _ in range(rounds):
        for place, found in times.items():
            took, status, _ = client.get(place)
            assert status in (200, 404), f"{status} for {place}"
            found.append(took)
    is_fast = True
    for place, found in times.items():
        p95 = quantiles(found, n=20)[-1]
        is_fast = is_fast and p95 < LIMIT_MS
        mark = "" if p95 < LIMIT_MS else "  TOO SLOW"
        print(f"{quantiles(found, n=2)[0]:8.1f} {p95:8.1f} {max(found):8.1f}  {place}{mark}")
    return is_fast


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.dashboard_load")
    parser.add_argument("path", type=Path, help="a project that tests.lab.seeded has made")
    parser.add_argument("--rounds", type=int, default=40, help="requests for each place")
    parser.add_argument("--requests", type=int, default=10_000, help="requests for the memory")
    given = parser.parse_args(arguments)
    nuvom = own_command("dashboard", "--json", "--port", "0", "--token", TOKEN, "--allow-actions")
    with (
        running(given.path, *own_command("runworker", "--quiet")),
        running(given.path, sys.executable, "-c", _FEED),
        running(given.path, *nuvom, stdout=subprocess.PIPE) as server,
    ):
        assert server.stdout is not None
        client = Client(json.loads(server.stdout.readline())["url"])
        print("     p50      p95      max  ms")
        is_fast = measure(client, given.rounds)
        asked = places(client)
        before, began = rss_mb(server), SYSTEM_CLOCK.monotonic()
        for number in range(given.requests):
            if number == given.requests // 2:
                before = rss_mb(server)  # after caches have filled
            client.get(asked[number % len(asked)])
        after, took = rss_mb(server), SYSTEM_CLOCK.monotonic() - began
        print(f"{given.requests:,} requests in {took:.0f} s: {before:.1f} MB, then {after:.1f} MB")
    return 0 if is_fast and after - before < GROWTH_MB else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
