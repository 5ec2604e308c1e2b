"""Commands about a project: init, discover, list, config, version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nuvom.config.settings import SETTINGS
from tests.cli.shell import call, invoke, run

# ---- init -------------------------------------------------------------------------------


def test_init_makes_a_project_that_works(tmp_path: Path) -> None:
    answer = invoke("init", terminal=True)
    assert answer.code == 0
    assert "nuvom run add 2 3 --wait" in answer.err
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"tasks.py", "nuvom.toml", ".nuvomignore", ".nuvom"}
    assert invoke("config", "check").code == 0
    assert invoke("discover", "tasks", "--check").code == 0
    job = run("add", "2", "3")
    assert call("runworker", "--burst", "-q").code == 0
    assert invoke("inspect", "job", job, "--json").json["result"] == 5


def test_init_overwrites_nothing_unless_forced(tmp_path: Path) -> None:
    mine = {"tasks.py": "# mine\n", "nuvom.toml": "threads = 2\n", ".nuvomignore": "x/\n"}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    files = invoke("init", "--json").json["files"]
    assert {name: files[name] for name in mine} == dict.fromkeys(mine, "kept")
    assert {name: (tmp_path / name).read_text() for name in mine} == mine
    assert "--force" in invoke("init").err
    assert set(invoke("init", "--force", "--json").json["files"].values()) == {"written"}
    assert "def add" in (tmp_path / "tasks.py").read_text()


def test_init_leaves_settings_in_pyproject_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.nuvom]\nthreads = 2\n")
    invoke("init")
    assert not (tmp_path / "nuvom.toml").exists()
    assert invoke("config", "check").code == 0


# ---- discover, list ---------------------------------------------------------------------


def test_discover_tells_what_is_new_changed_and_gone(tasks: Path) -> None:
    first = invoke("discover", "tasks")
    assert "+ tasks.add(x: int, y: int) -> int  tasks.py:9" in first.out.splitlines()
    text = (tasks / "tasks.py").read_text().replace("def boom(", "def bang(")
    (tasks / "tasks.py").write_text(text.replace("y: int)", "y: int = 1)"))
    second = invoke("discover", "tasks")
    assert [line.split("(")[0] for line in second.out.splitlines()] == [
        "+ tasks.bang",
        "~ tasks.add",
        "- tasks.boom",
    ]
    assert "1 added, 1 removed, 1 changed" in second.err
    assert "nothing changed" in invoke("discover").err


def test_check_is_exit_7_where_the_manifest_is_stale_and_changes_nothing(tasks: Path) -> None:
    manifest = tasks / ".nuvom" / "manifest.json"
    assert invoke("discover", "tasks", "--check").code == 7
    assert not manifest.exists()
    invoke("discover", "tasks")
    assert invoke("discover", "tasks", "--check").code == 0
    before = manifest.read_bytes()
    (tasks / "tasks.py").write_text("")
    answer = invoke("discover", "tasks", "--check", "--json")
    assert (answer.code, answer.json["stale"]) == (7, True)
    assert manifest.read_bytes() == before


def test_broken_files_are_named_and_their_tasks_stay_as_they_were(tasks: Path) -> None:
    (tasks / "broken.py").write_text("from nuvom import task\n@task\ndef x(): ...\n")
    assert invoke("discover", "tasks").code == 0
    (tasks / "broken.py").write_text("from nuvom import task\n@task\ndef x(:\n")
    (tasks / "again.py").write_text(
        'from nuvom import task\n@task(name="tasks.add")\ndef add(x): ...\n'
    )
    for arguments in (("discover", "tasks"), ("discover", "tasks", "--check")):
        answer = invoke(*arguments)
        assert answer.code == 7
        assert "broken.py:3" in answer.err
        assert "1 task of files that cannot be parsed stay as they were" in answer.err
    kept = {task["name"]: task["kept"] for task in invoke("list", "tasks", "--json").json["tasks"]}
    assert kept["broken.x"]
    assert not kept["tasks.add"]
    assert 'the task name "tasks.add" is taken' in answer.err
    (double,) = invoke("discover", "tasks", "--json").json["duplicates"]
    assert double["name"] == "tasks.add"


def test_discover_looks_where_it_is_told(tasks: Path) -> None:
    (tasks / "more.py").write_text("from nuvom import task\n@task\ndef more(): ...\n")
    assert invoke("discover", "tasks", "--include", "more.py", "--json").json["tasks"] == [
        "more.more"
    ]
    names = invoke("discover", "tasks", "--exclude", "more.py", "--json").json["tasks"]
    assert "more.more" not in names


def test_tasks_of_another_engine_are_counted(project: Path) -> None:
    source = "from celery import shared_task\n@shared_task\ndef a(): ...\n"
    (project / "tasks.py").write_text(source)
    answer = invoke("discover", "tasks")
    assert "1 Celery task found, and none of Nuvom. To move: nuvom migrate-from" in answer.err


def test_the_doctor_says_where_the_code_seems_to_import_from(project: Path) -> None:
    package = project / "apps" / "api" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "app.py").write_text("from nuvom import task as job\n")
    (package / "mail.py").write_text("from shop.app import job\n@job\ndef send(): ...\n")
    assert invoke("discover", "tasks", "--json").json["tasks"] == ["shop.mail.send"]
    assert 'set source_roots = ["apps/api"]' in invoke("doctor").out
    program = "import sys; sys.path.insert(0, 'apps/api'); import shop.mail; shop.mail.send.delay()"
    subprocess.run([sys.executable, "-c", program], cwd=project, check=True)
    assert call("runworker", "--burst", "-q", cwd=project).code == 0
    (job,) = invoke("--json", "history", "recent").json["jobs"]
    assert (job["func_name"], job["status"]) == ("shop.mail.send", "SUCCESS")


def test_a_worker_imports_the_module_of_a_task_whose_name_only_its_code_knows(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFIX", "mail")
    (project / "tasks.py").write_text(
        "import os\nfrom nuvom import task\n"
        "@task(name=os.environ['PREFIX'] + '.send')\ndef f(): ...\n"
    )
    subprocess.run([sys.executable, "-c", "import tasks; tasks.f.delay()"], cwd=project, check=True)
    assert "known only at import" in invoke("discover", "tasks").err
    assert call("runworker", "--burst", "-q", cwd=project).code == 0
    (job,) = invoke("--json", "history", "recent").json["jobs"]
    assert (job["func_name"], job["status"]) == ("mail.send", "SUCCESS")


def test_a_damaged_manifest_is_written_anew(tasks: Path) -> None:
    manifest = tasks / ".nuvom" / "manifest.json"
    manifest.write_text("{")
    assert invoke("list", "tasks").code == 4
    assert "cannot be used" in invoke("discover", "tasks").err
    assert invoke("list", "tasks").code == 0


def test_list_shows_the_manifest(tasks: Path) -> None:
    assert "no manifest yet" in invoke("list", "tasks").err
    invoke("discover", "tasks")
    lines = invoke("list", "tasks").out.splitlines()
    (line,) = [line for line in lines if line.startswith("tasks.send")]
    assert ("mail" in line, "tasks.py:15" in line) == (True, True)


# ---- config -----------------------------------------------------------------------------


def test_config_shows_each_setting_and_its_source(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "nuvom.toml").write_text("threads = 2\n")
    monkeypatch.setenv("NUVOM_REDIS_URL", "redis://:hunter2@host")
    rows = {row[0]: row[1:] for row in invoke("config", "--plain").rows}
    assert set(rows) == {"setting", *SETTINGS}
    assert rows["threads"] == ["2", "nuvom.toml"]
    assert rows["redis_url"] == ["***", "environment"]


def test_config_check_names_all_that_is_wrong(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("config", "check").code == 0
    (project / "nuvom.toml").write_text('threads = "many"\nthraeds = 2\n')
    monkeypatch.setenv("NUVOM_LOG_LEVL", "INFO")
    answer = invoke("config", "check")
    assert answer.code == 7
    assert answer.err.count("Error:") == 2
    assert "NUVOM_LOG_LEVL" in answer.err
    data = invoke("config", "check", "--json")
    assert (data.code, data.json["ok"], len(data.json["errors"])) == (7, False, 2)
    assert len(data.json["warnings"]) == 1
    assert invoke("config", "show").code == 4
