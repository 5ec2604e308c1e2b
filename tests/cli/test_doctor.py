"""``doctor``: every part of a set-up is looked at, and what is wrong says what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.host.worker_lock import WorkerLock
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing.builders import make_job
from tests.cli.shell import Answer, invoke
from tests.lab.servers import (
    POSTGRES,
    OwnPostgres,
    OwnRedis,
    drop_schemas,
    need_postgres,
    new_schema,
)


def checks(answer: Answer, name: str) -> list[dict[str, Any]]:
    return [check for check in answer.json["checks"] if check["name"] == name]


def doctor(name: str, *options: str) -> tuple[int, str, str]:
    """Return the exit code, and level and text of the last check called ``name``."""
    answer = invoke("doctor", "--json", *options)
    last = checks(answer, name)[-1]
    return answer.code, last["level"], last["text"]


def test_a_sound_project_has_no_warning(tasks: Path) -> None:
    assert doctor("tasks") == (0, "warn", "4 found, but there is no manifest")
    invoke("discover", "tasks")
    answer = invoke("doctor", encoding="ascii")
    assert (answer.code, answer.err) == (0, "7 checks: 0 failed, 0 warnings.\n")
    assert re.findall(r"^ok   (\w+)", answer.out, re.MULTILINE) == [
        "versions",
        "settings",
        "folder",
        "tasks",
        "plugins",
        "store",
        "workers",
    ]


def test_settings_that_cannot_be_used_end_the_visit(project: Path) -> None:
    (project / "nuvom.toml").write_text('threads = "many"\n')
    code, level, text = doctor("settings")
    assert (code, level, "threads" in text) == (7, "fail", True)
    assert not checks(invoke("doctor", "--json"), "store")


def test_tasks_are_compared_with_the_manifest(tasks: Path) -> None:
    invoke("discover", "tasks")
    (tasks / "tasks.py").write_text((tasks / "tasks.py").read_text().replace("boom", "bang"))
    assert doctor("tasks") == (0, "warn", "the manifest is stale: 1 added, 1 removed")
    (tasks / ".nuvom" / "manifest.json").write_text("{")
    assert doctor("tasks")[:2] == (7, "fail")


def test_plugins_are_named_and_not_loaded(project: Path) -> None:
    plugins = project / ".nuvom_plugins.toml"
    plugins.write_text('[plugins]\nmonitoring = ["plug:Plug"]\nqueue_backend = ["plug:Queue"]\n')
    plugins.chmod(0o600)
    assert doctor("plugins") == (0, "ok", f"queue: plug:Queue, listed in {plugins}")
    (project / "nuvom.toml").write_text('queue_backend = "queue"\n')
    assert doctor("store")[:2] == (4, "fail")
    plugins.write_text("[plugins")
    assert doctor("plugins")[:2] == (7, "fail")


def test_the_store_is_named_with_its_place(tasks: Path) -> None:
    path = tasks / ".nuvom" / "nuvom.db"
    assert doctor("store")[2] == f"sqlite, {path} (does not exist yet)"
    invoke("run", "add", "1", "2")
    text = doctor("store")[2]
    assert text.startswith(f"sqlite, 1 queue, 1 job waiting, durability full, {path}, ")
    path.write_bytes(b"not a database, but long enough to be read" * 99)
    assert doctor("store")[:2] == (7, "fail")


def test_a_store_in_memory_has_no_place_and_no_worker(project: Path) -> None:
    (project / "nuvom.toml").write_text('queue_backend = "memory"\nresult_backend = "memory"\n')
    place, reach = checks(invoke("doctor", "--json"), "store")
    assert place["text"] == "memory, 0 queues, 0 jobs waiting"
    assert (reach["level"], "no worker gets them" in reach["text"]) == ("warn", True)


def test_queues_that_nobody_serves_or_that_are_paused_are_warnings(tasks: Path) -> None:
    invoke("run", "add", "1", "2")
    assert doctor("queues") == (0, "warn", "1 job waiting on default, and no worker serves it")
    invoke("queues", "pause", "default")
    assert doctor("queues")[2].startswith("default is paused by ")


def test_jobs_that_no_worker_knows_fail_by_name(tasks: Path, drain: Callable[[], None]) -> None:
    invoke("run", "add", "1", "2")
    (tasks / "tasks.py").write_text("")
    drain()
    reason = 'a worker could not run it: No task is named "tasks.add"'
    assert doctor("parked") == (7, "fail", f"1 job of tasks.add is PARKED: {reason}")


def test_pending_jobs_are_compared_with_the_signatures_of_today(tasks: Path) -> None:
    for words in (["add", "1", "2"], ["add", "1", "2"], ["boom"]):
        invoke("run", *words)
    assert doctor("pending", "--pending") == (0, "ok", "3 waiting jobs checked against the tasks")
    text = (tasks / "tasks.py").read_text()
    text = text.replace("y: int)", "y: int, z: int)").replace("def boom(", "def bang(")
    (tasks / "tasks.py").write_text(text)
    answer = invoke("doctor", "--pending", "--json")
    boom, add = [check["text"] for check in checks(answer, "pending")]
    assert "1 waiting job of tasks.boom cannot run: the code has no such task" in boom
    assert "2 waiting jobs of tasks.add cannot run: missing a required" in add


# ---- a server ---------------------------------------------------------------------------------


def promises(**settings: object) -> dict[str, tuple[str, str]]:
    """Return what ``doctor`` says of a store on a server: level and meaning, by setting."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    Path("nuvom.toml").write_text("\n".join(lines))
    answer = invoke("doctor", "--json")
    found = checks(answer, "promises")
    assert found, answer.out
    assert (answer.code == 0) == all(one["level"] != "fail" for one in found)
    assert all(bool(one["fix"]) == (one["level"] != "ok") for one in found)
    split = [(one["level"], *one["text"].split(": ", 1)) for one in found]
    return {setting: (level, means) for level, setting, means in split}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--appendonly", "yes", "--appendfsync", "always"],
            {
                "maxmemory-policy noeviction": ("ok", "never deletes a job"),
                "appendonly yes, appendfsync always": ("ok", "survives a crash of the server"),
            },
        ),
        (
            ["--appendonly", "yes", "--appendfsync", "everysec"],
            {"appendonly yes, appendfsync everysec": ("ok", "unless it is of the last second")},
        ),
        (
            ["--appendonly", "yes", "--appendfsync", "no"],
            {"appendonly yes, appendfsync no": ("warn", "a power cut loses")},
        ),
        (
            ["--maxmemory-policy", "volatile-lru"],
            {
                "maxmemory-policy volatile-lru": ("fail", "deletes jobs when its memory is full"),
                "appendonly no": ("warn", "in memory only"),
            },
        ),
    ],
    ids=["always", "everysec", "no flush", "deletes"],
)
def test_what_a_redis_server_promises(
    project: Path, tmp_path: Path, options: list[str], told: dict[str, tuple[str, str]]
) -> None:
    with OwnRedis(tmp_path, *options) as server:
        found = promises(queue_backend="redis", result_backend="redis", **server.settings())
    for setting, (level, means) in told.items():
        assert (found[setting][0], means in found[setting][1]) == (level, True)


