"""Which decorated functions are Nuvom's tasks, told from the source alone."""

from __future__ import annotations

import ast
import gc
import textwrap
from threading import Thread
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nuvom.discovery.entries import Problem, TaskEntry
from tests.unit.discovery.projects import Parsed, parse


def parsed(source: str) -> Parsed:
    return parse(textwrap.dedent(source).encode())


def names(source: str) -> list[str]:
    return [task.qualname for task in parsed(source).tasks]


# ---- names that are ours ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("imports", "decorator"),
    [
        ("from nuvom import task", "task"),
        ("from nuvom import task as t", "t"),
        ("import nuvom", "nuvom.task"),
        ("import nuvom as n", "n.task"),
        ("from nuvom.task import task", "task"),
        ("import nuvom.task", "nuvom.task.task"),
        ("from nuvom import *", "task"),
        ("from nuvom import task\nmine = task", "mine"),
        ("import nuvom\nfirst = second = nuvom.task", "second"),
        ("try:\n    import nothing\nexcept ImportError:\n    from nuvom import task", "task"),
        ("from nuvom import task\ndef f(task): task = 1", "task"),
        ("from nuvom import task\nclass A:\n    task = None", "task"),
    ],
)
@pytest.mark.parametrize("call", ["", "(queue='mail')"])
def test_decorator_is_recognised_however_it_was_imported(
    imports: str, decorator: str, call: str
) -> None:
    source = f"{imports}\n@{decorator}{call}\ndef add(): ...\n"
    assert ["add"] == names(source)


@pytest.mark.parametrize(
    ("imports", "decorator"),
    [
        ("from invoke import task", "task"),
        ("from nuvom import task\ndef task(f): return f", "task"),
        ("import invoke, nuvom", "invoke.task"),
        ("from nuvom import task\ntask = something", "task"),
        ("from nuvom import task\n(other, [task, *rest]) = something", "task"),
        ("import nuvom\nimport other as nuvom", "nuvom.task"),
        ("from nuvom import task\nfor task in tasks: pass", "task"),
        ("from .nuvom import *", "task"),
        ("import nuvom", "get(nuvom).task"),
        ("def f():\n    from nuvom import task", "task"),
    ],
)
def test_decorator_of_somebody_else_is_not_taken(imports: str, decorator: str) -> None:
    source = f"# nuvom\n{imports}\n@{decorator}\ndef add(): ...\n"
    assert [] == names(source)


# ---- where a task may stand -------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [
        "try: pass\nfinally:\n{body}",
        "match x:\n  case 1:\n{body}",
        "if x:\n  try:\n    pass\n  except E:\n{body}",
    ],
)
def test_task_is_found_in_a_block(block: str) -> None:
    body = "        @task\n        def add(): ..."
    found = parsed(f"from nuvom import task\n{block.format(body=body)}\n")
    assert [("add", True)] == [(task.qualname, task.importable) for task in found.tasks]
    assert () == found.problems


def test_task_in_classes_carries_their_names() -> None:
    source = """
        from nuvom import task
        class Outer:
            @staticmethod
            @task
            def a(): ...
            class Inner:
                if True:
                    @task
                    async def b(): ...
    """
    found = parsed(source).tasks
    assert [("Outer.Inner.b", True, True), ("Outer.a", False, True)] == [
        (task.qualname, task.is_async, task.importable) for task in found
    ]


@pytest.mark.parametrize(
    ("source", "qualname", "line"),
    [
        ("def outer():\n    @task\n    def inner(): ...", "outer.<locals>.inner", 4),
        ("class A:\n  def m(self):\n    @task\n    def x(): ...", "A.m.<locals>.x", 5),
    ],
)
def test_task_inside_a_function_is_listed_as_not_importable(
    source: str, qualname: str, line: int
) -> None:
    found = parsed(f"from nuvom import task\n{source}\n")
    assert [(qualname, False, line)] == [(t.qualname, t.importable, t.line) for t in found.tasks]
    [note] = found.problems
    assert (line, "warning") == (note.line, note.level)
    assert qualname in note.reason
    assert "inside the function" in note.reason


@pytest.mark.parametrize(
    ("test", "word"),
    [
        ("TYPE_CHECKING", "TYPE_CHECKING"),
        ('__name__ == "__main__"', "__main__"),
    ],
)
def test_task_that_importing_does_not_define_is_not_importable(test: str, word: str) -> None:
    found = parsed(f"from nuvom import task\nif {test}:\n    @task\n    def add(): ...\n")
    assert [False] == [task.importable for task in found.tasks]
    assert word in found.problems[0].reason


# ---- one of several ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "{a}{b}",
        "if x:\n{a}else:\n{b}",
        "try:\n{a}except E:\n{b}",
        "if x:\n{a}if TYPE_CHECKING:\n{c}if y:\n{b}if TYPE_CHECKING:\n{c}",
    ],
)
def test_of_several_definitions_the_last_that_is_imported_counts(source: str) -> None:
    defined = {name: f"@task\ndef add({name}): ...\n" for name in "abc"}
    if ":" in source:
        defined = {name: textwrap.indent(text, "        ") for name, text in defined.items()}
    found = parsed("from nuvom import task\n" + source.format(**defined))
    assert [("(b)", True)] == [(task.signature, task.importable) for task in found.tasks]
    assert () == found.problems


