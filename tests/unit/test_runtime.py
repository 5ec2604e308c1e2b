"""The composition root: what a runtime is made of, and which one a process uses."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from nuvom import runtime as runtime_module
from nuvom.config.settings import Settings
from nuvom.core.record import JobStatus
from nuvom.errors import InvalidSetting, ProjectNotFound, TaskNotImportable, UnknownSetting
from nuvom.job import submit
from nuvom.registry.registry import TaskDefinition, default_registry, task_name
from nuvom.runtime import (
    configure,
    count_local_worker,
    current_runtime,
    public_name,
    reset,
    use_runtime,
)
from nuvom.sdk import enqueue, list_jobs
from tests.engine import make_runtime


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    reset()
    yield
    reset()


def imported(path: Path, name: str) -> ModuleType:
    """Import a file under a name of the test's choice."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def task_in(root: Path, file: str, *, module: str, name: str | None = None) -> TaskDefinition:
    """Return the task of a function that stands in a file of the project."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("def add(x, y):\n    return x + y\n")
    func = imported(path, module).add
    return TaskDefinition(name or task_name(func), func)


# ---- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["mail", "__main__"])
@pytest.mark.parametrize(("given", "name"), [(None, "app.mail.add"), ("mail.send", "mail.send")])
def test_task_is_named_by_its_place_below_the_root_unless_it_was_given_a_name(
    project: Path, module: str, given: str | None, name: str
) -> None:
    task = task_in(project, "app/mail.py", module=module, name=given)
    assert name == public_name(task, Settings(root=project))


def test_task_of_an_installed_module_keeps_its_name(project: Path, tmp_path: Path) -> None:
    task = task_in(tmp_path.parent / "elsewhere", "library.py", module="library")
    assert "library.add" == public_name(task, Settings(root=project))


def test_task_inside_a_function_is_refused_with_a_remedy(project: Path) -> None:
    def nested() -> None: ...

    with pytest.raises(TaskNotImportable, match="inside a function") as refusal:
        public_name(TaskDefinition("tests.nested", nested), Settings(root=project))
    assert "Move it to the top level" in refusal.value.fix


def test_task_of_a_program_that_cannot_be_imported_is_refused(project: Path) -> None:
    task = task_in(project, "my-script.py", module="__main__", name="mail.send")
    with pytest.raises(TaskNotImportable, match=r"my-script\.py is not an importable module"):
        public_name(task, Settings(root=project))


def test_process_that_enqueues_knows_its_task_by_the_public_name(project: Path) -> None:
    task = task_in(project, "app/mail.py", module="mail")
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    runtime.registry.register(task)
    use_runtime(runtime)
    submit(task, (1, 2), {})

    known = runtime.registry.get("app.mail.add")
    assert known is not None
    assert task.func is known.func


# ---- the current runtime --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "error"), [({"thread": 9}, UnknownSetting), ({"threads": 0}, InvalidSetting)]
)
def test_configure_refuses_what_is_wrong_and_changes_nothing(
    project: Path, bad: dict[str, int], error: type[Exception]
) -> None:
    configure(threads=9)
    before = current_runtime()
    with pytest.raises(error):
        configure(queue_backend="memory", **bad)
    assert before is current_runtime()

    configure()
    assert (9, "sqlite") == (
        current_runtime().settings.threads,
        current_runtime().settings.queue_backend,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_program_makes_no_store_in_a_folder_that_nobody_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, chosen = tmp_path / "empty", tmp_path / "chosen"
    empty.mkdir()
    chosen.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(ProjectNotFound, match=str(empty)):
        enqueue("tasks.add", 1, 2)
    with pytest.raises(ProjectNotFound, match="nosuch"):
        configure(root=tmp_path / "nosuch")
    assert [] == [*empty.iterdir()]

    monkeypatch.setenv("NUVOM_ROOT", str(chosen))
    assert JobStatus.PENDING is enqueue("tasks.add", 1, 2).status
    assert chosen == current_runtime().settings.root
    assert [] == current_runtime().loaded.warnings
    monkeypatch.delenv("NUVOM_ROOT")

    configure(root=str(chosen))
    assert 1 == len(list_jobs())
    reset()
    configure(queue_backend="memory", result_backend="memory")  # which keeps nothing on the disk
    assert [] == list_jobs()
    reset()
    assert [] == [*empty.iterdir()]

    default_registry().register(task_in(empty, "shop.py", module="shop"), name="shop.add")
    try:
        assert JobStatus.PENDING is enqueue("shop.add", 1, 2).status
    finally:
        default_registry().unregister("shop.add")
    assert (empty / ".nuvom").is_dir()

    reset()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.py").write_text("from nuvom import task\n")  # known by name alone
    assert JobStatus.PENDING is enqueue("tasks.add", 1, 2).status


def test_forked_child_starts_afresh(project: Path) -> None:
    mine = make_runtime(project)
    use_runtime(mine)
    count_local_worker(1)
    try:
        runtime_module._forget_in_child()  # what the system calls there
        assert mine is not current_runtime()
        assert not runtime_module._local_workers
    finally:
        runtime_module._local_workers = 0
