"""What a task is called that is given no name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from nuvom.config.project import module_name_for
from nuvom.registry.registry import task_name


def main_function(path: Path, *, write: bool = True) -> Callable[..., Any]:
    """Return a function as the program ``path`` would define it."""
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def add(): ...\n")
    code = compile("def add(): ...", str(path), "exec")
    func = FunctionType(code.co_consts[0], {"__name__": "__main__"}, "add")
    func.__module__ = "__main__"
    return func


@pytest.fixture
def nothing_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the search end at the test's own folder, whatever others have left in those above it."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    return tmp_path


def test_function_is_named_after_its_module_and_class() -> None:
    class Mailer:
        def send(self) -> None: ...

    name = task_name(Mailer.send)
    assert f"{__name__}.{Mailer.__qualname__}.send" == name


def test_callable_object_is_named_after_its_class() -> None:
    class Sender:
        def __call__(self) -> None: ...

    assert f"{__name__}.{Sender.__qualname__}" == task_name(Sender())


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("script.py", "script.add"),
        ("app/jobs.py", "app.jobs.add"),
        ("src/app/jobs.py", "app.jobs.add"),
        ("app/__main__.py", "app.__main__.add"),
        ("__main__.py", "__main__.add"),
        ("app/src/jobs.py", "app.src.jobs.add"),
    ],
)
def test_function_of_a_program_is_named_as_a_worker_imports_it(
    project: Path, file: str, name: str
) -> None:
    assert name == task_name(main_function(project / file))


def test_src_that_is_a_package_is_part_of_the_name(project: Path) -> None:
    func = main_function(project / "src" / "jobs.py")
    (project / "src" / "__init__.py").touch()
    assert "src.jobs.add" == task_name(func)


@pytest.mark.parametrize("marker", ["nuvom.toml", "pyproject.toml"])
def test_file_can_mark_the_project(tmp_path: Path, marker: str) -> None:
    (tmp_path / marker).write_text("[tool.nuvom]\n")
    assert "app.jobs.add" == task_name(main_function(tmp_path / "app" / "jobs.py"))


def test_pyproject_of_another_tool_marks_nothing(nothing_above: Path) -> None:
    (nothing_above / "pyproject.toml").write_text("[tool.other]\n")
    assert "jobs.add" == task_name(main_function(nothing_above / "app" / "jobs.py"))


def test_search_for_the_project_ends_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (tmp_path / ".nuvom").mkdir()
    func = main_function(home / "app" / "jobs.py")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert "jobs.add" == task_name(func)


@pytest.mark.parametrize("name", ["<stdin>", "<ipython-input-1>", "gone.py"])
def test_function_that_was_typed_in_stays_in_main(tmp_path: Path, name: str) -> None:
    assert "__main__.add" == task_name(main_function(tmp_path / name, write=False))


@pytest.mark.parametrize(
    "file", ["script.py", "app/jobs.py", "src/app/jobs.py", "src/jobs.py", "app/__main__.py"]
)
def test_name_is_that_of_discovery(project: Path, file: str) -> None:
    func = main_function(project / file)
    assert f"{module_name_for(project / file, project)}.add" == task_name(func)


@pytest.mark.skipif(os.name == "nt", reason="paths of two drives cannot be made in a test")
def test_relative_path_of_a_program_is_resolved(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main_function(project / "app" / "jobs.py")
    monkeypatch.chdir(project / "app")
    assert "app.jobs.add" == task_name(main_function(Path("jobs.py"), write=False))