# ---- sources that are no programs -------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        (b"@task\ndef f(:\n", 2, "cannot be parsed"),
        (b"@task\n\nx = '\0'\n", 0, "null bytes"),
        (b"# nuvom\n# coding: nonsense\n", 0, "nonsense"),
        (b"nuvom = " + b"9" * 5000, 1, "digits"),
        (b"nuvom = " + b"-" * 100_000 + b"1", 0, "too deeply"),
    ],
)
def test_source_that_is_no_program_is_reported_with_its_line(
    source: bytes, line: int, words: str
) -> None:
    found = parse(source)
    assert () == found.tasks
    [note] = found.problems
    assert (line, "error") == (note.line, note.level)
    assert words in note.reason


@given(st.binary(max_size=300).map(lambda tail: b"from nuvom import task\n@task\n" + tail))
@example(b"# coding: unicode_escape\nfrom nuvom import task\n\\x00")
@example(b"\xff\xfef\x00r\x00o\x00m\x00")
def test_arbitrary_bytes_never_raise(source: bytes) -> None:
    assert isinstance(parse(source), Parsed)


# ---- what is written down of a task -----------------------------------------------------


def described(source: str) -> tuple[TaskEntry, tuple[Problem, ...]]:
    found = parse(b"from nuvom import task\n" + textwrap.dedent(source).encode())
    [task] = found.tasks
    # Options here have any name; what @task thinks of them is told by the tests of references.
    return task, tuple(one for one in found.problems if "refuses" not in one.reason)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'mail'", "mail"),
        ("-5", -5),
        ("{'a': [1, ({'b': None},)]}", {"a": [1, [{"b": None}]]}),
        ("7 * 24 * 3600", 604800),
    ],
)
def test_literal_option_is_taken_over(written: str, value: Any) -> None:
    task, problems = described(f"@task(option={written})\ndef f(): ...\n")
    assert {"option": value} == task.options
    assert type(value) is type(task.options["option"])
    assert ((), ()) == (task.dynamic_options, problems)


@pytest.mark.parametrize(
    "written",
    [
        "VALUE",
        "(ConnectionError,)",
        "1e999",
        "'a' * 10",
        "9223372036854775808",
    ],
)
def test_any_other_option_is_named_only(written: str) -> None:
    task, problems = described(f"@task(option={written}, other=1)\ndef f(): ...\n")
    assert ({"other": 1}, ("option",)) == (task.options, task.dynamic_options)
    assert () == problems


def test_options_are_sorted_and_unpacked_ones_are_marked() -> None:
    task, _ = described("@task(z=1, **more, a=2, y=Z, b=Z)\ndef f(): ...\n")
    assert ["a", "z"] == list(task.options)
    assert ("**", "b", "y") == task.dynamic_options


@pytest.mark.parametrize(("written", "name"), [("'mail.send'", "mail.send"), ("None", "only.f")])
def test_literal_name_becomes_the_tasks_name(written: str, name: str) -> None:
    task, problems = described(f"@task(name={written}, queue='q')\ndef f(): ...\n")
    assert (name, {"queue": "q"}, ()) == (task.name, task.options, problems)


def test_another_thread_may_parse_at_the_same_moment() -> None:
    """Early versions of Python 3.11 raise SystemError if it does (python/cpython#106905)."""
    source = "\n".join(f"@task\ndef f{number}(): ..." for number in range(1000))
    interrupted: list[str] = []

    def parse_elsewhere(phase: str, _: dict[str, int]) -> None:
        if phase == "stop" and not interrupted:  # garbage is collected while the tree is built
            interrupted.append(phase)
            thread = Thread(target=ast.parse, args=("x = 1",))
            thread.start()
            thread.join()

    gc.callbacks.append(parse_elsewhere)
    try:
        found = parse(f"from nuvom import task\n{source}".encode())
    finally:
        gc.callbacks.remove(parse_elsewhere)
    assert len(found.tasks) == 1000
    assert interrupted


@pytest.mark.parametrize("written", ["NAME", "5", "''"])
def test_name_that_is_no_literal_text_is_warned_of(written: str) -> None:
    [task], problems = parse(
        f"from nuvom import task\n@task(name={written})\ndef f(): ...".encode()
    )
    assert task.name == "only.f"
    assert "name" not in task.options
    assert [(3, "warning")] == [(problem.line, problem.level) for problem in problems]


@pytest.mark.parametrize(
    ("body", "doc"),
    [
        ("...", None),
        ('"""\n    First.\n\n    More.\n    """', "First."),
        ("'caf\\xe9 \\ud800'", "caf\xe9 \ud800"),
    ],
)
def test_first_line_of_the_docstring_is_kept(body: str, doc: str | None) -> None:
    task, _ = described(f"@task\ndef f():\n    {body}\n")
    assert doc == task.doc


def test_hash_changes_with_the_function_and_with_nothing_else() -> None:
    one, _ = described("@task\ndef f():\n    return 1\n")
    moved, _ = described("import os\n\n@task\ndef f():\n    return 1\n\nx = 2\n")
    dos, _ = described("@task\r\ndef f():\r\n    return 1\r\n")
    other_body, _ = described("@task\ndef f():\n    return 2\n")
    other_decorator, _ = described("@task()\ndef f():\n    return 1\n")
    assert one.hash == moved.hash == dos.hash
    assert 3 == len({one.hash, other_body.hash, other_decorator.hash})
