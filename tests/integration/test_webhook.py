"""The webhook example, with a receiver on this machine: what is told, signed, and survived."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.shell import call
from tests.engine import LIMIT_SECS

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "webhook"
TASKS = """
import nuvom

@nuvom.task
def divide(x: int, y: int) -> float:
    return x / y
"""
PLUGIN_FILE = '[plugins]\nmonitoring = ["webhook:WebhookPlugin"]\n'


@contextmanager
def receiving(refuses: int = 0) -> Iterator[tuple[list[tuple[dict[str, str], bytes]], str]]:
    """Give what is posted, and the address; the first ``refuses`` requests are refused."""
    posts: list[tuple[dict[str, str], bytes]] = []
    answers = iter([503] * refuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = next(answers, 204)
            if answer == 204:
                posts.append((dict(self.headers), body))
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield posts, f"http://127.0.0.1:{server.server_port}/jobs"
        server.shutdown()
        thread.join(LIMIT_SECS)


@pytest.fixture
def place(project: Path) -> Path:
    shutil.copy(EXAMPLE / "webhook.py", project)
    (project / "tasks.py").write_text(TASKS)
    for file in (project / ".nuvom_plugins.toml", project):
        if file != project:
            file.write_text(PLUGIN_FILE)
        file.chmod(0o700)
    return project


def test_what_ends_is_told_and_signed_even_if_the_receiver_first_fails(place: Path) -> None:
    for number in ("2", "0"):
        assert 0 == call("run", "tasks.divide", "6", number, cwd=place).code
    with receiving(refuses=1) as (posts, url):
        env = {"WEBHOOK_URL": url, "WEBHOOK_SECRET": "key"}
        done = call("runworker", "--burst", cwd=place, **env)
    assert 0 == done.code, done.err
    told = {report["outcome"]: report for report in (json.loads(body) for _, body in posts)}
    assert {"success", "failure"} == set(told)
    assert "ZeroDivisionError" == told["failure"]["error"]
    assert "tasks.divide" == told["success"]["task"]
    for headers, body in posts:
        signature = hmac.new(b"key", body, hashlib.sha256).hexdigest()
        assert f"sha256={signature}" == headers["X-Nuvom-Signature"]
        assert b"args" not in body


def test_without_an_address_the_plugin_says_so_and_the_worker_works(place: Path) -> None:
    assert 0 == call("run", "tasks.divide", "6", "2", cwd=place).code
    done = call("runworker", "--burst", cwd=place)
    assert 0 == done.code
    assert "WEBHOOK_URL" in done.err
    assert "after 1 job" in done.out + done.err


def test_it_keeps_the_laws_of_a_plugin(place: Path) -> None:
    with receiving() as (_, url):
        done = call("plugin", "test", "webhook.py", cwd=place, WEBHOOK_URL=url)
    assert 0 == done.code, done.out + done.err
