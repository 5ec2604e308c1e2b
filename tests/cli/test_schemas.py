"""The keys of everything that ``--json`` writes, compared with the snapshots in ``schemas/``.

A key that is new may be added to a snapshot (``python -m tests.cli.test_schemas`` writes those
of this version); any other difference needs a new major version of the schema.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.sources import load
from nuvom.core.views import WorkerInfo
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.runtime import build_runtime
from nuvom.scheduler.declared import reconcile
from tests.cli.shell import TASKS, call, invoke, spawn
from tests.cli.test_schedules import make
from tests.cli.test_worker import end, until

SCHEMAS = Path(__file__).parent / "schemas"
PLUGIN = """\
from nuvom.plugins.contracts import Plugin


class Good(Plugin):
    name = "good"
"""
# Objects whose keys are names of the user's or of the machine, not of ours.
OPEN = {"settings", "sources", "kwargs", "files", "result"}
APART = {("plugin", "status"), ("plugin", "test")}
KEYED = {"nuvom.config_key/1": {"sources"}, "nuvom.discovery/1": {"files"}}


def keys_of(value: Any, schema: str, before: str = "") -> set[str]:
    """Return the paths of all keys, such as ``jobs[].error.type``."""
    if isinstance(value, list):
        return {key for one in value for key in keys_of(one, schema, f"{before}[]")}
    if not isinstance(value, dict):
        return set()
    found = set()
    for key, one in value.items():
        path = f"{before}.{key}" if before else key
        found.add(path)
        if key not in OPEN or key in KEYED.get(schema, ()):
            found |= keys_of(one, schema, path)
    return found


def announce_worker(root: Path) -> LeasedJobQueue:
    """Have the store know of a worker, which lives for as long as the queue that is returned."""
    queue = build_runtime(load(root)).queue
    assert isinstance(queue, LeasedJobQueue)
    queue.announce(WorkerInfo(id="01990000-0000-7000-8000-0000000000aa"))
    return queue


def answers(root: Path) -> Iterator[dict[str, Any]]:
    """Yield what each command writes in a project in which all kinds of things happened."""

    def ask(*args: object) -> dict[str, Any]:
        # Commands that load the project's code get a process of their own.
        is_apart = args[0] in {"runworker", "runtestworker"} or args[:2] in APART
        done = call(*args, "--json", cwd=root) if is_apart else invoke(*args, "--json")
        line = done.out.strip().splitlines()[0]
        data: dict[str, Any] = json.loads(line)
        return data

    def job(*words: str) -> str:
        data = ask("run", *words)
        return str(data["id"])

    (root / "tasks.py").write_text(TASKS)
    (root / "good.py").write_text(PLUGIN)
    (root / ".nuvom_plugins.toml").write_text('[plugins]\nmonitoring = ["good:Good"]\n')
    (root / ".nuvom_plugins.toml").chmod(0o600)
    (root / "again.py").write_text(
        'from nuvom import task\n@task(name="tasks.add")\ndef add(x): ...\n'
    )
    yield ask("init", "other")
    yield ask("discover", "tasks")
    (root / "again.py").unlink()
    yield ask("discover", "tasks")
    yield from (ask("list", "tasks"), ask("run", "tasks.add", "1", "2"))
    failed, cancelled, broken = job("boom"), job("tasks.add", "1", "2"), job("boom")
    yield ask("cancel", cancelled, "00000000", "--yes")
    yield from (ask("why", broken), ask("explain", "JobTimeout"))
    yield ask("runworker", "--burst")
    for command in (["status"], ["inspect", "job"]):
        yield ask(*command, failed)
    yield from (ask("wait", failed, "00000000"), ask("history", "recent", "--limit", "50"))
    yield ask("run", "boom", "--wait", "--timeout", "1ms")
    (group, *_) = ask("errors", "list")["errors"]
    yield ask("errors", "list")
    for command in (["show"], ["retry", "--dry-run"]):
        yield ask("errors", *command, group["fingerprint"])
    yield ask("retry", "job", broken, "00000000")
    for words in (["list"], ["purge", "default", "--dry-run"], ["pause", "default"]):
        yield ask("queues", *words)
    queue = announce_worker(root)
    yield from (ask("workers", "list"), ask("top", "--once"))
    yield ask("workers", "stop", "--all")
    queue.stop()
    yield ask("prune", "--dry-run")
    for command in (["show"], ["check"], ["explain", "threads"]):
        yield ask("config", *command)
    yield ask("doctor")
    for command in (["list"], ["inspect", "good"], ["status"], ["test", "good"]):
        yield ask("plugin", *command)
    yield ask("plugin", "scaffold", "mine")
    yield from chain(moves(root, ask), of_schedules(root, ask))
    yield declared(root, ask)
    for command in (["version"], ["completion", "bash"], ["status", "00000000"]):
        yield ask(*command)
    described = root / "job.json"
    described.write_text('{"func_name": "tasks.boom"}')
    yield ask("runtestworker", "run", described)
    yield ask("demo")
    yield of_dashboard(root)


def of_dashboard(root: Path) -> dict[str, Any]:
    """Return what a dashboard tells when it has started."""
    dashboard = spawn("dashboard", "--json", "--port", "0", cwd=root)
    assert dashboard.stdout is not None
    data: dict[str, Any] = json.loads(dashboard.stdout.readline())
    dashboard.terminate()
    end(dashboard)
    return data


def of_schedules(root: Path, ask: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the commands write that are about schedules, and the overview."""
    make(root, "yearly", 2, 3)
    yield ask("status")
    yield ask("schedule", "run", "yearly")
    for command in (["list"], ["show", "yearly"], ["next"], ["pause", "yearly"]):
        yield ask("schedule", *command)
    yield ask("schedule", "explain", "@daily", "--timezone", "Europe/Berlin")
    scheduler = spawn("runscheduler", "--json", cwd=root, NUVOM_LEASE_SECS="1.2")
    until(lambda: ask("workers", "list")["workers"])
    invoke("workers", "stop", "--all")
    yield json.loads(end(scheduler).out)


