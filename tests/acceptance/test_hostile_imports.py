"""Modules of tasks that hang, raise what ends programs, or end their process at import."""

from __future__ import annotations

import builtins
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuvom.core.record import JobStatus
from nuvom.discovery.auto_register import add_import_roots, load_task
from nuvom.discovery.importer import Importer
from nuvom.discovery.scan import scan
from nuvom.events import JobParked
from nuvom.registry import registry as registry_module
from tests.cli.shell import call, invoke, spawn
from tests.cli.test_worker import end, until
from tests.engine import Engine, make_runtime

TASK = "from nuvom import task\n@task\ndef {0}(): return '{0}'\n"
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Give what a module waits for."""
    event = threading.Event()
    monkeypatch.setattr(builtins, "held", event, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield event
    event.set()
    for name in ("slow_tasks", "quick_tasks"):
        sys.modules.pop(name, None)


def enqueue(name: str) -> str:
    return invoke("run", name, "-q").out.strip()


def status(job: str) -> str:
    return str(invoke("status", job, "--json").json["status"])


def test_a_module_that_raises_what_ends_programs_is_a_failed_import(project: Path) -> None:
    errors = {"a": "KeyboardInterrupt", "b": "SystemExit", "c": "GeneratorExit"}
    for name in (*errors, "good"):
        (project / f"{name}_tasks.py").write_text(TASK.format(name))
    invoke("discover")
    jobs = [enqueue(name) for name in (*errors, "good")]
    for name, error in errors.items():
        with (project / f"{name}_tasks.py").open("a") as file:
            file.write(f"raise {error}\n")
    answer = call("runworker", "--burst", cwd=project)
    assert answer.code == 0, answer.err
    assert [status(job) for job in jobs] == ["PARKED"] * 3 + ["SUCCESS"]
    for name, error in errors.items():
        assert f"could not be loaded from {name}_tasks: {error}" in answer.err


def test_a_module_that_hangs_holds_up_no_other_task(
    project: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "slow_tasks.py").write_text("held.wait(60)\n" + TASK.format("slow"))
    (project / "quick_tasks.py").write_text(TASK.format("quick"))
    add_import_roots(project)
    importer = Importer(named_secs=0.02, limit_secs=0.05)
    with Engine(make_runtime(project)) as engine:
        monkeypatch.setattr(registry_module, "_default", engine.runtime.registry)
        listed = scan(project, use_cache=False).tasks
        slow = engine.task(lambda: None, name="slow_tasks.slow").delay()
        quick = engine.task(lambda: None, name="quick_tasks.quick").delay()
        for name in ("slow_tasks.slow", "quick_tasks.quick"):
            engine.runtime.registry.unregister(name)
        engine.runtime.registry.add_manifest(
            listed, lambda entry: load_task(entry, project, importer)
        )
        with engine.worker(burst=True) as worker:
            assert quick.get(30) == "quick"
            assert "still being imported" in engine.wait_for(JobParked).reason
            assert slow.refresh().status is JobStatus.PARKED
            held.set()
            assert slow.get(30) == "slow"
            assert worker.join(30)


@posix
@pytest.mark.timeout(120)
def test_a_module_that_ends_its_process_is_named_and_its_job_is_dead_in_the_end(
    project: Path,
) -> None:
    (project / "deadly_tasks.py").write_text(TASK.format("deadly"))
    (project / "good_tasks.py").write_text(TASK.format("good"))
    (project / "nuvom.toml").write_text("max_deliveries = 2\n")
    invoke("discover")
    with (project / "deadly_tasks.py").open("a") as file:
        file.write("import os\nos._exit(3)\n")
    deadly = enqueue("deadly")
    process = spawn("runworker", "--processes", "2", cwd=project)
    until(lambda: status(deadly) == "DEAD")
    good = enqueue("good")
    until(lambda: status(good) == "SUCCESS")
    process.send_signal(signal.SIGTERM)
    answer = end(process)
    assert answer.err.count("importing the module deadly_tasks") == 2
    assert answer.err.count("ended: exit code 3") == 2
    assert "deadly_tasks.deadly is DEAD: 2 workers died while running it" in answer.err