def test_a_redis_user_who_may_not_read_the_settings(project: Path, tmp_path: Path) -> None:
    with OwnRedis(tmp_path, "--appendonly", "yes", "--rename-command", "CONFIG", "") as server:
        found = promises(queue_backend="redis", result_backend="redis", **server.settings())
    level, means = found["appendonly yes, appendfsync unknown"]
    assert (level, means) == ("warn", "what a crash of the server loses could not be read")


@pytest.fixture
def on_postgres(project: Path) -> Iterator[dict[str, str]]:
    """Return the settings of a store on PostgreSQL."""
    need_postgres()
    schema = new_schema()
    chosen = {"queue_backend": "postgres", "result_backend": "postgres"}
    yield {**chosen, "postgres_dsn": POSTGRES, "postgres_schema": schema}
    drop_schemas(schema)


def test_what_a_postgresql_server_promises(on_postgres: dict[str, str]) -> None:
    assert promises(**on_postgres) == {
        "schema version 5": ("ok", "the tables fit this Nuvom"),
        "durability full": ("ok", "an acknowledged job survives a crash of the server"),
    }
    weaker = promises(**on_postgres, durability="normal")
    assert "may lose the last moments" in weaker["durability normal"][1]


def test_transactions_of_an_application_that_are_not_flushed(on_postgres: dict[str, str]) -> None:
    on_postgres["postgres_dsn"] += "?options=-c%20synchronous_commit%3Doff"
    level, means = promises(**on_postgres)["synchronous_commit off"]
    assert (level, "your own transaction" in means) == ("warn", True)
    assert "synchronous_commit off" not in promises(**on_postgres, durability="normal")


