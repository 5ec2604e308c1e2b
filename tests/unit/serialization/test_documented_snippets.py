"""What docs/serialization.md says is what happens."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nuvom.serialization.extensions import READERS, WRITERS, Code
from nuvom.serialization.refusal import MAX_DEPTH

PAGE = (Path(__file__).parents[3] / "docs" / "serialization.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_snippets_of_the_page_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)
    for snippet in SNIPPETS:
        code = compile(snippet, "docs/serialization.md", "exec", dont_inherit=True)
        exec(code, vars(page))  # the page's own text
    assert "kwargs['user']['session']: Session cannot be stored" in capsys.readouterr().out
    assert len(SNIPPETS) >= 5


def test_each_extension_type_is_in_both_tables() -> None:
    codes = {code for name, code in vars(Code).items() if name.isupper()}
    types, _, contents = PAGE.partition("## Reading payloads")
    assert codes == set(range(1, 16))
    for code in codes:
        assert re.search(rf"extensions? (\d+, )*{code}\b", types)
        assert re.search(rf"^\| (\d+, )*{code}\b", contents, re.MULTILINE)


def test_each_type_with_an_extension_is_in_the_table() -> None:
    for cls in WRITERS:
        name = cls.__name__
        assert f"`{'Path' if name in ('PosixPath', 'WindowsPath') else name}`" in PAGE
    assert set(READERS) < set(range(1, 16))


def test_the_limit_of_depth_is_the_one_in_the_table() -> None:
    assert f"| containers inside one another | {MAX_DEPTH} |" in PAGE
