"""What docs/serialization.md says is what happens."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nuvom.serialization.extensions import Code

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
