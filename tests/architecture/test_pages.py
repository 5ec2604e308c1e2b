"""The checks of pages and files, on small repositories with one fault each."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.architecture import pages

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other page.md").write_text("# The `one` Title!\n\n## Twice\n\n## Twice\n")
    return tmp_path / "docs" / "page.md"


def broken(page: Path, text: str) -> list[str]:
    page.write_text(text, encoding="utf-8")
    return [str(finding) for finding in pages.links(page.parent.parent, [page])]


@pytest.mark.parametrize(
    "text",
    [
        "[a](https://example.org/x) and [b](mailto:a@example.org)",
        '[a](other%20page.md), [b](<other%20page.md> "title") and ![c](../docs)',
        "[a](other%20page.md#the-one-title) and [b](other%20page.md#twice-1)",
        "# Here\n\n[a](#here)",
        '<a id="x"></a>[a](#x)',
        "`[a](no.md)`\n\n```\n[a](no.md)\n```\n",
        "[a]: other%20page.md\n",
    ],
)
def test_good_link_is_fine(page: Path, text: str) -> None:
    assert [] == broken(page, text)


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("x\n[a](no.md)", "no.md does not exist"),
        ("x\n[a](../no.md#b)", "../no.md#b does not exist"),
        ("x\n[a](other%20page.md#no)", "other page.md#no: there is no such heading"),
        ("x\n[a](#no)", "#no: there is no such heading"),
        ("x\n[a]: no.md", "no.md does not exist"),
        ("```\n```\n[a](no.md)", "no.md does not exist"),
    ],
)
def test_broken_link_is_found_with_its_line(page: Path, text: str, link: str) -> None:
    line = text.count("\n") + 1
    assert [f"docs/page.md (line {line}): {link}"] == broken(page, text)


def test_large_file_is_found(tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(b"x" * (pages.MOST_BYTES + 1))
    small.write_bytes(b"x" * pages.MOST_BYTES)
    assert ["large"] == [finding.where for finding in pages.sizes(tmp_path, [large, small])]


@pytest.mark.parametrize("line", ["--index-url https://example.org/simple", "--pre"])
def test_index_in_requirements_is_found(tmp_path: Path, line: str) -> None:
    path = tmp_path / "requirements" / "test.txt"
    path.parent.mkdir()
    path.write_text(f"a==1 \\\n    --hash=sha256:00\n{line}\n")
    (finding,) = pages.indexes(tmp_path, [path])
    assert 3 == finding.line


def test_files_are_those_that_git_does_not_ignore(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("ignored\n")
    for name in ("ignored", "new"):
        (tmp_path / name).touch()
    assert [".gitignore", "new"] == [path.name for path in pages.repository_files(tmp_path)]


def test_files_without_git_are_all_but_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    for name in (".venv/lib", "new"):
        (tmp_path / name).touch()
    assert ["new"] == [path.name for path in pages.repository_files(tmp_path)]