def moves(root: Path, ask: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the commands write that move jobs to another store, where one is already."""
    yield ask("export", "jobs.ndjson")
    invoke("import", "jobs.ndjson", "--project", "other")
    (root / "jobs.ndjson").write_text("no job\n")
    yield ask("import", "jobs.ndjson")
    ways = ("--from", "sqlite:.nuvom/nuvom.db", "--to", "sqlite:other/.nuvom/nuvom.db")
    yield ask("copy", *ways, "--results", "--verify")
    yield ask("copy", *ways)
    (root / "other.py").write_text("from celery import beat, Task\n")
    yield ask("migrate-from", "celery", ".", "--diff")


def declared(root: Path, ask: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Return what a deploy would do with the schedules of the one before."""
    code = "from nuvom import task\n@task(schedule={secs})\ndef {name}(): ...\n"
    (root / "old.py").write_text(code.format(secs=5000, name="a") + code.format(secs=1, name="b"))
    ask("discover", "tasks")
    runtime = build_runtime(load(root))
    reconcile(runtime)
    runtime.stop()
    (root / "old.py").write_text(code.format(secs=6000, name="a"))
    (root / "new.py").write_text(code.format(secs=5000, name="c"))
    return ask("schedule", "diff")


def collected(root: Path) -> dict[str, set[str]]:
    """Return the keys of each schema, over all answers."""
    found: dict[str, set[str]] = {}
    for data in answers(root):
        schema = data["schema"]
        found.setdefault(schema, set()).update(keys_of(data, schema))
    return found


def snapshot_of(schema: str) -> Path:
    return SCHEMAS / f"{schema.replace('/', '-')}.json"


@pytest.mark.timeout(240)
def test_the_keys_of_every_schema_are_those_of_its_snapshot(tasks: Path) -> None:
    found = collected(tasks)
    known = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    assert {snapshot_of(schema).name for schema in found} == set(known)
    for schema, keys in found.items():
        assert known[snapshot_of(schema).name] == sorted(keys), schema


def write(collect: Callable[[Path], dict[str, set[str]]] = collected) -> None:
    """Write the snapshots of this version."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        (root / ".nuvom").mkdir(mode=0o700)
        os.chdir(root)
        for schema, keys in collect(root).items():
            text = json.dumps(sorted(keys), indent=2)
            snapshot_of(schema).write_text(f"{text}\n", encoding="utf-8")
        os.chdir(SCHEMAS)


if __name__ == "__main__":
    write()
