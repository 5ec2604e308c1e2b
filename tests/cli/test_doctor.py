"""``doctor``: every part of a set-up is looked at, and what is wrong says what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nuvom.cli import doctor as checks_of
from nuvom.config.settings import Settings
from nuvom.core.views import WorkerInfo
from nuvom.host.worker_lock import WorkerLock
from nuvom.inspection import Inspector
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing.builders import make_job
from tests.cli.shell import Answer, call, invoke


def checks(answer: Answer, name: str) -> list[dict[str, Any]]:
    return [check for check in answer.json["checks"] if check["name"] == name]


def doctor(name: str, *options: str) -> tuple[int, str, str]:
    """Return the exit code, and level and text of the last check called ``name``."""
    answer = invoke("doctor", "--json", *options)
    last = checks(answer, name)[-1]
    return answer.code, last["level"], last["text"]


def test_a_sound_project_is_all_well(tasks: Path) -> None:
    invoke("discover", "tasks")
    answer = invoke("doctor")
    assert answer.code == 0
    assert "all well" in answer.err
    assert "✓ tasks" in answer.out
    data = invoke("doctor", "--json").json
    assert data["ok"]
    assert {check["level"] for check in data["checks"]} == {"ok"}
    assert {check["name"] for check in data["checks"]} == {
        "versions",
        "settings",
        "folder",
        "tasks",
        "plugins",
        "store",
        "workers",
    }


def test_marks_are_words_where_there_are_no_symbols(tasks: Path) -> None:
    answer = call("doctor", PYTHONIOENCODING="ascii")
    assert answer.out.startswith("ok   versions")
    assert "warn tasks" in answer.out


def test_settings_that_cannot_be_used_end_the_visit(project: Path) -> None:
    (project / "nuvom.toml").write_text('max_workers = "many"\n')
    code, level, text = doctor("settings")
    assert (code, level) == (7, "fail")
    assert "max_workers" in text
    assert not checks(invoke("doctor", "--json"), "store")
    assert "FAIL settings" in invoke("doctor", encoding="ascii").out


def test_a_setting_that_is_unknown_is_a_warning(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUVOM_MAX_WROKERS", "2")
    assert doctor("settings")[:2] == (0, "warn")


def test_a_folder_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    (tmp_path / "nuvom.toml").write_text("")
    assert "does not exist yet" in doctor("folder")[2]
    assert [path.name for path in tmp_path.iterdir()] == ["nuvom.toml"]


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_folder_that_others_can_write_to_fails(project: Path) -> None:
    (project / ".nuvom").chmod(0o777)
    assert doctor("folder")[:2] == (7, "fail")


def test_a_folder_that_cannot_be_written_fails(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    code, level, text = doctor("folder")
    assert (code, level) == (7, "fail")
    assert "cannot be written" in text


def test_a_disk_that_is_nearly_full_is_a_warning(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_of, "_LEAST_FREE_BYTES", 1 << 62)
    assert doctor("disk")[:2] == (0, "warn")


def test_tasks_are_compared_with_the_manifest(tasks: Path) -> None:
    assert doctor("tasks") == (0, "warn", "4 found, but there is no manifest")
    invoke("discover", "tasks")
    assert doctor("tasks") == (0, "ok", "4 in the manifest, as in the code")
    (tasks / "tasks.py").write_text((tasks / "tasks.py").read_text().replace("boom", "bang"))
    assert doctor("tasks") == (0, "warn", "the manifest is stale: 1 added, 1 removed")
    (tasks / ".nuvom" / "manifest.json").write_text("{")
    assert doctor("tasks")[:2] == (7, "fail")


def test_a_project_without_tasks_is_told_how_to_get_one(project: Path) -> None:
    assert doctor("tasks") == (0, "warn", "no task was found")


def test_broken_files_are_named_but_not_by_the_hundred(tasks: Path) -> None:
    for number in range(8):
        (tasks / f"bad{number}.py").write_text("from nuvom import task\n@task\ndef x(:\n")
    answer = invoke("doctor", "--json")
    texts = [check["text"] for check in checks(answer, "tasks")]
    assert answer.code == 0
    assert sum("bad" in text for text in texts) == 5
    assert texts[-1] == "3 more such problems"


def test_plugins_are_named_and_not_loaded(project: Path) -> None:
    plugins = project / ".nuvom_plugins.toml"
    plugins.write_text('[plugins]\nmonitoring = ["plug:Plug"]\n')
    plugins.chmod(0o600)
    assert doctor("plugins") == (0, "ok", f"plug: plug:Plug, named by {plugins}")
    plugins.write_text("[plugins")
    assert doctor("plugins")[:2] == (7, "fail")


def test_plugins_may_be_off(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUVOM_PLUGINS", "off")
    assert doctor("plugins") == (0, "ok", "off")


def test_a_backend_of_a_plugin_is_not_loaded_and_exit_4(project: Path) -> None:
    (project / ".nuvom_plugins.toml").write_text('[plugins]\nqueue_backend = ["plug:Plug"]\n')
    (project / ".nuvom_plugins.toml").chmod(0o600)
    (project / "nuvom.toml").write_text('queue_backend = "plug"\n')
    code, level, text = doctor("store")
    assert (code, level) == (4, "fail")
    assert "needs a plugin" in text


def test_the_store_is_named_with_its_place(tasks: Path) -> None:
    path = tasks / ".nuvom" / "nuvom.db"
    assert doctor("store")[2] == f"sqlite, {path} (does not exist yet)"
    invoke("run", "add", "1", "2")
    text = doctor("store")[2]
    assert text.startswith("sqlite, 1 queue, 1 job waiting, durability full")
    assert str(path) in text


def test_a_store_that_is_none_fails(tasks: Path) -> None:
    (tasks / ".nuvom" / "nuvom.db").write_bytes(b"not a database, but long enough to be read" * 99)
    code, level, text = doctor("store")
    assert (code, level) == (7, "fail")
    assert "nuvom.db" in text


def test_a_store_in_memory_has_no_place(project: Path) -> None:
    (project / "nuvom.toml").write_text('queue_backend = "memory"\nresult_backend = "memory"\n')
    answer = invoke("doctor", "--json")
    place, reach = checks(answer, "store")
    assert (answer.code, place["level"]) == (0, "ok")
    assert place["text"] == "memory, 0 queues, 0 jobs waiting"
    assert reach["level"] == "warn"
    assert "no worker gets them" in reach["text"]


def test_long_findings_are_broken_between_words_on_a_terminal(tasks: Path) -> None:
    (tasks / "nuvom.toml").write_text('queue_backend = "memory"\n')
    lines = invoke("doctor", terminal=True, encoding="ascii").out.splitlines()
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    told = "in memory, jobs end with the program that made them, and no worker gets them"
    assert told in " ".join(" ".join(shown).split())
    assert max(len(line) for line in shown if "/" not in line) <= 80


def test_waiting_jobs_without_a_worker_are_a_warning(tasks: Path) -> None:
    invoke("run", "add", "1", "2")
    assert doctor("queues") == (0, "warn", "1 job waits on default, and no worker serves it")


def test_a_paused_queue_is_a_warning(tasks: Path) -> None:
    invoke("run", "add", "1", "2")
    invoke("queues", "pause", "default")
    code, level, text = doctor("queues")
    assert (code, level) == (0, "warn")
    assert text.startswith("default is paused by ")


def test_jobs_that_no_worker_knows_fail_by_name(tasks: Path, drain: Callable[[], None]) -> None:
    invoke("run", "add", "1", "2")
    (tasks / "tasks.py").write_text("")
    drain()
    code, level, text = doctor("parked")
    assert (code, level) == (7, "fail")
    assert "1 job is PARKED" in text
    assert "tasks.add" in text


def test_workers_that_are_silent_or_of_another_version_are_warnings(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = [
        WorkerInfo(id="w-silent00", pid=7, host="h", state="silent", beat_age_secs=90.0),
        WorkerInfo(id="w-version0", version="0.0.1"),
    ]
    monkeypatch.setattr(Inspector, "workers", lambda _: living)
    found = checks(invoke("doctor", "--json"), "workers")
    texts = [check["text"] for check in found if check["level"] == "warn"]
    assert "silent00 (pid 7 on h) has not been heard of for 90 s" in texts
    assert any("runs nuvom 0.0.1" in text for text in texts)


def test_pending_jobs_are_compared_with_the_signatures_of_today(tasks: Path) -> None:
    for _ in range(2):
        invoke("run", "add", "1", "2")
    invoke("run", "boom")
    assert doctor("pending", "--pending") == (0, "ok", "3 waiting jobs fit their tasks")
    text = (tasks / "tasks.py").read_text()
    text = text.replace("y: int)", "y: int, z: int)").replace("def boom(", "def bang(")
    (tasks / "tasks.py").write_text(text)
    answer = invoke("doctor", "--pending", "--json")
    assert answer.code == 7
    texts = [check["text"] for check in checks(answer, "pending")]
    assert len(texts) == 2
    assert any("2 waiting jobs of tasks.add cannot run: missing a required" in one for one in texts)
    assert any("tasks.boom cannot run: the code has no such task" in one for one in texts)


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


def test_damage_is_found_and_salvage_named(damaged: Path) -> None:
    (check,) = checks(invoke("doctor", "--json"), "store")
    assert "fail" == check["level"]
    assert "it is damaged" in check["text"]
    assert "nuvom doctor --salvage" in check["fix"]
    assert 7 == invoke("doctor").code


def test_salvage_saves_what_can_be_read(damaged: Path) -> None:
    answer = invoke("doctor", "--salvage", "saved.db")
    assert 0 == answer.code
    assert "could not be read" in answer.out
    damaged.rename(damaged.with_name("old.db"))
    damaged.with_name("nuvom.db-wal").unlink(missing_ok=True)
    Path("saved.db").rename(damaged)
    saved = invoke("queues", "--json").json["queues"]
    assert 150 < sum(one["ready"] for one in saved) < 200
    assert doctor("store")[:2] == (0, "ok")


def test_salvage_waits_for_the_workers_to_stop(damaged: Path) -> None:
    presence = WorkerLock.acquire(damaged.with_name("nuvom.db.d"), "alive")
    code, level, text = doctor("salvage", "--salvage", "saved.db")
    assert (7, "fail") == (code, level)
    assert "1 worker" in text
    assert not Path("saved.db").exists()
    presence.release()


def test_salvage_overwrites_nothing(damaged: Path) -> None:
    Path("mine").write_text("mine")
    code, level, text = doctor("salvage", "--salvage", "mine")
    assert (7, "fail") == (code, level)
    assert "it is there already" in text
    assert "mine" == Path("mine").read_text()


def test_salvage_is_for_sqlite(project: Path) -> None:
    (project / "nuvom.toml").write_text('queue_backend = "file"\n')
    assert doctor("salvage", "--salvage", "saved.db")[:2] == (7, "fail")
