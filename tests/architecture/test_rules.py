"""Each rule on small trees that break it and one that keeps it: none of them is blind."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.architecture import budgets, imports, layers, loading, pages, rows, sizes, source, words
from tests.architecture.source import Finding, Module

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BLOCK = """
```
7 shells     cli/  testing/  contrib/
6 surface    task.py
5 wiring     runtime.py
4 engine     dispatcher.py
3 adapters   queue_backends/{memory,sqlite}.py  result_backends/sqlite.py
2 contracts  queue_backends/base.py
1 words      record.py
0 ground     errors.py  later.py?
```
"""
CODE = '''"""Docstring,
of two lines."""

# a comment
X = [
    1,
]


def f() -> int:
    """Return one."""
    return X[0]
'''


def tree(**files: str) -> list[Module]:
    """Return modules; ``cli__show`` stands for ``nuvom/cli/show.py``."""
    places = {name.replace("__", "/").replace("/init", "/__init__"): name for name in files}
    return [Module(f"nuvom/{place}.py", files[name]) for place, name in places.items()]


def told(findings: Iterable[Finding]) -> list[str]:
    return [f"{finding.where}: {finding.text}" for finding in findings]


# ---- imports --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "statement", "text"),
    [
        ("errors", "import nuvom.record", "layer 0 imports layer 1"),
        ("errors", "from .record import X", "layer 0 imports layer 1"),
        ("errors", "def f():\n    import nuvom.task", "layer 0 imports layer 6"),
        ("errors", "if TYPE_CHECKING:\n    import nuvom.task", "layer 0 imports layer 6"),
        ("queue_backends__base", "from ..task import task", "layer 2 imports layer 6"),
        ("dispatcher", "import nuvom.queue_backends.sqlite", "the engine sees contracts, never an"),
        ("result_backends__sqlite", "import nuvom.queue_backends.memory", "adapters never import"),
        ("contrib__redis__queue", "import nuvom.runtime", "contrib imports layers 0 to 2 only"),
        ("contrib__redis__queue", "import nuvom.contrib.other", "contrib imports layers 0 to 2"),
        ("cli__show", "import nuvom.queue_backends.sqlite", "the command line reads through"),
        ("cli__show", "import sqlite3", "the command line holds no SQL"),
        ("cli__show", "from nuvom.testing import kit", "nothing else imports nuvom.testing"),
        ("record", "from nuvom.errors import NuvomError", ""),
        ("task", "from nuvom.dispatcher import dispatch\nimport json", ""),
        ("result_backends__sqlite", "import nuvom.queue_backends.sqlite", ""),
        ("contrib__redis__queue", "import nuvom.contrib.redis.keys", ""),
        ("contrib__init", "if TYPE_CHECKING:\n    import nuvom.dispatcher", ""),
    ],
)
def test_imports_against_the_layers_are_found(place: str, statement: str, text: str) -> None:
    names = ["errors", "dispatcher", "record", "runtime", "task", "testing__kit"]
    names += ["queue_backends__base", "queue_backends__memory", "queue_backends__sqlite"]
    names += ["contrib__other", "contrib__redis__keys"]
    modules = tree(**{**dict.fromkeys(names, ""), place: statement})
    found = told(layers.directions(modules, imports.edges(modules), layers.Layers(BLOCK)))
    assert [text in one for one in found] == [True] * bool(text)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (BLOCK, "nuvom/odds.py: is in no layer of docs/architecture.md"),
        (BLOCK, "later.py: exists: drop the ? in docs/architecture.md"),
        (BLOCK, "runtime.py: is in docs/architecture.md only"),
        (BLOCK.replace("record.py", "record.py task.py"), "nuvom/task.py: is in more than one"),
    ],
)
def test_the_page_and_the_tree_name_the_same_modules(block: str, text: str) -> None:
    modules = tree(odds="", later="", task="")
    assert any(one.startswith(text) for one in told(layers.placing(modules, layers.Layers(block))))


def test_a_name_of_its_own_counts_more_than_the_folder() -> None:
    page = layers.Layers(BLOCK.replace("task.py", "task.py  cli/top.py"))
    assert [[6], [7]] == [page.of("nuvom/cli/top.py"), page.of("nuvom/cli/low.py")]
    modules = tree(errors="", dispatcher="", runtime="", cli__top="")
    assert ["nuvom/errors.py", "nuvom/dispatcher.py"] == layers.core(modules, page)


def test_a_page_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no block of layers"):
        layers.Layers("```\nnothing\n```\n")


def test_modules_that_import_each_other_are_found() -> None:
    modules = tree(a="import nuvom.b", b="def f():\n    from nuvom import c", c="import nuvom.a")
    edges = imports.edges(modules)
    assert ["nuvom.a -> nuvom.b -> nuvom.c -> nuvom.a"] == [
        finding.where for finding in imports.cycles(edges)
    ]
    assert [] == list(imports.cycles(edges, frozenset({"nuvom/c.py -> nuvom.a"})))
    diamond = tree(a="import nuvom.b, nuvom.c", b="import nuvom.d", c="import nuvom.d", d="")
    assert [] == list(imports.cycles(imports.edges(diamond)))


def test_an_import_of_ours_inside_a_function_is_found() -> None:
    modules = tree(a="def f():\n    import json\n    from nuvom.b import x\n", b="")
    (finding,) = imports.deferred(imports.edges(modules))
    assert ("nuvom/a.py -> nuvom.b", 3) == (finding.where, finding.line)


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        ("import nuvom", 1),
        ("from nuvom import task", 1),
        ("from nuvom.queue_backends import SQLiteJobQueue", 1),
        ("from nuvom import events", 0),
    ],
)
def test_a_use_of_a_front_is_found(statement: str, count: int) -> None:
    modules = [Module("nuvom/__init__.py", ""), *tree(queue_backends__init="", task="", events="")]
    modules += tree(a=statement)
    assert count == len(list(imports.facades(modules, imports.edges(modules))))


def test_forbidden_and_too_many_modules_are_found(tmp_path: Path) -> None:
    loaded = loading.loaded_by("import wave", tmp_path)
    assert "wave" in loaded
    assert "sys" not in loaded
    texts = [one.text for one in loading.import_cost(["a", "rich"], ["rich", "click"], most=1)]
    assert ["is loaded and must not be", "2 modules, at most 1: a, rich"] == texts


# ---- sizes, budgets and names ---------------------------------------------------------------

METHOD = 'class A:\n    def f(self):\n        """One.\n\n        Two.\n        """\n'
DEEP = (
    "def f():\n  for a in b:\n    while a:\n      if a:\n        g()\n      elif b:\n        g()\n"
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1\n" * 600, ""),
        ("x = 1\n" * 601, "601 lines, at most 600"),
        (METHOD + "        x = 1\n" * 39, ""),
        (METHOD + "        x = 1\n" * 40, "41 lines without its docstring, at most 40"),
        (DEEP, ""),
        (DEEP + "      else:\n        def h():\n          if a:\n            g()\n", ""),
        (DEEP + "      else:\n        for c in d:\n          g()\n", "nested 4 deep, at most 3"),
        ("def f(a, b, c, d, *, e): ...", ""),
        ("def f(a, /, b, c, d, e): ...", "5 positional parameters, at most 4"),
        ("class A:\n    def f(self, a, b, c, d): ...", ""),
        ("class A:\n    @staticmethod\n    def f(a, b, c, d, e): ...", "5 positional parameters"),
    ],
)
def test_what_is_too_big_is_found(text: str, found: str) -> None:
    assert [found in one for one in told(sizes.sizes(tree(a=text)))] == [True] * bool(found)


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ("flat 5\ncli 5", []),
        ("flat 4\ncli 5", ["flat: 5 code lines, at most 4"]),
        ("flat 6\ncli 5", ["flat: 5 code lines; lower its budget of 6"]),
        ("flat 5", ["cli: 5 code lines and no budget"]),
    ],
)
def test_a_room_has_a_budget_that_it_keeps_and_needs(block: str, found: list[str]) -> None:
    page = f"# Page\n\n```text\n{block}\n```\n"
    assert found == told(budgets.budgets(tree(a=CODE, cli__commands__b=CODE), page))


def test_a_folder_holds_fourteen_modules_and_the_top_twelve() -> None:
    def found(inner: int, flat: int) -> list[str]:
        names = [*(f"a__m{one}" for one in range(inner)), *(f"m{one}" for one in range(flat))]
        return told(budgets.folders(tree(**dict.fromkeys(["a__init", *names], ""))))

    assert [] == found(14, 12)
    assert ["nuvom: 13 modules, at most 12", "nuvom/a: 15 modules, at most 14"] == found(15, 13)


@pytest.mark.parametrize(
    ("users", "lines", "count"),
    [(["a__one"], 1, 1), (["a__one"], 100, 0), (["a__one", "a__two"], 1, 0), (["b__one"], 1, 0)],
)
def test_a_small_module_that_one_other_of_its_folder_uses_is_found(
    users: list[str], lines: int, count: int
) -> None:
    modules = tree(a__small="X = 1\n" * lines, **dict.fromkeys(users, "import nuvom.a.small"))
    assert count == len(list(budgets.crumbs(modules, imports.edges(modules))))


def test_names_of_classes_modules_and_functions() -> None:
    one = "class One: ...\nclass _Own: ...\n"
    assert [
        "nuvom/pacing.py: a module is a noun",
        "One: a class of this name is in nuvom/a.py, nuvom/b.py",
    ] == told(budgets.names(tree(a=one, b=one, pacing="")))
    bad = "class HTTPBroker:\n    def nack(self): ...\ndef send_messages(): ...\n"
    assert ["says 'Broker'", "says 'nack'", "says 'messages'"] == [
        finding.text for finding in words.words(tree(a=bad))
    ]
    assert ["the module's name says 'helpers'"] == [
        finding.text
        for finding in words.words(tree(task_helpers="message = 1\ndef factory(): ..."))
    ]


def test_private_names_of_others_are_counted() -> None:
    text = "self._mine\ncls._mine\nother._theirs\nother.open._deep\nother.__dict__\nplain._X\n"
    assert 2 == budgets.private_names([Module("tests/a.py", text)])


# ---- pages and files ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](https://example.org/x), [b](mailto:a@example.org) and [c](../docs)", ""),
        ('[a](other%20page.md#the-one-title) and [b](<other%20page.md#twice-1> "title")', ""),
        ("# Here\n\n[a](#here)\n\n`[a](no.md)`\n\n```\n[a](no.md)\n```\n", ""),
        ("x\n[a](../no.md#b)", "(line 2): ../no.md#b does not exist"),
        ("x\n[a](other%20page.md#no)", "(line 2): other page.md#no: there is no such heading"),
        ("```\n```\n[a]: no.md", "(line 3): no.md does not exist"),
    ],
)
def test_a_broken_link_is_found_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other page.md").write_text("# The `one` Title!\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "docs" / "page.md"
    page.write_text(text)
    found = [str(finding) for finding in pages.links(tmp_path, [page])]
    assert found == [f"docs/page.md {said}"] * bool(said)


def test_large_files_and_index_addresses_are_found(tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(b"x" * (pages.MOST_BYTES + 1))
    small.write_bytes(b"x" * pages.MOST_BYTES)
    assert ["large"] == [finding.where for finding in pages.sizes(tmp_path, [large, small])]
    pins = tmp_path / "requirements" / "test.txt"
    pins.parent.mkdir()
    pins.write_text("a==1 \\\n    --hash=sha256:00\n--index-url https://example.org/simple\n")
    assert [3] == [finding.line for finding in pages.indexes(tmp_path, [pins])]


def test_files_are_those_that_git_does_not_ignore(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("ignored\n")
    for name in ("ignored", "new"):
        (tmp_path / name).touch()
    assert ["ignored", "new"] == [path.name for path in pages.repository_files(tmp_path)]
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert [".gitignore", "new"] == [path.name for path in pages.repository_files(tmp_path)]


# ---- rows of the reliability design ---------------------------------------------------------

NAMED = {f"test_{one.lower()}_holds" for one in rows.IDS} - {"test_f02_holds", "test_s10_holds"}
TESTS = {"tests/test_all.py": {*NAMED, "test_of_another_name"}}
LISTED = """
[proved_by]
F02 = ["tests/test_all.py::test_of_another_name"]
[deferred]
S10 = "not built yet"
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", ""),
        ("F02 =", "F04 =", "F02: no test is named after it, and the list does not name it"),
        ("S10 =", "S11 =", "S11: it has a test now: take it out of [deferred]"),
        ("S10 =", "S99 =", "S99: there is no such row"),
        ('"not built yet"', '" "', "S10: without a reason"),
        ("::test_of", "::test_off", "F02: there is no test tests/test_all.py::test_off_another"),
    ],
)
def test_a_row_without_a_test_or_a_reason_is_found(old: str, new: str, said: str) -> None:
    found = [
        f"{one.where.split()[1]}: {one.text}" for one in rows.rows(TESTS, LISTED.replace(old, new))
    ]
    assert any(one.startswith(said) for one in found) == bool(said)


def test_one_test_may_prove_several_rows() -> None:
    text = "def test_s01_r23_x() -> None: ...\nclass TestIt:\n    def test_f01_y(self): ...\n"
    tests = rows.tests_in([source.Module("tests/test_x.py", text)])
    assert {"tests/test_x.py": {"test_s01_r23_x", "TestIt", "test_f01_y"}} == tests
    assert {"S01", "R23", "F01"} == rows.named_after(tests).keys()
