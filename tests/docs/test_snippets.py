"""Every page does what it says: its snippets run, in order, in an empty folder."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.docs.snippets import ROOT, Snippet, pages, snippets
from tests.docs.story import Story, StoryFailed

if TYPE_CHECKING:
    from pathlib import Path


HAS_DJANGO_6 = sys.version_info >= (3, 12)  # requirements/test.txt pins an older one below


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    name = page.relative_to(ROOT).as_posix()
    if name == "docs/django.md" and not HAS_DJANGO_6:
        pytest.skip("Django 6 needs Python 3.12")
    with Story(name, tmp_path) as story:
        for snippet in snippets(page.read_text(encoding="utf-8")):
            story.play(snippet)


def test_the_first_two_commands_of_the_readme_are_those_of_a_fresh_clone() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [one.text for one in snippets(text) if one.language == "bash"]
    assert ["python3 dev.py demo", "python3 dev.py test"] == re.findall(
        r"^(\w.*?)(?: *#.*)?$", commands[0], re.MULTILINE
    )


# ---- the player itself ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("snippet", "error"),
    [
        (Snippet("python", "assert 1 == 2\n", 1), "AssertionError"),
        (Snippet("python", "raise SystemExit\n", 1), "SystemExit"),
        (Snippet("bash", "python -c 'raise SystemExit(3)'\n", 1), "exit code 3, expected 0"),
        (Snippet("bash", "python -V\n", 1, ("exit 2",)), "exit code 0, expected 2"),
        (Snippet("bash", "rm -r x\n", 1), "only nuvom, python"),
        (Snippet("console", "$ python -c 'print(1)'\n2\n", 1), "expected:\n2"),
        (Snippet("toml", "a = \n", 1), "Invalid value"),
        (Snippet("cobol", "x\n", 1), "cobol"),
        (Snippet("python", "x\n", 1, ("not run: ",)), "no reason"),
    ],
)
def test_a_snippet_that_does_not_do_what_it_says_fails(
    snippet: Snippet, error: str, tmp_path: Path
) -> None:
    with pytest.raises((StoryFailed, ValueError), match=re.escape(error)):
        play(tmp_path, snippet)


def play(folder: Path, *played: Snippet) -> None:
    with Story("page.md", folder) as story:
        for snippet in played:
            story.play(snippet)
