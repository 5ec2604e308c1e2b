"""What ``nuvom top --url`` asks of a dashboard, and what it makes of the answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nuvom.contrib.top.sources import ApiSource, ChangeRequest
from nuvom.errors import BackendUnavailable, NuvomError, Refused


class Dashboard(ThreadingHTTPServer):
    """Answers every request with what the test says, and keeps the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.answer, self.location = 200, b"{}", ""
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Dashboard

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(size)) if size else None
        self.server.asked.append((self.command, self.path, body))
        self.server.headers = dict(self.headers)
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_POST = do_GET  # noqa: N815  # what the base class looks for

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which would see the token
    server = Dashboard()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def source(dashboard: Dashboard) -> ApiSource:
    return ApiSource(f"{dashboard.address}/", "t0ken")


def test_it_reads_with_its_token(dashboard: Dashboard, source: ApiSource) -> None:
    dashboard.answer = b'{"schema": "nuvom.jobs/1", "jobs": [{"id": "a"}]}'
    assert source.rows("jobs", "status:FAILED dur>5s", 20) == [{"id": "a"}]
    assert dashboard.asked == [("GET", "/api/v1/jobs?q=status%3AFAILED+dur%3E5s&limit=20", None)]
    assert dashboard.headers["Authorization"] == "Bearer t0ken"
    source.job("a/../b")
    assert dashboard.asked[-1][1] == "/api/v1/jobs/a%2F..%2Fb"
    with pytest.raises(BackendUnavailable, match="no list of workers"):
        source.rows("workers")


def test_it_changes_what_the_user_saw(dashboard: Dashboard, source: ApiSource) -> None:
    source.change(ChangeRequest("jobs", "id-1", "retry", "FAILED"))
    assert dashboard.asked == [("POST", "/api/v1/jobs/id-1/retry", {"status": "FAILED"})]
    assert dashboard.headers["Origin"] == dashboard.address
    dashboard.answer = b'{"id": "id-2"}'
    call = {"args": [2**60], "kwargs": {}}
    assert source.change(ChangeRequest("jobs", "id-1", "repeat", "FAILED", call)) == "id-2"
    assert dashboard.asked[-1][2] == {**call, "status": "FAILED"}
    source.change(ChangeRequest("queues", "mail", "pause"))
    assert dashboard.asked[-1] == ("POST", "/api/v1/queues/mail/pause", {})


@pytest.mark.parametrize(
    ("answered", "error", "text"),
    [
        ((401, b""), Refused, "401"),
        (
            (403, b'{"message": "It is read-only.", "hint": "h"}'),
            Refused,
            "read-",
        ),
        ((409, b'{"message": "Job x is RUNNING now"}'), Refused, "RUNNING now"),
        ((500, b"<html>"), BackendUnavailable, "500"),
        ((302, b""), BackendUnavailable, "elsewhere"),
        ((200, b"<html>"), BackendUnavailable, "not JSON"),
        ((200, b"[]"), BackendUnavailable, "no object"),
    ],
)
def test_an_answer_that_helps_not_is_told(
    dashboard: Dashboard,
    source: ApiSource,
    answered: tuple[int, bytes],
    error: type[NuvomError],
    text: str,
) -> None:
    dashboard.status, dashboard.answer = answered
    dashboard.location = f"{dashboard.address}/elsewhere" if dashboard.status == 302 else ""
    with pytest.raises(error, match=text):
        source.overview()
    assert len(dashboard.asked) == 1  # no redirect is followed: it would get the token


def test_a_dashboard_that_is_gone_is_told() -> None:
    with pytest.raises(BackendUnavailable, match="refused"):
        ApiSource("http://127.0.0.1:9", "").overview()
