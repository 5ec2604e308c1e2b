"""Applications under uvicorn: whatever happens to servers and clients, no job is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.shell import LIMIT_SECS, end_spawned, spawned
from tests.engine import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, and sockets with names")

ROOT = Path(__file__).resolve().parents[2]
SOCKET = "server.sock"  # in the working directory: no port that somebody else takes
TRIAL = """
import asyncio, os
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

import nuvom
from trial_tasks import add, hold

app = FastAPI(lifespan=nuvom.asgi.lifespan(embedded_workers=int(os.environ["EMBEDDED"])))

@app.get("/pid")
def pid():
    return os.getpid()

@app.post("/add/{number}")
async def store(number: int):
    return (await add.adelay(number, 1)).id

@app.post("/hold")
async def keep():
    return (await hold.adelay()).id

@app.get("/wait")
async def wait():
    job = await hold.adelay()

    async def parts():
        yield job.id
        try:
            await job
        except asyncio.CancelledError:
            Path("hung_up").touch()
            raise

    return StreamingResponse(parts())
"""
TASKS = """
import time
from pathlib import Path
from nuvom import task

@task
def add(x: int, y: int) -> int:
    return x + y

@task
def hold() -> str:
    Path("holding").touch()
    while not Path("let_go").exists():
        time.sleep(0.01)
    return "let go"
"""
HOLDS_ON = """
import time
from pathlib import Path
import tasks

class Counter(tasks.Counter):
    def update(self, words=()):
        super().update(words)
        while self.total() > 1000 and not Path("let_go").exists():
            time.sleep(0.01)

tasks.Counter = Counter
"""


@pytest.fixture
def trial(project: Path) -> Path:
    (project / "trial.py").write_text(TRIAL)
    (project / "trial_tasks.py").write_text(TASKS)
    return project


@contextmanager
def server(app: str, *options: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a server in the working directory until the end of the block, with a log."""
    command = [sys.executable, "-m", "uvicorn", app, "--uds", SOCKET, *options]
    given = {"PYTHONPATH": str(ROOT), "NUVOM_SHUTDOWN_TIMEOUT_SECS": "0.2", "EMBEDDED": "0"}
    with open("server.log", "a") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **given, **environ},
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    spawned.append(process)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LIMIT_SECS)
        finally:
            end_spawned()


def client(**options: Any) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=SOCKET, retries=0)
    return httpx.Client(
        transport=transport, base_url="http://shop.test", timeout=LIMIT_SECS, **options
    )


def log() -> str:
    return Path("server.log").read_text()


def answers() -> bool:
    """Return whether a server takes requests."""
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(SOCKET) == 0


def ended_jobs(ids: list[str]) -> list[Any]:
    """Return the results of these jobs, which are all that the store has, after a worker's run."""
    program = (
        "import json, nuvom\nfrom nuvom.inspection.inspector import Inspector\n"
        "from nuvom.runtime import current_runtime\n"
        "print(json.dumps({one.record.id: nuvom.Job.load(one.record.id).get(0)\n"
        "    for one in Inspector(current_runtime()).page(limit=10_000)}))"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    for args in (["-m", "nuvom", "runworker", "--burst"], ["-c", program]):
        done = subprocess.run(
            [sys.executable, *args],
            env=environ,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert sorted(found) == sorted(ids), "jobs were lost, or stored twice"
    return [found[one] for one in ids]


def test_two_server_processes_lose_no_job_and_warn_of_embedded_workers(trial: Path) -> None:
    with server("trial:app", "--workers", "2", EMBEDDED="1"):
        wait_until(lambda: log().count("Application startup complete") == 2)

        def post(number: int) -> str:
            with client() as one:
                job: str = one.post(f"/add/{number}").raise_for_status().json()
                return job

        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(post, range(60)))
        assert "RuntimeWarning: Another process also runs embedded workers" in log()
    assert ended_jobs(ids) == list(range(1, 61))


def test_shutdown_in_the_middle_of_a_job_hands_it_back(trial: Path) -> None:
    with server("trial:app", EMBEDDED="1") as process:
        wait_until(answers)
        with client() as one:
            ids = [one.post("/hold").json()]
            ids += [one.post(f"/add/{number}").json() for number in range(20)]
        wait_until(Path("holding").exists)
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_SECS)
    assert "Application shutdown complete" in log()
    Path("let_go").touch()
    assert ended_jobs(ids) == ["let go", *range(1, 21)]


