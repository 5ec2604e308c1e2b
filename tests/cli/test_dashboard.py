"""``dashboard``: when it starts and when not, and how it ends; and beside ``dev`` and ``demo``."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import click
import httpx
import pytest

from nuvom.cli import demo
from nuvom.config.sources import load
from nuvom.contrib.dashboard import server as served
from nuvom.contrib.dashboard.server import DashboardServer, check_start, start_beside
from nuvom.errors import CannotListen, Refused
from nuvom.runtime import Runtime, build_runtime
from tests.cli.shell import call, invoke, python, run, spawn
from tests.cli.test_worker import end, read_until
from tests.engine import LIMIT_SECS

TOKEN = "0123456789abcdef"


@pytest.fixture
def runtime(project: Path) -> Iterator[Runtime]:
    runtime = build_runtime(load(project))
    yield runtime
    runtime.stop()


@contextmanager
def serving(runtime: Runtime, **options: Any) -> Iterator[DashboardServer]:
    server = DashboardServer(runtime, port=0, **{"answer": "all", **options})
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("host", "token", "refusal"),
    [
        *((host, None, None) for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3")),
        *((host, None, Refused) for host in ("0.0.0.0", "::", "10.0.0.1", "example.com", "")),
        ("0.0.0.0", TOKEN, None),
        ("0.0.0.0", "", click.UsageError),
        ("127.0.0.1", TOKEN[1:], click.UsageError),
    ],
)
def test_others_are_served_only_behind_a_token(
    host: str, token: str | None, refusal: type[Exception] | None
) -> None:
    if refusal is None:
        check_start(host, token)
        return
    with pytest.raises(refusal):
        check_start(host, token)


def test_the_exit_codes_of_a_start_that_fails(project: Path) -> None:
    assert call("dashboard", "--host", "0.0.0.0", cwd=project).code == 8
    assert call("dashboard", cwd=project, NUVOM_DASHBOARD_TOKEN="short").code == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = call("dashboard", "--port", taken.getsockname()[1], cwd=project)
    assert answer.code == 4
    assert "already in use" in answer.err


@pytest.mark.parametrize("missing", ["starlette", "jinja2", "uvicorn"])
def test_without_the_extra_it_says_how_to_install_it(project: Path, missing: str) -> None:
    program = f"""
        import sys
        sys.modules[{missing!r}] = None
        from nuvom.cli.cli import main
        main(["dashboard"])
    """
    answer = python(dedent(program), cwd=project)
    assert answer.code == 4
    assert "pip install 'nuvom[dashboard]'" in answer.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_it_is_read_only_and_ends_with_ctrl_c_while_a_page_listens(tasks: Path) -> None:
    job = run("tasks.add", "1", "2")
    process = spawn("dashboard", "--json", "--port", "0", "--token", TOKEN, cwd=tasks)
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    assert (told["schema"], told["actions"]) == ("nuvom.dashboard/1", False)
    program = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=told["url"], trust_env=False, timeout=LIMIT_SECS) as client:
        assert client.get(told["sign_in"]).status_code == 303
        assert job in client.get("/jobs").text
        answer = client.post(f"/api/v1/jobs/{job}/cancel", json={}, headers=program)
        assert answer.status_code == 403
        with client.stream("GET", "/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 1000"
            process.send_signal(signal.SIGINT)
            list(lines)  # comes to its end
    assert end(process).code == 130


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_dev_serves_it_with_actions_and_stops_it(tasks: Path) -> None:
    process = spawn("dev", cwd=tasks)
    (line,) = [one for one in read_until(process, "Watching").splitlines() if "Dashboard: " in one]
    address = line.removeprefix("Dashboard: ")
    with httpx.Client(trust_env=False, timeout=LIMIT_SECS, follow_redirects=True) as client:
        assert "Actions allowed" in client.get(address).text
    process.send_signal(signal.SIGINT)
    assert end(process).code == 130


def test_the_demo_keeps_it_up_until_a_key_is_pressed(monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[str] = []

    def press() -> str:
        with httpx.Client(trust_env=False, timeout=LIMIT_SECS, follow_redirects=True) as client:
            pages.append(client.get(servers[0].sign_in_url).text)
        return "x"

    def beside(runtime: Runtime) -> DashboardServer:
        servers.append(start_beside(runtime))
        return servers[0]

    servers: list[DashboardServer] = []
    for name, value in (("CRUNCHES", (0.1,)), ("DELAY_SECS", 0.1), ("FIRE_SECS", 0.5)):
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(demo, "_is_watched", lambda _: True)
    monkeypatch.setattr(demo, "dashboard_beside", beside)
    monkeypatch.setattr(click, "getchar", press)
    answer = invoke("demo")
    assert answer.code == 0, answer.err
    assert "Actions allowed" in pages[0]
    with pytest.raises(httpx.ConnectError):
        press()


# ---- the server -----------------------------------------------------------------------------


def test_another_port_is_taken_beside_other_work(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(served, "PORT", taken.getsockname()[1])
        with pytest.raises(CannotListen):
            DashboardServer(runtime, port=served.PORT, answer="all")
        server = start_beside(runtime)
        assert server.port != served.PORT
        server.stop()


def test_who_sends_headers_too_slowly_is_not_waited_for(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "_HEADER_SECS", 0.0)
    with serving(runtime) as server, socket.create_connection(("127.0.0.1", server.port)) as line:
        line.settimeout(LIMIT_SECS)
        assert line.recv(1) == b""


def test_a_body_that_nobody_reads_any_more_is_not_waited_for(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(runtime) as server, socket.create_connection(("127.0.0.1", server.port)) as line:
        line.settimeout(LIMIT_SECS)
        host = f"Host: 127.0.0.1:{server.port}".encode()
        line.sendall(b"POST /signin HTTP/1.1\r\n" + host + b"\r\nContent-Length: 9\r\n\r\n")
        assert line.recv(12) == b"HTTP/1.1 403"
        monkeypatch.setattr(served, "_HEADER_SECS", 0.0)
        line.sendall(b"x")
        while line.recv(4096):
            pass


def test_a_server_for_all_addresses_answers_under_its_names(
    runtime: Runtime,
) -> None:
    with serving(runtime, token=TOKEN, hosts=["jobs.example.com"]) as server:
        url = f"http://127.0.0.1:{server.port}/healthz"
        with httpx.Client(trust_env=False, timeout=LIMIT_SECS) as client:
            for host, status in (("jobs.example.com", 200), ("other.example.com", 421)):
                headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
                assert client.get(url, headers=headers).status_code == status
