"""The rules on code, each on a snippet that breaks it and one that keeps it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.architecture import calls, loading, sizes, words
from tests.architecture.source import Module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.architecture.source import Finding

    Rule = Callable[[Sequence[Module]], Iterator[Finding]]


def module(text: str, place: str = "nuvom/part.py") -> Module:
    return Module(place, textwrap.dedent(text))


def found(rule: Rule, text: str) -> list[str]:
    """Return what the rule finds in a module of this text, as ``scope: what``."""
    return [
        f"{finding.where.removeprefix('nuvom/part.py').removeprefix(':')}: {finding.text}"
        for finding in rule([module(text)])
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import time\ndef f():\n    return time.time()", "time.time"),
        ("import time as t\ndef f():\n    t.sleep(1)", "time.sleep"),
        ("import time\ndef f(clock=time.monotonic_ns): ...", "time.monotonic_ns"),
        ("from time import monotonic", "time.monotonic"),
        ("from datetime import datetime\nx = datetime.now()", "datetime.datetime.now"),
        ("import datetime\nx = datetime.datetime.utcnow()", "datetime.datetime.utcnow"),
        ("import datetime as dt\nx = dt.date.today()", "datetime.date.today"),
    ],
)
def test_other_clock_is_found(text: str, name: str) -> None:
    (finding,) = found(calls.clock, text)
    assert f"{name}: take a Clock instead" in finding


@pytest.mark.parametrize(
    "text",
    [
        "import time\nx = time.strftime('%Y', time.gmtime(0))",
        "from datetime import datetime, UTC\nx = datetime.fromtimestamp(0, UTC)",
        "def f(clock):\n    return clock.time.monotonic()",
    ],
)
def test_time_that_asks_no_clock_is_fine(text: str) -> None:
    assert [] == found(calls.clock, text)


def test_the_clock_itself_may_ask_the_system() -> None:
    assert [] == list(calls.clock([module("from time import time", "nuvom/core/clock.py")]))


@pytest.mark.parametrize(
    "text",
    [
        "import time\ndef test_x():\n    time.sleep(0.1)",
        "from time import sleep\ndef test_x():\n    sleep(secs)",
        "import asyncio\nasync def test_x():\n    await asyncio.sleep(1)",
    ],
)
def test_sleep_is_found(text: str) -> None:
    (finding,) = found(calls.sleeps, text)
    assert finding.startswith("test_x:")


def test_yielding_to_the_loop_is_no_sleep() -> None:
    assert [] == found(calls.sleeps, "import asyncio\nasync def t():\n    await asyncio.sleep(0)")


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import marshal as m\nx = m.loads(b'')",
        "import shelve",
        "x = eval('1')",
        "exec('pass')",
        "import yaml\nx = yaml.load('')",
        "from yaml import load",
    ],
)
def test_code_from_bytes_is_found(text: str) -> None:
    assert found(calls.data_safety, text)


def test_safe_reading_is_fine() -> None:
    assert [] == found(calls.data_safety, "import ast, yaml\nast.literal_eval(yaml.safe_load(''))")


@pytest.mark.parametrize(
    "handler",
    [
        "except Exception:",
        "except BaseException as e:",
        "except:",
        "except (ValueError, Exception):",
    ],
)
def test_handler_of_everything_is_found(handler: str) -> None:
    text = f"def f():\n    try:\n        g()\n    {handler}\n        pass\n"
    assert ["f: catches everything, and has no comment"] == found(calls.broad_excepts, text)
    assert 1 == len(list(calls.uncommented_excepts([module(text)])))


@pytest.mark.parametrize(
    "handler",
    [
        "except Exception:  # user code\n        pass",
        "except Exception:  # noqa: BLE001  # user code\n        pass",
        "except Exception:\n        # user code\n        pass",
    ],
)
def test_handler_of_everything_with_a_reason_is_told_apart(handler: str) -> None:
    text = f"def f():\n    try:\n        g()\n    {handler}\n"
    assert ["f: catches everything"] == found(calls.broad_excepts, text)
    assert [] == list(calls.uncommented_excepts([module(text)]))


def test_lint_directive_is_no_comment() -> None:
    text = "try:\n    g()\nexcept Exception:  # noqa: BLE001\n    pass\n"
    assert 1 == len(list(calls.uncommented_excepts([module(text)])))


def test_suppressing_everything_is_found() -> None:
    text = "import contextlib\nwith contextlib.suppress(Exception):\n    g()"
    assert [": suppresses everything"] == found(calls.broad_excepts, text)


@pytest.mark.parametrize(
    "handler", ["except OSError:\n    pass", "except BaseException:\n    undo()\n    raise"]
)
def test_handler_that_swallows_little_is_fine(handler: str) -> None:
    assert [] == found(calls.broad_excepts, f"try:\n    g()\n{handler}\n")


def test_long_file_is_found() -> None:
    assert [] == found(sizes.sizes, "x = 1\n" * sizes.FILE_LINES)
    assert [": 601 lines, at most 600"] == found(sizes.sizes, "x = 1\n" * 601)


def test_long_function_is_found_and_its_docstring_does_not_count() -> None:
    head = 'class A:\n    def f(self):\n        """One.\n\n        Two.\n        """\n'
    assert [] == found(sizes.sizes, head + "        x = 1\n" * 39)
    text = "A.f: 41 lines without its docstring, at most 40"
    assert [text] == found(sizes.sizes, head + "        x = 1\n" * 40)


def test_deep_nesting_is_found() -> None:
    text = "def f():\n  for a in b:\n    if a:\n      with a:\n        try:\n          g()\n"
    end = "        finally:\n          h()\n"
    assert ["f: nested 4 deep, at most 3"] == found(sizes.sizes, text + end)


def test_elif_and_inner_function_open_no_depth() -> None:
    text = """
        def f():
            for a in b:
                while a:
                    if a:
                        g()
                    elif b:
                        g()
                    elif c:
                        g()
                    else:
                        def h():
                            if a:
                                g()
        """
    assert [] == found(sizes.sizes, text)


def test_block_inside_a_last_branch_counts() -> None:
    text = """
        def f():
            for a in b:
                while a:
                    if a:
                        g()
                    elif b:
                        g()
                    else:
                        for c in d:
                            g()
        """
    assert ["f: nested 4 deep, at most 3"] == found(sizes.sizes, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(a, b, c, d, *, e): ...", 0),
        ("def f(a, /, b, c, d, e): ...", 1),
        ("class A:\n    def f(self, a, b, c, d): ...", 0),
        ("class A:\n    @staticmethod\n    def f(a, b, c, d, e): ...", 1),
    ],
)
def test_many_positional_parameters_are_found(text: str, expected: int) -> None:
    assert expected == len(found(sizes.sizes, text))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("x = 1", ""),
        ('"""M."""\ndef f(): ...', "f"),
        ('"""M."""\nclass A: ...', "A"),
        ('"""M."""\nclass A:\n    """A."""\n    def f(self): ...', "A.f"),
    ],
)
def test_missing_docstring_is_found(text: str, where: str) -> None:
    (finding,) = found(words.docstrings, text)
    assert where == finding.partition(":")[0]


INHERITED = '''
class A:
    """A."""
    def f(self):
        """F."""
class B(A[int]):
    """B."""
    def f(self): ...
class C(base.B):
    """C."""
    def f(self): ...
'''


@pytest.mark.parametrize(
    "text",
    [
        "def _f(): ...",
        'class A:\n    """A."""\n    def _f(self): ...\n    def __len__(self): ...',
        "class _A:\n    def f(self): ...",
        'def f():\n    """F."""\n    def g(): ...\n    class B:\n        def h(self): ...',
        INHERITED,
        'class A:\n    """A."""\n    @f.setter\n    def f(self, x): ...\n',
        'class A:\n    """A."""\n    @overload\n    def f(self): ...\n',
        "if TYPE_CHECKING:\n    def f(self): ...\n",
    ],
)
def test_docstring_is_asked_for_only_where_a_reader_needs_it(text: str) -> None:
    assert [] == found(words.docstrings, f'"""M."""\n{text}')


def test_private_module_needs_a_docstring_of_its_own_only() -> None:
    assert [] == list(words.docstrings([module('"""M."""\ndef f(): ...', "nuvom/_m.py")]))
    assert 1 == len(list(words.docstrings([module("def f(): ...", "nuvom/_m.py")])))


def test_method_of_a_foreign_base_needs_its_own_docstring() -> None:
    text = '"""M."""\nclass A(Thread):\n    """A."""\n    def run(self): ...'
    assert ["A.run: has none"] == found(words.docstrings, text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("class JobManager: ...", "Manager"),
        ("def send_messages(): ...", "messages"),
        ("class A:\n    def nack(self): ...", "nack"),
        ("class HTTPBroker: ...", "Broker"),
        ("def find_actor(): ...", "actor"),
    ],
)
def test_forbidden_word_is_found(text: str, word: str) -> None:
    (finding,) = found(words.words, text)
    assert f"says {word!r}" in finding


def test_forbidden_word_in_a_module_name_is_found() -> None:
    for name in ("utils", "common", "task_helpers"):
        (finding,) = words.words([module("", f"nuvom/cli/{name}.py")])
        assert "the module's name says" in finding.text


def test_word_inside_another_word_and_attributes_are_fine() -> None:
    assert [] == found(words.words, "message = 1\ndef factory(): ...\nclass CommonUtility: ...")


def test_modules_loaded_by_a_program_are_listed(tmp_path: Path) -> None:
    loaded = loading.loaded_by("import wave", tmp_path)
    assert "wave" in loaded
    assert "sys" not in loaded
    assert [] == list(tmp_path.iterdir())


def test_forbidden_and_too_many_modules_are_found() -> None:
    costs = loading.import_cost(["a", "rich"], ["rich", "click"], most=1)
    texts = [finding.text for finding in costs]
    assert ["is loaded and must not be", "2 modules, at most 1: a, rich"] == texts


def test_few_modules_are_fine() -> None:
    assert [] == list(loading.import_cost(["a"], ["rich"], most=1))