def test_a_pooler_means_polling(
    on_postgres: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nuvom.contrib.postgres.database.is_pooled", lambda _: True)
    level, means = promises(**on_postgres)["connection pooler"]
    assert (level, "every 250 ms" in means) == ("warn", True)


def test_a_postgresql_server_that_does_not_flush(project: Path) -> None:
    need_postgres()
    import psycopg

    with TemporaryDirectory() as folder, OwnPostgres(Path(folder)) as server:
        dsn = server.settings()["postgres_dsn"]
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
            while connection.execute("SHOW fsync").fetchone() != ("off",):
                """The server passes it on to its processes after it has read it itself."""
        chosen = {"queue_backend": "postgres", "result_backend": "postgres"}
        level, means = promises(**chosen, postgres_dsn=dsn)["fsync off"]
    assert (level, "may damage the whole database" in means) == ("fail", True)


# ---- a damaged file ---------------------------------------------------------------------------


@pytest.fixture
def damaged(tasks: Path) -> Path:
    """Enqueue 200 jobs, and overwrite a page of theirs."""
    queue = SQLiteJobQueue(Settings(root=tasks))
    queue.enqueue_many(make_job("tests.one", "x" * 200) for _ in range(200))
    queue.stop()
    path = tasks / ".nuvom" / "nuvom.db"
    with open(path, "r+b") as stream:
        stream.seek(-4096, 2)
        stream.write(bytes(range(256)) * 12)
    return path


def test_salvage_saves_what_can_be_read(damaged: Path) -> None:
    (check,) = checks(invoke("doctor", "--json"), "store")
    assert (check["level"], "it is damaged" in check["text"]) == ("fail", True)
    assert "nuvom doctor --salvage" in check["fix"]
    answer = invoke("doctor", "--salvage", "saved.db")
    assert (answer.code, "could not be read" in answer.out) == (0, True)
    damaged.rename(damaged.with_name("old.db"))
    damaged.with_name("nuvom.db-wal").unlink(missing_ok=True)
    Path("saved.db").rename(damaged)
    saved = invoke("queues", "--json").json["queues"]
    assert 150 < sum(one["ready"] for one in saved) < 200
    assert doctor("store")[:2] == (0, "ok")


def test_salvage_waits_for_the_workers_to_stop_and_overwrites_nothing(damaged: Path) -> None:
    presence = WorkerLock.acquire(damaged.with_name("nuvom.db.d"), "alive")
    code, level, text = doctor("salvage", "--salvage", "saved.db")
    assert (code, level, "1 worker" in text) == (7, "fail", True)
    assert not Path("saved.db").exists()
    presence.release()
    Path("mine").write_text("mine")
    assert doctor("salvage", "--salvage", "mine")[:2] == (7, "fail")
    assert Path("mine").read_text() == "mine"


def test_salvage_is_for_sqlite(project: Path) -> None:
    (project / "nuvom.toml").write_text('queue_backend = "file"\n')
    assert doctor("salvage", "--salvage", "saved.db")[:2] == (7, "fail")
