"""A Flask project with real processes: every lane and every worker process has the application."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import LIMIT_SECS

ROOT = Path(__file__).resolve().parents[2]
SHOP = """
from flask import Flask
from nuvom.contrib.flask import Nuvom

nuvom = Nuvom()

def create_app(config="production"):
    app = Flask(__name__)
    app.config["PRICES"] = "prices of " + config
    nuvom.init_app(app)

    @app.post("/")
    def send():
        from tasks import in_child, in_coroutine, in_thread
        return [job.id for job in (in_thread.delay(), in_coroutine.delay(), in_child.delay())]

    return app
"""
TASKS = """
import os
from flask import current_app
from nuvom import task

@task
def in_thread():
    return [current_app.config["PRICES"], os.getpid()]

@task
async def in_coroutine():
    return in_thread()

@task(isolation="process")
def in_child():
    return in_thread()
"""
HOOKS = """
from shop import create_app
create_app("a hook")
"""


@pytest.fixture
def shop(project: Path) -> Path:
    for name, text in {"shop": SHOP, "tasks": TASKS, "own_hooks": HOOKS}.items():
        (project / f"{name}.py").write_text(text)
    return project


def python(*args: str, environ: dict[str, str] | None = None) -> str:
    """Run Python in the project and return what it printed."""
    done = subprocess.run(
        [sys.executable, *args],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(text: str) -> Any:
    """Run a program that prints JSON."""
    return json.loads(python("-c", "import json\n" + text))


def post() -> list[str]:
    """Send a request to the application, whose jobs nobody runs yet."""
    ids: list[str] = program(
        "from shop import create_app\nprint(json.dumps(create_app().test_client().post('/').json))"
    )
    return ids


def results(ids: list[str]) -> list[tuple[str, int]]:
    found = program(
        f"import nuvom\nprint(json.dumps([nuvom.Job.load(one).get(0) for one in {ids!r}]))"
    )
    return [(text, pid) for text, pid in found]


def test_flask_nuvom_runs_each_lane_in_contexts_of_the_application(shop: Path) -> None:
    ids = post()
    python("-m", "flask", "--app", "shop:create_app('test')", "nuvom", "runworker", "--burst")
    assert [text for text, _ in results(ids)] == ["prices of test"] * 3


def test_each_worker_process_of_flask_nuvom_has_the_application(shop: Path) -> None:
    ids = post()
    flask = ("-m", "flask", "--app", "shop", "nuvom")
    python(*flask, "runworker", "--burst", "--processes", "2", "--threads", "1")
    assert [text for text, _ in results(ids)] == ["prices of production"] * 3


def test_module_of_hooks_gives_any_worker_the_application(shop: Path) -> None:
    ids = post()
    python("-m", "nuvom", "runworker", "--burst", environ={"NUVOM_HOOKS": "own_hooks"})
    assert [text for text, _ in results(ids)] == ["prices of a hook"] * 3
