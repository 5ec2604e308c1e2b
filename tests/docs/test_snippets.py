"""Every page does what it says: its snippets run, in order, in an empty folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.snippets import ROOT, Snippet, pages, snippets
from tests.docs.story import Story, StoryFailed, matches

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    name = page.relative_to(ROOT).as_posix()
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


def test_remarks_belong_to_the_fence_that_follows_them() -> None:
    page = "<!-- a -->\n\n<!-- exit 7 -->\n```bash\nx\n```\n\n<!-- b -->\ntext\n```text\ny\n```\n"
    assert [
        Snippet("bash", "x\n", 5, ("a", "exit 7")),
        Snippet("text", "y\n", 11),
    ] == list(snippets(page))


def test_a_fence_that_is_not_closed_is_an_error() -> None:
    with pytest.raises(ValueError, match="not closed"):
        list(snippets("```bash\nx\n"))


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


def test_python_of_a_page_shares_its_names_and_its_files(tmp_path: Path) -> None:
    play(
        tmp_path,
        Snippet("python", "# there.py\nx = 1\n", 1),
        Snippet("python", "from there import x\nprint('hello')\n", 1),
        Snippet("python", "assert x == 1\n", 1),
    )


def test_a_command_may_set_variables(tmp_path: Path) -> None:
    command = "X=5 python -c 'import os; print(os.environ[\"X\"])'"
    play(tmp_path, Snippet("console", f"$ {command}\n5\n", 1))


def test_what_runs_in_the_background_ends_with_the_page(tmp_path: Path) -> None:
    forever = "import time\nwhile True:\n    time.sleep(1)\n"
    play(
        tmp_path,
        Snippet("python", f"# forever.py\n{forever}", 1),
        Snippet("bash", "python forever.py\n", 1, ("background",)),
    )


def test_what_ends_in_the_background_by_itself_is_a_failure(tmp_path: Path) -> None:
    ends = Snippet("bash", "python -c 1\n", 1, ("background",))
    later = Snippet("python", "import time\ntime.sleep(0.5)\n", 1)
    with pytest.raises(StoryFailed, match="exit code 0"):
        play(tmp_path, ends, later)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [("1", "1\n"), ("...", ""), ("a...c", "a\nb\nc"), ("...b...", "abc"), ("", "")],
)
def test_dots_stand_for_anything(expected: str, printed: str) -> None:
    assert matches(expected, printed)


@pytest.mark.parametrize(("expected", "printed"), [("1", "12"), ("a...c", "a b"), ("", "x")])
def test_everything_else_has_to_be_there(expected: str, printed: str) -> None:
    assert not matches(expected, printed)
