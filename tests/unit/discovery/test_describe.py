"""What is written down of a task: options, signature, documentation, hash."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from nuvom.discovery.entries import FoundTask, Note
from nuvom.discovery.parser import parse


def described(source: str) -> tuple[FoundTask, tuple[Note, ...]]:
    found = parse(b"from nuvom import task\n" + textwrap.dedent(source).encode())
    [task] = found.tasks
    return task, found.notes


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'mail'", "mail"),
        ("5", 5),
        ("-5", -5),
        ("2.5", 2.5),
        ("True", True),
        ("None", None),
        ("['a', 'b']", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        ("{'a': [1, {'b': None}]}", {"a": [1, {"b": None}]}),
        ("7 * 24 * 3600", 604800),
        ("60 * 0.5 - 1 + 2", 31.0),
        ("'a' 'b'", "ab"),
    ],
)
def test_literal_option_is_taken_over(written: str, value: Any) -> None:
    task, notes = described(f"@task(option={written})\ndef f(): ...\n")
    assert {"option": value} == task.options
    assert type(value) is type(task.options["option"])
    assert ((), ()) == (task.dynamic_options, notes)


@pytest.mark.parametrize(
    "written",
    [
        "VALUE",
        "f()",
        "(ConnectionError,)",
        "b'x'",
        "{1: 2}",
        "{**x}",
        "{'a', 'b'}",
        "1j",
        "...",
        "1e999",
        "-1e999",
        "2 ** 10",
        "'a' * 10",
        "1 / 2",
        "not 1",
        "~1",
        "-'a'",
        "True + 1",
        "9223372036854775808",
        "4294967296 * 4294967296",
        "f'{x}'",
        "[VALUE]",
        "0x" + "f" * 5000,
    ],
)
def test_any_other_option_is_named_only(written: str) -> None:
    task, notes = described(f"@task(option={written}, other=1)\ndef f(): ...\n")
    assert ({"other": 1}, ("option",)) == (task.options, task.dynamic_options)
    assert () == notes


def test_options_are_sorted_and_unpacked_ones_are_marked() -> None:
    task, _ = described("@task(z=1, **more, a=2, y=Z, b=Z)\ndef f(): ...\n")
    assert ["a", "z"] == list(task.options)
    assert ("**", "b", "y") == task.dynamic_options


def test_literal_name_becomes_the_tasks_name() -> None:
    task, notes = described("@task(name='mail.send', queue='q')\ndef f(): ...\n")
    assert ("mail.send", {"queue": "q"}, ()) == (task.name, task.options, notes)


def test_name_that_is_none_means_the_default() -> None:
    task, notes = described("@task(name=None)\ndef f(): ...\n")
    assert (None, {}, ()) == (task.name, task.options, notes)


@pytest.mark.parametrize("written", ["NAME", "f'{x}.send'", "5", "''", "['a']"])
def test_name_that_is_no_literal_text_is_warned_of(written: str) -> None:
    task, notes = described(f"@task(name={written})\ndef f(): ...\n")
    assert task.name is None
    assert "name" not in task.options
    [note] = notes
    assert (3, "warning") == (note.line, note.level)
    assert "default name" in note.reason


@pytest.mark.parametrize(
    ("parameters", "signature"),
    [
        ("()", "()"),
        ("(x: int, y: int=3) -> int", "(x: int, y: int=3) -> int"),
        ("(a, /, *args: str, c=1, **rest) -> X[Y]", "(a, /, *args: str, c=1, **rest) -> X[Y]"),
        ("(self, x: 'Later | None' = None)", "(self, x: 'Later | None'=None)"),
    ],
)
def test_signature_is_kept_as_text(parameters: str, signature: str) -> None:
    task, _ = described(f"@task\ndef f{parameters}: ...\n")
    assert signature == task.signature


@pytest.mark.parametrize(
    ("body", "doc"),
    [
        ("...", None),
        ('"One line."', "One line."),
        ('"""\n    First.\n\n    More.\n    """', "First."),
        ('"""   """', None),
        ('r"""Raw \\d."""', "Raw \\d."),
        ("f'{x}'", None),
        ("'caf\\xe9 \\ud800'", "caf\xe9 \ud800"),
    ],
)
def test_first_line_of_the_docstring_is_kept(body: str, doc: str | None) -> None:
    task, _ = described(f"@task\ndef f():\n    {body}\n")
    assert doc == task.doc


def test_line_is_that_of_the_def() -> None:
    task, _ = described("\n@other\n@task(\n    queue='q',\n)\ndef f(): ...\n")
    assert 7 == task.line


def test_hash_changes_with_the_function_and_with_nothing_else() -> None:
    one, _ = described("@task\ndef f():\n    return 1\n")
    moved, _ = described("import os\n\n@task\ndef f():\n    return 1\n\nx = 2\n")
    dos, _ = described("@task\r\ndef f():\r\n    return 1\r\n")
    other_body, _ = described("@task\ndef f():\n    return 2\n")
    other_decorator, _ = described("@task()\ndef f():\n    return 1\n")
    assert one.hash == moved.hash == dos.hash
    assert 3 == len({one.hash, other_body.hash, other_decorator.hash})
    assert 64 == len(one.hash)
