"""S09, S11, S13: secrets stay where they were given, names call nothing, imports ask no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nuvom.core.record import JobStatus
from nuvom.inspection.inspector import Inspector
from nuvom.testing import make_job
from tests.cli.shell import call, invoke
from tests.engine import Engine

CANARY = "canary-7f3a"
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def project_of_secrets(project: Path) -> Path:
    """Stand in a project whose tasks take a password, and fail with it in a local variable."""
    (project / "tasks.py").write_text(
        "from nuvom import task\n"
        "@task\n"
        "def log_in(user: str, *, password: str) -> str:\n"
        "    return user\n"
        "@task(retries=1, retry_delay_secs=0)\n"
        "def fail(user: str, password: str, more: dict) -> None:\n"
        "    token = password + more['api_key']\n"
        "    raise ValueError(f'{user} failed: password={password} of {len(token)}')\n",
        encoding="utf-8",
    )
    return project


def test_s09_a_secret_argument_appears_nowhere(project_of_secrets: Path) -> None:
    """Not in the log at its most talkative, in no command that shows jobs, in no traceback."""
    calls = (
        ("log_in", "bob", f"password={CANARY}"),
        ("fail", "bob", CANARY, json.dumps({"api_key": CANARY})),
    )
    said = []
    ids = [invoke("run", *one).out.strip() for one in calls]
    worked = call(
        *("runworker", "--burst", "--log-format", "json"),
        cwd=project_of_secrets,
        NUVOM_LOG_LEVEL="DEBUG",
    )
    assert worked.code == 0, worked.err
    said += [worked.out, worked.err]
    for one in ids:
        assert one
        for form in ((), ("--json",), ("--format", "raw")):
            said.append("".join(invoke("inspect", "job", one, *form)[1:]))
    for command in (("history",), ("history", "--json"), ("status", ids[1]), ("errors",)):
        answer = invoke(*command)
        said.append(answer.out + answer.err)
    assert any("ValueError" in one for one in said)
    assert [] == [one for one in said if CANARY in one]


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "nuvom.sdk", "subprocess.run", "__import__", "os:system", "a b"],
)
def test_s11_a_stored_name_calls_nothing_but_a_known_task(engine: Engine, name: str) -> None:
    job = make_job(name, "touch here")
    engine.runtime.queue.enqueue(job)
    before = set(sys.modules)
    engine.work()
    assert Inspector(engine.runtime).snapshot(job.id).status is JobStatus.PARKED
    assert not {one for one in set(sys.modules) - before if name.startswith(one)}


NO_NETWORK = """
import sys
asked = []
sys.addaudithook(lambda event, _: asked.append(event) if event.startswith("socket.") else None)
import nuvom, nuvom.worker, nuvom.cli.cli, nuvom.queue_backends.sqlite
nuvom.task(lambda: None, name="a.b")
print([event for event in asked if event in ("socket.connect", "socket.getaddrinfo")])
"""


def test_s13_importing_asks_no_network(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "[]" == done.stdout.strip()
