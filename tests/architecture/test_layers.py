"""The rules on imports, each on a small tree that breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.architecture import imports, layers, source

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.architecture.source import Finding, Module

BLOCK = """
# Architecture

```bash
echo "not this block"
```

```
7 shells     cli/  testing/  contrib/
6 surface    task.py
5 wiring     runtime.py
4 engine     dispatcher.py  execution/{thread,async}_lane.py
3 adapters   queue_backends/{memory,sqlite}.py  _sqlite*
             result_backends/sqlite.py
2 contracts  queue_backends/base.py
1 words      record.py
0 ground     errors.py  clock.py  later.py?
```
"""


def tree(root: Path, files: dict[str, str]) -> list[Module]:
    for place, text in files.items():
        path = root / "nuvom" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return source.load(root, "nuvom")


def wheres(findings: Iterable[Finding]) -> list[str]:
    return [finding.where for finding in findings]


def breaches(root: Path, files: dict[str, str]) -> list[str]:
    modules = tree(root, files)
    found = layers.directions(modules, imports.edges(modules), layers.Layers(BLOCK))
    return [f"{finding.where}: {finding.text}" for finding in found]


@pytest.mark.parametrize(
    ("place", "statement", "target", "text"),
    [
        ("errors.py", "import nuvom.record", "nuvom.record", "layer 0 imports layer 1"),
        ("errors.py", "from nuvom.record import X", "nuvom.record", "layer 0 imports layer 1"),
        ("errors.py", "from .record import X", "nuvom.record", "layer 0 imports layer 1"),
        ("errors.py", "def f():\n    import nuvom.task", "nuvom.task", "layer 0 imports layer 6"),
        (
            "errors.py",
            "if TYPE_CHECKING:\n    from nuvom.task import Task",
            "nuvom.task",
            "layer 0 imports layer 6",
        ),
        (
            "queue_backends/base.py",
            "from ..task import task",
            "nuvom.task",
            "layer 2 imports layer 6",
        ),
        (
            "dispatcher.py",
            "from nuvom.queue_backends.sqlite import Q",
            "nuvom.queue_backends.sqlite",
            "the engine sees contracts, never an adapter",
        ),
        (
            "result_backends/sqlite.py",
            "from nuvom.queue_backends import memory",
            "nuvom.queue_backends.memory",
            "adapters never import each other",
        ),
        (
            "contrib/redis/queue.py",
            "from nuvom.runtime import current_runtime",
            "nuvom.runtime",
            "contrib imports layers 0 to 2 only",
        ),
        (
            "contrib/redis/queue.py",
            "from nuvom.contrib.postgres import queue",
            "nuvom.contrib.postgres.queue",
            "contrib imports layers 0 to 2 only",
        ),
        (
            "cli/show.py",
            "from nuvom.queue_backends.sqlite import Q",
            "nuvom.queue_backends.sqlite",
            "the command line reads through inspection and writes through runtime",
        ),
        ("cli/show.py", "import sqlite3", "sqlite3", "the command line holds no SQL"),
        (
            "contrib/__init__.py",
            "from nuvom.dispatcher import dispatch",
            "nuvom.dispatcher",
            "contrib imports layers 0 to 2 only",
        ),
        (
            "cli/show.py",
            "from nuvom.testing import conformance",
            "nuvom.testing.conformance",
            "nothing else imports nuvom.testing",
        ),
    ],
)
def test_forbidden_import_is_found(
    tmp_path: Path, place: str, statement: str, target: str, text: str
) -> None:
    other = target.removeprefix("nuvom.").replace(".", "/") + ".py"
    assert [f"nuvom/{place} -> {target}: {text}"] == breaches(
        tmp_path, {other: "", place: statement} if target != "sqlite3" else {place: statement}
    )


@pytest.mark.parametrize(
    ("place", "statement"),
    [
        ("record.py", "from nuvom.errors import NuvomError"),
        ("task.py", "from nuvom.dispatcher import dispatch\nimport json"),
        ("queue_backends/sqlite.py", "from nuvom.queue_backends.sqlite import connect"),
        ("contrib/redis/queue.py", "from nuvom.contrib.redis.keys import key"),
        ("contrib/redis/queue.py", "from nuvom.queue_backends.base import BaseJobQueue"),
        ("testing/kit.py", "from nuvom.testing.probe import probe"),
        ("contrib/__init__.py", "if TYPE_CHECKING:\n    from nuvom.dispatcher import dispatch"),
    ],
)
def test_allowed_import_is_not_reported(tmp_path: Path, place: str, statement: str) -> None:
    others = ["errors", "dispatcher", "_sqlite", "contrib/redis/keys", "queue_backends/base"]
    others.append("queue_backends/sqlite")
    files = {f"{other}.py": "" for other in [*others, "testing/probe"]}
    assert [] == breaches(tmp_path, {**files, place: statement})


def placed(root: Path, files: dict[str, str], *, building: bool = True) -> list[str]:
    found = layers.placing(tree(root, files), layers.Layers(BLOCK), building=building)
    return [f"{finding.where} {finding.text}" for finding in found]


def test_module_that_the_page_does_not_name_is_found(tmp_path: Path) -> None:
    text = "nuvom/odds.py is in no layer of docs/architecture.md"
    assert [text] == placed(tmp_path, {"odds.py": "", "execution/__init__.py": ""})


def test_module_that_the_page_names_twice_is_found(tmp_path: Path) -> None:
    page = layers.Layers(BLOCK.replace("record.py", "record.py  task.py"))
    found = layers.placing(tree(tmp_path, {"task.py": ""}), page, building=True)
    assert ["nuvom/task.py"] == wheres(found)


def test_name_of_its_own_counts_more_than_the_folder() -> None:
    page = layers.Layers(BLOCK.replace("task.py", "task.py  cli/top.py"))
    assert [6] == page.of("nuvom/cli/top.py")
    assert [7] == page.of("nuvom/cli/low.py")


def test_planned_module_that_exists_is_found(tmp_path: Path) -> None:
    text = "later.py exists: drop the ? in docs/architecture.md"
    assert text in placed(tmp_path, {"later.py": ""})


def test_module_that_only_the_page_knows_is_found_unless_building(tmp_path: Path) -> None:
    text = "runtime.py is in docs/architecture.md only"
    assert text in placed(tmp_path, {"task.py": ""}, building=False)
    assert [] == placed(tmp_path, {"task.py": ""}, building=True)


def test_page_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no block of layers"):
        layers.Layers("# Architecture\n\n```\nnothing\n```\n")


def test_core_is_layers_0_to_4(tmp_path: Path) -> None:
    modules = tree(tmp_path, {"errors.py": "", "dispatcher.py": "", "runtime.py": "", "odd.py": ""})
    core = layers.core(modules, layers.Layers(BLOCK))
    assert ["nuvom/dispatcher.py", "nuvom/errors.py"] == core


def cycles(root: Path, files: dict[str, str], *excused: str) -> list[str]:
    return wheres(imports.cycles(imports.edges(tree(root, files)), frozenset(excused)))


def test_modules_that_import_each_other_are_found(tmp_path: Path) -> None:
    files = {"a.py": "import nuvom.b", "b.py": "from nuvom import c", "c.py": "import nuvom.a"}
    assert ["nuvom.a -> nuvom.b -> nuvom.c -> nuvom.a"] == cycles(tmp_path, files)


@pytest.mark.parametrize("head", ["def f():", "if TYPE_CHECKING:"])
def test_hidden_half_of_a_cycle_counts(tmp_path: Path, head: str) -> None:
    files = {"a.py": "import nuvom.b", "b.py": f"{head}\n    import nuvom.a"}
    assert ["nuvom.a -> nuvom.b -> nuvom.a"] == cycles(tmp_path, files)


def test_excused_edge_breaks_a_cycle(tmp_path: Path) -> None:
    files = {"a.py": "import nuvom.b", "b.py": "import nuvom.a"}
    assert [] == cycles(tmp_path, files, "nuvom/b.py -> nuvom.a")


def test_diamond_is_no_cycle(tmp_path: Path) -> None:
    files = {
        "a.py": "import nuvom.b, nuvom.c",
        "b.py": "import nuvom.d",
        "c.py": "import nuvom.d",
        "d.py": "",
    }
    assert [] == cycles(tmp_path, files)


def test_internal_import_inside_a_function_is_found(tmp_path: Path) -> None:
    text = "import nuvom.b\ndef f():\n    import json\n    from nuvom.b import x\n"
    edges = imports.edges(tree(tmp_path, {"a.py": text, "b.py": ""}))
    (finding,) = imports.deferred(edges)
    assert ("nuvom/a.py -> nuvom.b", 4) == (finding.where, finding.line)


@pytest.mark.parametrize(
    "statement",
    [
        "import nuvom",
        "from nuvom import task",
        "from nuvom import __version__",
        "from nuvom.queue_backends import SQLiteJobQueue",
    ],
)
def test_use_of_a_front_is_found(tmp_path: Path, statement: str) -> None:
    files = {"__init__.py": "", "queue_backends/__init__.py": "", "task.py": "", "a.py": statement}
    modules = tree(tmp_path, files)
    assert 1 == len(list(imports.facades(modules, imports.edges(modules))))


def test_module_taken_from_its_package_is_no_use_of_the_front(tmp_path: Path) -> None:
    files = {"__init__.py": "from nuvom.events import E", "events.py": ""}
    modules = tree(tmp_path, {**files, "a.py": "from nuvom import events"})
    assert [] == list(imports.facades(modules, imports.edges(modules)))
