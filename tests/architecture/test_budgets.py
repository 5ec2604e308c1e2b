"""The rules of size and of names find what they forbid."""

from __future__ import annotations

import pytest

from tests.architecture import budgets, imports
from tests.architecture.source import Finding, Module

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


def page(text: str) -> str:
    return f"# Page\n\n```text\n{text}\n```\n"


def texts(findings: object) -> list[str]:
    return [f"{one.where}: {one.text}" for one in findings if isinstance(one, Finding)]  # type: ignore[attr-defined]  # any iterable


def test_blanks_comments_and_docstrings_are_no_code() -> None:
    assert 5 == budgets.code_lines(Module("nuvom/a.py", CODE))


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ("flat 5", []),
        ("flat 4", ["flat: 5 code lines, at most 4"]),
        ("flat 6", ["flat: 5 code lines; lower its budget of 6"]),
        (
            "core 9",
            ["core: 0 code lines; lower its budget of 9", "flat: 5 code lines and no budget"],
        ),
    ],
)
def test_a_room_has_a_budget_that_it_keeps_and_needs(block: str, found: list[str]) -> None:
    assert found == texts(budgets.budgets([Module("nuvom/a.py", CODE)], page(block)))


def test_a_room_without_a_line_of_its_own_belongs_to_the_one_above() -> None:
    modules = [Module("nuvom/cli/a.py", CODE), Module("nuvom/cli/commands/b.py", CODE)]

    assert [] == texts(budgets.budgets(modules, page("cli 10")))
    assert [] == texts(budgets.budgets(modules, page("cli 5\ncli/commands 5")))


def test_a_folder_holds_fourteen_modules_and_the_top_twelve() -> None:
    def many(folder: str, count: int) -> list[Module]:
        names = ["__init__", *(f"m{number}" for number in range(count))]
        return [Module(f"{folder}/{name}.py", "") for name in names]

    assert [] == texts(budgets.folders(many("nuvom/a", 14) + many("nuvom", 12)))
    assert ["nuvom: 13 modules, at most 12", "nuvom/a: 15 modules, at most 14"] == texts(
        budgets.folders(many("nuvom/a", 15) + many("nuvom", 13))
    )


def test_a_small_module_that_one_other_of_its_folder_uses_is_a_crumb() -> None:
    def crumbs(*users: str, lines: int = 1) -> list[str]:
        modules = [Module("nuvom/a/small.py", "X = 1\n" * lines)]
        modules += [Module(user, "import nuvom.a.small\n") for user in users]
        return texts(budgets.crumbs(modules, imports.edges(modules)))

    assert ["nuvom/a/small.py: 1 code lines, used by nuvom.a.one alone"] == crumbs("nuvom/a/one.py")
    assert [] == crumbs("nuvom/a/one.py", lines=100)
    assert [] == crumbs("nuvom/a/one.py", "nuvom/a/two.py")
    assert [] == crumbs("nuvom/b/one.py")


def test_class_names_are_unique_and_modules_are_nouns() -> None:
    modules = [
        Module("nuvom/a.py", "class One: ...\nclass _Own: ...\n"),
        Module("nuvom/b.py", "class One: ...\nclass _Own: ...\n"),
        Module("nuvom/pacing.py", ""),
    ]

    assert [
        "nuvom/pacing.py: a module is a noun",
        "One: a class of this name is in nuvom/a.py, nuvom/b.py",
    ] == texts(budgets.names(modules))


def test_private_names_of_others_are_counted() -> None:
    text = "self._mine\ncls._mine\nother._theirs\nother.open._deep\nother.__dict__\nplain._X\n"

    assert 2 == budgets.private_names([Module("tests/a.py", text)])
