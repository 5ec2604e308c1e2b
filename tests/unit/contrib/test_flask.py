"""Jobs in contexts of Flask applications: one each, of the right one, torn down in any case."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from flask import Flask, current_app, g, has_app_context, has_request_context

from nuvom import JobFailed, local_worker, task
from nuvom.cli import processes
from nuvom.config.sources import load
from nuvom.contrib import flask as flask_module
from nuvom.contrib.flask import AppContexts, Nuvom
from nuvom.events import default_bus
from nuvom.runtime import build_runtime
from tests.engine import LIMIT_SECS, in_use, untraced

Closed = SimpleQueue[tuple[str, BaseException | None]]


@task(name="tests.flask.visit")
def visit() -> tuple[str, int]:
    g.visits = g.get("visits", 0) + 1
    assert not has_request_context()
    return current_app.name, g.visits


@task(name="tests.flask.avisit")
async def avisit() -> tuple[str, int]:
    g.visits = g.get("visits", 0) + 1
    return current_app.name, g.visits


@task(name="tests.flask.fail")
def fail() -> None:
    raise ValueError(current_app.name)


@task(name="tests.flask.hang", timeout_secs=0.05)
def hang() -> None:
    while True:
        threading.Event().wait(0.01)


@pytest.fixture(autouse=True)
def _store(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(flask_module, "contexts", AppContexts())
    monkeypatch.setattr(default_bus, "middleware", ())
    memory = {"queue_backend": "memory", "result_backend": "memory"}
    with in_use(build_runtime(load(project, overrides=memory))), local_worker(threads=2):
        yield


@pytest.fixture
def closed() -> Closed:
    return SimpleQueue()


def make_app(name: str, closed: Closed | None = None) -> Flask:
    """Return an application as a factory makes it; it tells which contexts are torn down."""
    app = Flask(name)
    Nuvom().init_app(app)

    @app.teardown_appcontext
    def tell(error: BaseException | None) -> None:
        if closed is not None:
            closed.put((app.name, error))

    return app


@pytest.mark.parametrize("task", [visit, avisit], ids=["thread", "async"])
def test_each_job_has_a_context_of_its_own(task: Any, closed: Closed) -> None:
    make_app("shop", closed)
    assert [task.delay().get(LIMIT_SECS) for _ in range(3)] == [("shop", 1)] * 3
    assert [closed.get(timeout=LIMIT_SECS) for _ in range(3)] == [("shop", None)] * 3
    assert not has_app_context()


def test_context_of_a_job_that_fails_is_torn_down_with_the_exception(closed: Closed) -> None:
    make_app("shop", closed)
    with pytest.raises(JobFailed, match="shop"):
        fail.delay().get(LIMIT_SECS)
    name, error = closed.get(timeout=LIMIT_SECS)
    assert name == "shop"
    assert isinstance(error, ValueError)


@untraced
def test_context_of_a_job_that_times_out_is_torn_down(closed: Closed) -> None:
    make_app("shop", closed)
    with pytest.raises(JobFailed, match="timed out"):
        hang.delay().get(LIMIT_SECS)
    name, error = closed.get(timeout=LIMIT_SECS)
    assert (name, error is None) == ("shop", False)


def test_teardown_that_fails_changes_no_outcome() -> None:
    app = make_app("shop")

    @app.teardown_appcontext
    def break_off(error: BaseException | None) -> None:
        raise RuntimeError("not closed")

    assert visit.delay().get(LIMIT_SECS) == ("shop", 1)
    assert "AppContexts.running" in default_bus.failures


def test_job_runs_in_a_context_of_the_app_that_sent_it() -> None:
    apps = [make_app(name) for name in ("shop", "blog")]
    for app in apps:
        with app.app_context():
            assert visit.delay().get(LIMIT_SECS) == (app.name, 1)
            assert [job.get(LIMIT_SECS) for job in visit.map([(), ()])] == [(app.name, 1)] * 2
    with pytest.raises(JobFailed, match="outside of application context"):
        visit.delay().get(LIMIT_SECS)


def test_only_app_here_runs_jobs_of_an_app_that_has_another_name_there() -> None:
    make_app("worker")
    with Flask("web").app_context():
        assert visit.delay().get(LIMIT_SECS) == ("worker", 1)


def test_app_that_is_made_again_takes_the_place_of_the_first() -> None:
    first: Closed = SimpleQueue()
    second: Closed = SimpleQueue()
    make_app("shop", first)
    make_app("shop", second)
    assert visit.delay().get(LIMIT_SECS) == ("shop", 1)
    assert second.get(timeout=LIMIT_SECS) == ("shop", None)
    assert first.empty()
    assert len(default_bus.middleware) == 1


def test_commands_of_nuvom_are_commands_of_flask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "launcher", None)
    runner = make_app("shop").test_cli_runner()
    done = runner.invoke(args=["nuvom", "--version"])
    assert (done.exit_code, done.output[:6]) == (0, "nuvom ")
    done = runner.invoke(args=["nuvom", "history", "--limit", "many"])
    assert done.exit_code == 2
