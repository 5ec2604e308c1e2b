"""Which function a task name stands for."""

from __future__ import annotations

import functools
import os
import signal
import threading
from typing import Any, NamedTuple

import pytest

from nuvom.core.options import TaskOptions
from nuvom.errors import AmbiguousTask, DuplicateTask, TaskImportFailed
from nuvom.registry.registry import Registry, TaskDefinition, find_name


def add() -> None: ...
def other() -> None: ...
async def coroutine() -> None: ...


class Listed(NamedTuple):
    name: str
    module: str = "app.tasks"
    aliases: tuple[str, ...] = ()


@pytest.fixture
def registry() -> Registry:
    return Registry()


# ---- definitions ----------------------------------------------------------------------------


class Caller:
    def __call__(self) -> None: ...


class AsyncCaller:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("func", "is_async"),
    [
        (add, False),
        (coroutine, True),
        (functools.partial(add), False),
        (functools.partial(coroutine), True),
        (Caller(), False),
        (AsyncCaller(), True),
        (print, False),
    ],
)
def test_definition_knows_whether_a_call_gives_a_coroutine(func: Any, *, is_async: bool) -> None:
    assert is_async == TaskDefinition("name", func).is_async


# ---- registering ----------------------------------------------------------------------------


def test_function_is_registered_by_its_own_name_or_another(registry: Registry) -> None:
    assert f"{__name__}.add" == registry.register(add).name
    assert "sum" == registry.register(add, name="sum").name
    assert ["sum", f"{__name__}.add"] == registry.names()


def test_definition_is_registered_as_it_is_or_renamed(registry: Registry) -> None:
    definition = TaskDefinition("tests.add", add, TaskOptions(retries=3))
    assert definition is registry.register(definition)
    assert definition is registry.register(definition, name="tests.add")
    renamed = registry.register(definition, name="sum")
    assert ("sum", add, 3) == (renamed.name, renamed.func, renamed.options.retries)


def test_name_of_another_function_is_refused_with_both_places(registry: Registry) -> None:
    registry.register(add, name="sum")
    with pytest.raises(DuplicateTask, match="is taken") as refusal:
        registry.register(other, name="sum")
    assert isinstance(refusal.value, ValueError)
    assert f"{__file__}:{add.__code__.co_firstlineno}" in refusal.value.what
    assert f"{__file__}:{other.__code__.co_firstlineno}" in refusal.value.what
    kept = registry.get("sum")
    assert kept is not None
    assert add is kept.func
    assert other is registry.register(other, name="sum", force=True).func


def redefined(text: str, file: str) -> Any:
    space: dict[str, Any] = {"__name__": "tests"}
    exec(compile(text, file, "exec"), space)  # a module that is read again
    return space["add"]


def test_function_that_is_defined_anew_is_no_duplicate(registry: Registry) -> None:
    registry.register(redefined("def add(): return 1", "/app/tasks.py"))
    again = registry.register(redefined("\n\ndef add(): return 2", "/app/tasks.py"))
    assert 2 == again.func()


@pytest.mark.parametrize("make", [lambda: lambda: None, Caller])
def test_functions_that_no_name_leads_to_are_duplicates(registry: Registry, make: Any) -> None:
    first = make()
    registry.register(first, name="x")
    registry.register(first, name="x")
    with pytest.raises(DuplicateTask):
        registry.register(make(), name="x")


def test_former_names_lead_to_the_task_and_belong_to_nobody_else(registry: Registry) -> None:
    renamed = TaskDefinition("sum", add, TaskOptions(aliases=("plus", "add")))
    for _ in range(2):  # a module that is read again
        registry.register(renamed)
    assert renamed is registry.get("plus") is registry.resolve("add")
    assert (["sum"], ["sum", "plus", "add"]) == (registry.names(), registry.runnable)
    with pytest.raises(DuplicateTask, match='"plus" is taken'):
        registry.register(other, name="plus")
    with pytest.raises(DuplicateTask, match='"sum" is taken'):
        registry.register(TaskDefinition("minus", other, TaskOptions(aliases=("sum",))))
    assert registry.get("minus") is None
    registry.unregister("sum")
    assert registry.get("plus") is None


def test_task_can_be_forgotten(registry: Registry) -> None:
    registry.register(add, name="sum")
    assert [True, False] == [registry.unregister("sum"), registry.unregister("sum")]
    assert registry.get("sum") is None


# ---- listed tasks ---------------------------------------------------------------------------


def test_listed_task_is_imported_when_it_is_needed(registry: Registry) -> None:
    loaded: list[Listed] = []

    def load(entry: Listed) -> None:
        loaded.append(entry)
        registry.register(add, name=entry.name)

    registry.add_manifest([Listed("app.add"), Listed("app.other")], load)
    assert (["app.add", "app.other"], 2, []) == (registry.names(), len(registry), loaded)
    assert "app.add" in registry
    assert "app.none" not in registry
    assert registry.get("app.add") is None

    assert add is registry.resolve("app.add").func
    assert add is registry.resolve("app.add").func
    assert [Listed("app.add")] == loaded


def test_module_that_no_longer_defines_the_task_is_an_error(registry: Registry) -> None:
    registry.add_manifest([Listed("app.add")], lambda _: None)
    with pytest.raises(TaskImportFailed, match=r"app\.tasks: the module no longer defines it"):
        registry.resolve("app.add")


# ---- short names ----------------------------------------------------------------------------


def test_last_part_of_a_name_is_enough(registry: Registry) -> None:
    registry.register(add, name="app.mail.send")
    registry.register(add, name="app.send_all")
    assert "app.mail.send" == registry.find("send") == registry.find("mail.send")
    assert "app.mail.send" == registry.find("app.mail.send")


def test_name_of_several_is_ambiguous() -> None:
    with pytest.raises(AmbiguousTask, match=r"a\.send, b\.send"):
        find_name("send", ["b.send", "a.send"])


# ---- threads --------------------------------------------------------------------------------


class Paused(str):
    """A name that a thread is still storing until ``go`` is set."""

    __slots__ = ()
    reached, go = threading.Event(), threading.Event()

    def __hash__(self) -> int:
        self.reached.set()
        self.go.wait(60)
        return super().__hash__()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_registers_although_a_thread_of_its_parent_was_at_it(
    registry: Registry,
) -> None:
    storing = threading.Thread(target=registry.register, args=(TaskDefinition(Paused("p"), add),))
    storing.start()
    Paused.reached.wait(60)
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # ends a child that hangs
        registry.register(other, name="other")
        os._exit(0)
    assert 0 == os.waitpid(pid, 0)[1]
    Paused.go.set()
    storing.join()
