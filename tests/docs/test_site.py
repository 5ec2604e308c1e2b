"""The documentation as a site: what is put together for it, and what is found to be wrong."""

from __future__ import annotations

import re
import tomllib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import nuvom
from nuvom import errors, queue_backends, result_backends, testing
from nuvom.testing import conformance
from tests.docs.snippets import ROOT
from tools import built_site
from tools.docstrings import HouseStyle, as_google
from tools.site import Pages, left_out, named_pages, shallow

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]


def write(folder: Path, **pages: str) -> None:
    """Write files; ``__`` in a name stands for a slash, and one ``_`` for a dot."""
    for name, text in pages.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_each_page_of_docs_is_in_the_navigation_and_only_once() -> None:
    assert left_out(ROOT, PROJECT) == []
    named = list(named_pages(PROJECT["nav"]))
    assert sorted(set(named)) == sorted(named)


def test_a_page_that_the_navigation_forgets_is_told(tmp_path: Path) -> None:
    write(tmp_path, docs__index_md="", docs__lost_md="", docs__notes__one_md="")
    project = {"nav": [{"Start": ["index.md", {"Notes": "notes/"}]}]}
    assert left_out(tmp_path, project) == ["lost.md"]


def test_pages_are_written_as_the_site_renders_them() -> None:
    assert shallow(ROOT) == []


def test_a_list_item_that_would_fall_apart_is_told(tmp_path: Path) -> None:
    write(tmp_path, docs__index_md="1. One\n\n   ```\n   a\n\n   b\n   ```\n")
    (line,) = shallow(tmp_path)
    assert line.startswith("docs/index.md:3: ")


def test_pages_and_sources_that_a_page_links_to_come_along(tmp_path: Path) -> None:
    root, staged = tmp_path / "root", tmp_path / "staged"
    links = "[a](../SECURITY.md#how), [`test_it`](../tests/test_a.py), [b](sub/), [c](#here)"
    write(root, docs__index_md=f"{links}\n\n| `x\\|y` |\n", docs__sub__one_md="# One\n")
    write(root, SECURITY_md="[back](docs/index.md)", tests__README_md="never linked to")
    (root / "tests" / "test_a.py").write_text("x = 1\n\n\ndef test_it(): ...\n", encoding="utf-8")
    write(staged, gone_md="was removed")
    Pages(root, staged).stage({"nav": ["index.md", "sub/"]})
    pages = {
        path.relative_to(staged).as_posix(): path.read_text("utf-8")
        for path in staged.rglob("*.md")
    }
    assert sorted(pages) == [
        "SECURITY.md",
        "index.md",
        "sub/index.md",
        "sub/one.md",
        "tests/test_a.py.md",
    ]
    assert pages["index.md"] == (
        "[a](SECURITY.md#how), [`test_it`](tests/test_a.py.md#__codelineno-0-4), "
        "[b](sub/index.md), [c](#here)\n\n| `x|y` |\n"
    )
    assert pages["SECURITY.md"] == "[back](index.md)"
    assert "[One](one.md)" in pages["sub/index.md"]


GOOD = '<a href="b/#there">b</a><img src="x.png"><a href="https://example.org">elsewhere</a>'


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (GOOD, None),
        ('<a href="c/">c</a>', "index.html: c/: there is no such page"),
        ('<a href="b/#no">b</a>', "index.html: b/#no: there is no such anchor"),
        ('<img src="y.png">', "index.html: y.png: there is no such page"),
        (
            '<script src="https://cdn.example/x.js"></script>',
            "index.html: https://cdn.example/x.js would be loaded from another host",
        ),
        (
            '<pre class="mermaid"></pre>',
            "index.html: //the program for mermaid would be loaded from another host",
        ),
        ("<p>Things:\n- one</p>", "index.html: this Markdown was not rendered: Things: - one"),
    ],
)
def test_what_is_wrong_with_a_built_page_is_told(
    body: str, told: str | None, tmp_path: Path
) -> None:
    write(tmp_path, index_html=body, b__index_html='<h2 id="there"></h2>', x_png="")
    assert list(built_site.findings(tmp_path)) == ([told] if told else [])


def test_a_stylesheet_that_loads_from_another_host_is_told(tmp_path: Path) -> None:
    write(tmp_path, a_css='@font-face {src: url("//fonts.example/a.woff")} b {c: url(d.png)}')
    assert list(built_site.findings(tmp_path)) == [
        'a.css: url("//fonts.example/a.woff is on another host'
    ]


# ---- docstrings -------------------------------------------------------------------------------


def test_the_sections_of_a_docstring_become_markdown_with_links_to_errors() -> None:
    text = """Cancel it. Raises: NoCurrentJob.

Args:
    done, total: In any unit;
        None if unknown.
Returns: whether it was
    cancelled.
Raises: as ``delay``; TypeError: it is neither; JobNotFound (a KeyError): there is none;
    JobTimeout: it took
    too long; try again.
Source: a book.
"""
    assert as_google(text) == SHOWN


SHOWN = """\
Cancel it.

**Raises:**

- [`NoCurrentJob`][nocurrentjob].

Args:
    done: In any unit;
        None if unknown.
    total: In any unit;
        None if unknown.

**Returns:** whether it was cancelled.

**Raises:**

- as ``delay``
- `TypeError`: it is neither
- [`JobNotFound`][jobnotfound] (a `KeyError`): there is none
- [`JobTimeout`][jobtimeout]: it took too long; try again.

**Source:** a book."""


def test_a_block_of_errors_keeps_its_lines() -> None:
    text = "Get it.\n\nRaises:\n    JobFailed: it ended\n        FAILED.\n    OSError: else.\n"
    assert as_google(text).endswith(
        "**Raises:**\n\n- [`JobFailed`][jobfailed]: it ended FAILED.\n- `OSError`: else."
    )


def test_each_public_name_is_on_a_page_of_the_reference() -> None:
    text = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    packages = [nuvom, queue_backends, result_backends, testing, conformance]
    names = {name for package in packages for name in package.__all__}
    shown = set(re.findall(r"\w+", text)) | set(errors.__all__)
    builtin = {name for name in names if re.match(r"(Memory|File|SQLite)", name)}
    whole = {"assert_enqueued", "refute_enqueued"}  # of a module that is shown whole
    assert names - shown - builtin - whole == set()


def test_a_class_whose_docstring_leaves_its_fields_to_their_names_gets_a_line_for_them() -> None:
    def attribute(annotation: str | None, *labels: str) -> SimpleNamespace:
        return SimpleNamespace(
            kind=SimpleNamespace(value="attribute"),
            annotation=annotation,
            docstring=None,
            labels={*labels},
        )

    members = {
        "worker": attribute("str"),
        "_hidden": attribute("int"),
        "name": attribute("str", "property"),
        "E": attribute(None),
    }
    cls = SimpleNamespace(
        docstring=SimpleNamespace(value="It started."),
        is_module=False,
        is_class=True,
        members=members,
    )
    HouseStyle().on_object(obj=cls)
    assert cls.docstring.value == "It started.\n\n**Fields:** `worker: str`."
