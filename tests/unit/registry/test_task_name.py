"""What a task is called that is given no name."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", ["<stdin>", "<ipython-input-1>", "gone.py"])
def test_function_that_was_typed_in_stays_in_main(tmp_path: Path, name: str) -> None:
    assert "__main__.add" == task_name(main_function(tmp_path / name, write=False))


@pytest.mark.parametrize(
    "file", ["script.py", "app/jobs.py", "src/app/jobs.py", "src/jobs.py", "app/__main__.py"]
)
def test_name_is_that_of_discovery(project: Path, file: str) -> None:
    func = main_function(project / file)
    assert f"{module_name_for(project / file, project)}.add" == task_name(func)