def test_client_that_hangs_up_cancels_the_wait_and_not_the_job(trial: Path) -> None:
    with server("trial:app", EMBEDDED="1"):
        wait_until(answers)
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(SOCKET)
            raw.sendall(b"GET /wait HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            reader = raw.makefile("rb")
            while reader.readline() not in (b"\r\n", b""):  # the head of the answer
                pass
            size = int(reader.readline(), 16)
            job = reader.read(size).decode()
            wait_until(Path("holding").exists)
            reader.close()
        wait_until(Path("hung_up").exists)
        Path("let_go").touch()
    assert ended_jobs([job]) == ["let go"]


@pytest.mark.slow
def test_reload_in_the_middle_of_a_job_runs_it_again(trial: Path) -> None:
    with server("trial:app", "--reload", EMBEDDED="1"), client() as one:
        wait_until(answers)
        before = one.get("/pid").json()
        ids = [one.post("/hold").json(), one.post("/add/1").json()]
        wait_until(Path("holding").exists)
        Path("holding").unlink()
        Path("trial.py").write_text(TRIAL + "# changed\n")
        wait_until(Path("holding").exists)  # in the next process
        assert one.get("/pid").json() != before
        ids.append(one.post("/add/2").json())
        Path("let_go").touch()
    assert ended_jobs(ids) == ["let go", 2, 3]


def test_embedded_worker_that_cannot_start_keeps_the_server_from_starting(trial: Path) -> None:
    with server("trial:app"):
        wait_until(answers)
        with client() as one:
            ids = [one.post("/add/1").json()]
    Path("not_a_file").mkdir()
    with server("trial:app", EMBEDDED="1", NUVOM_SQLITE_PATH="not_a_file") as process:
        assert process.wait(LIMIT_SECS) == 3
    assert "BackendUnavailable" in log()
    assert "Application startup failed" in log()
    assert ended_jobs(ids) == [2]


def test_example_counts_words_behind_a_proxy_with_a_path(project: Path) -> None:
    for name in ("service.py", "tasks.py"):
        shutil.copy(ROOT / "examples" / "fastapi" / name, name)
    Path("hooks.py").write_text(HOLDS_ON)
    environ = {"EMBEDDED_WORKERS": "1", "NUVOM_HOOKS": "hooks"}
    with server("service:app", "--root-path", "/words", **environ):
        wait_until(answers)
        with client() as one:
            text = {"text": "to be or not to be " * 2000, "most": 2}
            headers = {"Idempotency-Key": "hamlet"}
            sent = [one.post("/texts", json=text, headers=headers) for _ in range(2)]
            (job,) = {answer.json()["id"] for answer in sent}
            assert [202, 202] == [answer.status_code for answer in sent]
            place = f"http://shop.test/words/jobs/{job}"
            assert sent[0].headers["location"] == place
            wait_until(lambda: one.get(f"/jobs/{job}").json()["done"] == 1000)
            view = one.get(f"/jobs/{job}").json()
            assert (view["status"], view["total"]) == ("RUNNING", 12000)
            assert one.get(f"/jobs/{job}/result").status_code == 409
            Path("let_go").touch()
            found = one.get(f"/jobs/{job}/result", params={"wait": 30})
            assert found.json() == {"to": 4000, "be": 4000}
            assert one.get(f"/jobs/{job}").json()["status"] == "SUCCESS"
            assert one.delete(f"/jobs/{job}").json() == {"cancelled": False}
            assert one.get("/jobs/none").status_code == 404
    assert ended_jobs([job]) == [{"to": 4000, "be": 4000}]
