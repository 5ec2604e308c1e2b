"""A project with its dashboard and its worker as processes, and a hand in its store."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from nuvom.cli.processes import own_command
from nuvom.core.record import JobSnapshot, JobStatus, StoredError
from nuvom.inspection.inspector import Inspector
from nuvom.queue_backends.store import StoreQueue
from nuvom.testing import make_job, make_settlement
from tests.engine import make_runtime, wait_until

try:
    from playwright.sync_api import expect as expect  # noqa: PLC0414  # for the tests
except ModuleNotFoundError:  # each test is then skipped, loudly, by the fixture ``browser``
    expect = None  # type: ignore[assignment]
else:
    expect.set_options(timeout=20_000)  # reached only where something is broken

TOKEN = "the-token-of-the-browser-tests"
LIMIT_SECS = 60
TASKS = '''\
"""Tasks of a project that a browser looks at."""

from pathlib import Path
from threading import Event

from nuvom import task


@task
def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


@task
def hold(until: str) -> str:
    """Run until a file is there."""
    while not Path(until).exists():
        Event().wait(0.02)
    return "ended"


@task(schedule="0 3 * * *", timezone_name="Europe/Berlin")
def report() -> str:
    """Report, each night."""
    return "sent"
'''


class Serving:
    """A project that is served.

    Attributes:
        root: Its folder.
        queue: Its store, shared with the processes.
        inspector: Reads what the processes have done.
        address: Of the dashboard, which allows actions.
        sign_in: The address that works once; nobody has used it yet.
        cookies: Of somebody who has signed in.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = self.sign_in = ""
        self.cookies: list[Any] = []
        self._processes: list[subprocess.Popen[str]] = []
        (root / "tasks.py").write_text(TASKS, encoding="utf-8")
        assert self.spawn("discover", "tasks").wait(LIMIT_SECS) == 0
        self.runtime = make_runtime(root, queue_backend="sqlite", result_backend="sqlite")
        assert isinstance(self.runtime.queue, StoreQueue)
        self.queue = self.runtime.queue
        self.inspector = Inspector(self.runtime)

    # ---- processes ------------------------------------------------------------------------

    def spawn(self, *args: str) -> subprocess.Popen[str]:
        """Start a command of Nuvom in the project."""
        return self.start(own_command(*args))

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a program in the project; what it says is in the file ``log``."""
        ours = {name: text for name, text in os.environ.items() if not name.startswith("NUVOM_")}
        with (self.root / "log").open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                command, cwd=self.root, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**ours, "HOME": str(self.root), "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        self._processes.append(process)
        return process

    def serve(self, *options: str) -> tuple[str, str]:
        """Start a dashboard; return its address, and the one that lets somebody in once."""
        process = self.spawn("dashboard", "--json", "--port=0", f"--token={TOKEN}", *options)
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        return said["url"], said["sign_in"]

    def work(self, *options: str) -> subprocess.Popen[str]:
        """Start a worker; return it once it has announced itself."""
        process = self.spawn("runworker", *options)
        wait_until(lambda: process.pid in {one.pid for one in self.queue.workers()})
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        """Kill a process, as a crash would."""
        process.kill()
        process.wait(LIMIT_SECS)

    def stop(self) -> None:
        """End everything."""
        for process in self._processes:
            self.end(process)
            if process.stdout is not None:
                process.stdout.close()
        self.runtime.stop()

    # ---- the store ------------------------------------------------------------------------

    def add(self, task: str = "tasks.add", *args: Any, **fields: Any) -> str:
        """Enqueue a job; return its id."""
        job = make_job(task, *args, **fields)
        self.queue.enqueue(job)
        return job.id

    def add_ended(
        self, queue: str, statuses: Sequence[JobStatus], task: str = "tasks.add", **fields: Any
    ) -> list[str]:
        """Store jobs of a queue without a worker that have ended; return their ids.

        Args:
            fields: Of their settlements.
        """
        jobs = [make_job(task, at, 1, queue=queue) for at, _ in enumerate(statuses)]
        self.queue.enqueue_many(jobs)
        wanted = dict(zip((one.id for one in jobs), statuses, strict=True))
        claimed = self.queue.claim(len(jobs), "worker-of-the-test", queues=(queue,))
        ended = [make_settlement(one, wanted[one.id], **fields) for one in claimed]
        assert all(self.queue.settle(ended))
        return list(wanted)

    def see(self, job_id: str) -> JobSnapshot:
        """Return a job as it is stored now."""
        return self.inspector.snapshot(job_id)

    def wait_for(self, job_id: str, status: JobStatus) -> None:
        """Wait until a job has a status."""
        wait_until(lambda: self.see(job_id).status is status)


def free_port() -> int:
    """Return a port for a program that has to be told one."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def failure(message: str = "no", fingerprint: str = "ValueError:tasks.add") -> StoredError:
    """Return an error as a worker stores it."""
    trace = f'Traceback (most recent call last):\n  File "tasks.py", line 10, in add\n{message}'
    return StoredError("ValueError", message, trace, fingerprint)


@contextmanager
def serve(root: Path, *, works: bool = True) -> Iterator[Serving]:
    """Serve a new project.

    Args:
        works: Whether a worker runs; it serves the queues ``default``, ``run`` and ``run-paused``.
    """
    serving = Serving(root)
    try:
        if works:
            serving.work("--queues", "default,run,run-paused")
        serving.address, serving.sign_in = serving.serve("--allow-actions")
        serving.cookies = signed_in(serving.address)
        yield serving
    finally:
        serving.stop()


def signed_in(address: str) -> list[Any]:
    """Return the cookies of somebody who has signed in with the token."""
    with httpx.Client(trust_env=False) as client:
        answer = client.get(f"{address}/signin", params={"token": TOKEN})
        assert answer.status_code == 303, answer.text
        host = urlsplit(address).hostname or ""
        return [
            {"name": name, "value": value, "domain": host, "path": "/"}
            for name, value in client.cookies.items()
        ]
