"""Which files the rules hide, compared with Git's own reading of the same rules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuvom.discovery.ignore import IGNORE_FILE, IgnoreRules, PatternList
from nuvom.discovery.walker import Walker
from tests.unit.discovery.projects import write


def rules(*lines: str) -> IgnoreRules:
    return IgnoreRules([PatternList(lines, IGNORE_FILE)])


def files(root: Path, **options: Any) -> set[str]:
    walker = Walker(str(root.resolve()), IgnoreRules(**options))
    return {source.file for source in walker.files()}


# ---- folders skipped by default ---------------------------------------------------------

SKIPPED = ["venv", "node_modules", "build", ".git", ".hidden", "thing.egg-info"]


@pytest.mark.parametrize("name", SKIPPED)
def test_folder_is_skipped_by_default_until_a_line_names_it(name: str) -> None:
    assert f"`!{name}/`" in (IgnoreRules().why_folder(f"app/{name}") or "")
    assert rules(f"!{name}").why_folder(f"app/{name}") is None
    assert rules(f"!/app/**/{name}/").why_folder(f"app/x/{name}") is None
    assert IgnoreRules().why_folder("builds") is None


@pytest.mark.parametrize("line", ["!*/", "!.*", "![b]uild/", "build/", "!other/"])
def test_folder_skipped_by_default_stays_so_when_no_line_names_it(line: str) -> None:
    assert rules(line).why_folder("build") is not None
    assert rules(line).why_folder(".venv") is not None


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "conda-meta/history"])
def test_folder_that_holds_an_environment_is_skipped_whatever_its_name(
    tmp_path: Path, mark: str
) -> None:
    write(tmp_path, {f"env/{mark}": "", "env/a.py": "", "env/lib/b.py": "", "c.py": ""})
    assert {"c.py"} == files(tmp_path)
    write(tmp_path, {IGNORE_FILE: "!env/\n"})
    assert {"c.py", "env/a.py", "env/lib/b.py"} == files(tmp_path)


# ---- ignore files -----------------------------------------------------------------------


@pytest.mark.parametrize("line", ["!", "a\\", "[z-a]"])
def test_line_that_is_no_pattern_is_reported_and_the_others_count(line: str) -> None:
    patterns = PatternList(["a.py", line, "b.py"], IGNORE_FILE)
    assert [(IGNORE_FILE, 2, "warning")] == [
        (one.file, one.line, one.level) for one in patterns.problems
    ]
    assert patterns.rule_for("a.py")
    assert patterns.rule_for("b.py")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("app/**\n!app/x.py\n", {"x.py", "app/x.py"}),  # app itself is not hidden
        ("app/**/\n", {"x.py", "app/x.py", "app/y.py"}),  # folders inside app alone
        ("*/\n!/app/\n", {"x.py", "app/x.py", "app/y.py"}),  # every folder, at any depth
        ("sub/\n!/app/\n", {"x.py", "app/x.py", "app/y.py"}),  # what is inside stays hidden
        ("*\n!*/\n!x.py\n", {"x.py", "app/x.py", "app/sub/x.py"}),
    ],
)
def test_stars_mean_what_they_mean_to_git(tmp_path: Path, lines: str, found: set[str]) -> None:
    names = ["x.py", "app/x.py", "app/y.py", "app/sub/x.py"]
    write(tmp_path, {IGNORE_FILE: lines, **dict.fromkeys(names, "")})
    assert found == files(tmp_path)


def test_ignore_file_may_start_with_a_byte_order_mark_and_hold_any_bytes(tmp_path: Path) -> None:
    write(tmp_path, {IGNORE_FILE: b"\xef\xbb\xbfa.py\r\n\xff\xfe\r\nb.py"})
    write(tmp_path, {"a.py": "", "b.py": "", "c.py": ""})
    assert {"c.py"} == files(tmp_path)


def test_options_win_over_ignore_files(tmp_path: Path) -> None:
    write(tmp_path, {IGNORE_FILE: "!a.py\nb.py\n", "build/x.py": "", "app/y/z.py": ""})
    write(tmp_path, {"a.py": "", "b.py": "", "c.py": ""})
    exclude = PatternList(["a.py", "app/"], "--exclude")
    assert {"c.py"} == files(tmp_path, exclude=exclude)
    assert "--exclude a.py" == IgnoreRules(exclude=exclude).why_file("a.py")
    include = PatternList(["app/", "a.*"], "--include")
    assert {"a.py", "app/y/z.py"} == files(tmp_path, include=include)
    assert "no --include pattern fits it" == IgnoreRules(include=include).why_file("c.py")


# ---- Git's reading ----------------------------------------------------------------------

_FOLDERS = ["a", "b", "ab", "foo"]
_PARTS = [*_FOLDERS, "x.py", "y.py", "*", "**", "a*", "?", "[ab]", "[!a]", "*.py", "fo?", "\\a"]
_paths = st.builds(
    lambda folders, name: "/".join([*folders, name]),
    st.lists(st.sampled_from(_FOLDERS), max_size=3),
    st.sampled_from(["x.py", "y.py", "a.py", "ab.py"]),
)
_patterns = st.builds(
    lambda mark, start, parts, end: mark + start + "/".join(parts) + end,
    st.sampled_from(["", "", "!", "#"]),
    st.sampled_from(["", "", "/"]),
    st.lists(st.sampled_from(_PARTS), min_size=1, max_size=3),
    st.sampled_from(["", "", "/", "  "]),
)
_ignore_files = st.lists(_patterns, min_size=1, max_size=5).map("\n".join)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "--quiet", root], check=True)
    return root


@settings(max_examples=60)
@given(
    st.lists(_paths, min_size=1, max_size=10),
    _ignore_files,
    st.sampled_from(_FOLDERS),
    _ignore_files,
)
def test_the_same_files_are_hidden_as_by_git(
    repository: Path, paths: list[str], above: str, folder: str, below: str
) -> None:
    for child in repository.iterdir():
        if child.is_dir() and child.name != ".git":
            shutil.rmtree(child)
        elif child.name != ".git":
            child.unlink()
    write(repository, dict.fromkeys(paths, ""))
    write(repository, {IGNORE_FILE: above, f"{folder}/{IGNORE_FILE}": below})
    listed = subprocess.run(
        ["git", "ls-files", "--others", "-z", f"--exclude-per-directory={IGNORE_FILE}"],
        cwd=repository,
        check=True,
        capture_output=True,
    ).stdout.decode()
    assert {path for path in listed.split("\0") if path.endswith(".py")} == files(repository)
