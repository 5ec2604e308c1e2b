"""``plugin``: what is named, what loads, what keeps its promises, and what a new one is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nuvom.cli.commands.scaffold import PLUGIN_TYPES, class_name
from tests.cli.shell import ROOT, call, invoke

GOOD = """\
from nuvom.plugins.contracts import Plugin

__version__ = "1.2"


class Good(Plugin):
    name = "good"
    provides = ("monitoring",)
"""
BAD = """\
from nuvom.plugins.contracts import Plugin


class Bad(Plugin):
    name = "bad"

    def start(self, settings, extras):
        raise RuntimeError("no server")
"""


@pytest.fixture
def plugins(project: Path) -> Path:
    """Make a project with a plugin that works and one that does not."""
    (project / "good.py").write_text(GOOD)
    (project / "bad.py").write_text(BAD)
    named = project / ".nuvom_plugins.toml"
    named.write_text('[plugins]\nmonitoring = ["good:Good", "bad:Bad"]\n')
    named.chmod(0o600)
    return project


def test_plugins_are_listed_and_inspected_without_loading_them(plugins: Path) -> None:
    (plugins / "nuvom.toml").write_text('scheduler_backend = "good"\n')
    data = invoke("plugin", "list", "--json").json
    assert [one["name"] for one in data["plugins"]] == ["good", "bad"]
    assert data["plugins"][0]["source"] == str(plugins / ".nuvom_plugins.toml")
    answer = invoke("plugin", "inspect", "good:Good", "--plain")
    assert ["used as", "scheduler_backend"] in answer.rows
    assert "good" not in sys.modules


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_plugin_file_that_others_can_write_names_the_repair(plugins: Path) -> None:
    (plugins / ".nuvom_plugins.toml").chmod(0o622)
    for command in (["plugin", "list"], ["runworker", "--burst"]):
        answer = call(*command, cwd=plugins)
        assert answer.code == 4
        assert "chmod go-w" in answer.err


def test_an_unknown_plugin_is_not_found_and_the_nearest_named(plugins: Path) -> None:
    assert 'Did you mean "good"?' in invoke("plugin", "inspect", "goood").err
    for words in (["inspect", "goood"], ["test", "goood.py"], ["status", "goood"]):
        assert invoke("plugin", *words).code == 3


def test_status_says_of_each_failure_what_to_do(plugins: Path) -> None:
    late = "\n\nclass Late(Good):\n    name = 'late'\n\n    def stop(self):\n        1 / 0\n"
    (plugins / "good.py").write_text(GOOD + late)
    named = plugins / ".nuvom_plugins.toml"
    named.write_text('[plugins]\nmonitoring = ["bad:Bad", "good:Late"]\n')
    answer = call("plugin", "status", cwd=plugins)
    assert answer.code == 4
    assert "failed" in answer.out
    assert "RuntimeError: no server." in answer.err
    assert "ZeroDivisionError" in answer.err
    assert answer.err.count("Fix:   Correct or remove the plugin") == 2
    assert "Traceback" not in answer.err
    assert "Traceback" in call("plugin", "status", "-v", cwd=plugins).err
    rows = call("plugin", "status", "--json", cwd=plugins).json["plugins"]
    assert {"late": False, "bad": False} == {row["name"]: row["ok"] for row in rows}


def test_a_plugin_is_held_to_its_laws(plugins: Path) -> None:
    bad = call("plugin", "test", "bad.py", "--only", "*start*", cwd=plugins)
    assert bad.code == 7
    assert "broken" in bad.out
    assert "RuntimeError: no server" in bad.out
    both = call("plugin", "test", "--json", cwd=plugins)
    assert both.code == 7
    assert [report["ok"] for report in both.json["reports"]] == [True, False]
    verbose = call("plugin", "test", "bad:Bad", "-v", "--only", "*start*", cwd=plugins)
    assert "Traceback" in verbose.out


# ---- scaffold ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PLUGIN_TYPES)
def test_a_new_plugin_keeps_all_laws_as_it_stands(kind: str, project: Path) -> None:
    test = ("--test",) if kind == "monitoring" else ()
    answer = call("plugin", "scaffold", "my_plugin", "--type", kind, *test, cwd=project)
    assert answer.code == 0, answer.out + answer.err
    assert (", 0 broken" in answer.err) == bool(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"],
        cwd=project / "my_plugin",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_new_backend_works_in_a_project(tasks: Path) -> None:
    call("plugin", "scaffold", "my_results", "-c", "result_backend", "--out", ".", cwd=tasks)
    (tasks / ".nuvom_plugins.toml").write_text(
        '[plugins]\nresult_backend = ["my_results:MyResults"]\n'
    )
    (tasks / ".nuvom_plugins.toml").chmod(0o600)
    (tasks / "nuvom.toml").write_text('result_backend = "my_results"\n')
    enqueued = call("run", "add", "2", "3", cwd=tasks)
    assert "Plugin: my_results (unknown version), my_results:MyResults, named by" in enqueued.err
    job = enqueued.out.strip()
    assert call("runworker", "--burst", "-q", cwd=tasks).code == 0
    # The results ended with the worker; the queue still knows how the job ended.
    assert call("status", job, "-f", "raw", cwd=tasks).code == 4  # a reading command loads nothing
    assert call("wait", job, cwd=tasks).out == f"{job}\tSUCCESS\n"


def test_scaffolding_overwrites_nothing_unless_forced(project: Path) -> None:
    first = invoke("plugin", "scaffold", "my_queue", "--json").json
    assert first["class"] == class_name("my_queue") == "MyQueue"
    module = project / "my_queue" / "my_queue.py"
    assert str(module) in first["files"]
    module.write_text("# mine\n")
    answer = invoke("plugin", "scaffold", "my_queue")
    assert answer.code == 8
    assert module.read_text() == "# mine\n"
    assert invoke("plugin", "scaffold", "my_queue", "-f").code == 0
    assert "class MyQueue" in module.read_text()


@pytest.mark.parametrize("name", ["my-queue", "größe"])
def test_a_name_that_is_no_module_is_refused(name: str, project: Path) -> None:
    assert invoke("plugin", "scaffold", name).code == 2
    assert invoke("plugin", "scaffold", "ok", "--type", "other").code == 2
