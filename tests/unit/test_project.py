"""Where a project is, what may be its state folder, and what its files are called."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.config.project import (
    check_state_dir,
    create_private_file,
    ensure_folder_for,
    ensure_state_dir,
    find_root,
    has_section,
    here,
    import_roots,
    module_name_for,
    require_root,
    root_or_here,
    search_from,
)
from nuvom.errors import BackendUnavailable, ProjectNotFound

if TYPE_CHECKING:
    pass

posix = pytest.mark.skipif(sys.platform == "win32", reason="owners, modes and links are POSIX")

ME = 1000
STRANGER = 4242


def mark(folder: Path, marker: str = "nuvom.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if marker == ".nuvom":
        (folder / marker).mkdir()
    else:
        text = "[tool.nuvom]\n" if marker == "pyproject.toml" else ""
        (folder / marker).write_text(text, encoding="utf-8")
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def fake_stat(monkeypatch: pytest.MonkeyPatch, path: Path, **changes: int) -> None:
    """Let ``path`` look as if another user or another file system had it."""
    real, fields = os.stat, {"st_mode": 0, "st_dev": 2, "st_uid": 4}

    def fake(asked: Any, **options: Any) -> os.stat_result:
        found = real(asked, **options)
        if os.fspath(path) != str(asked):
            return found
        values = list(found)
        for name, value in changes.items():
            values[fields[name]] = value
        return os.stat_result(values)

    monkeypatch.setattr(os, "stat", fake)


# ---- the root -------------------------------------------------------------------------


@pytest.mark.parametrize("marker", [".nuvom", "nuvom.toml", "pyproject.toml"])
def test_the_root_is_the_nearest_folder_with_a_marker(tmp_path: Path, marker: str) -> None:
    mark(tmp_path)
    root = mark(tmp_path / "Projekt mit ä", marker)
    below = root / "a" / "b"
    below.mkdir(parents=True)

    assert find_root(below) == find_root(root) == require_root(below) == root


def test_a_framework_says_where_the_search_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    for folder in (site, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(elsewhere)
    search_from(site)
    try:
        assert require_root() == root_or_here() == site
        mark(tmp_path)
        assert find_root() == tmp_path
        assert find_root(elsewhere) == tmp_path
    finally:
        search_from(None)
    (tmp_path / "nuvom.toml").unlink()
    assert root_or_here() == elsewhere


def test_no_project_is_an_error_that_names_the_folders_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)

    with pytest.raises(ProjectNotFound) as caught:
        require_root(below)

    assert caught.value.tried == f"{below}, {tmp_path / 'a'}"
    assert "nuvom init" in caught.value.fix


@posix
def test_a_working_directory_that_was_removed_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    for look in (require_root, root_or_here, here):
        with pytest.raises(ProjectNotFound, match="no longer exists"):
            look()


def test_the_home_folder_ends_the_search_unless_one_stands_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark(tmp_path)
    home = mark(tmp_path / "home")
    (home / "work").mkdir()
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))

    assert find_root(home / "work") is None
    assert find_root(home) == home


@posix
def test_another_file_system_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mark(tmp_path / "mount")
    (root / "sub").mkdir()
    fake_stat(monkeypatch, root, st_dev=root.stat().st_dev + 1)

    assert find_root(root / "sub") is None


@posix
@pytest.mark.parametrize(
    ("uid", "permissions", "found"),
    [
        (ME, 0o775, True),  # as umask 002 makes it
        (ME, 0o757, False),
        (0, 0o755, True),
        (0, 0o775, False),
        (0, 0o1777, False),
        (STRANGER, 0o700, False),
    ],
)
def test_folders_above_count_only_where_no_stranger_can_lay_a_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, permissions: int, *, found: bool
) -> None:
    root = mark(tmp_path / "p")
    (root / "sub").mkdir()
    fake_stat(monkeypatch, root, st_uid=uid, st_mode=stat.S_IFDIR | permissions)
    monkeypatch.setattr(os, "geteuid", lambda: ME)

    assert find_root(root / "sub") == (root if found else None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"[a]\r\n  [ tool . nuvom ] # x\r\n", True),
        (b"[tool.nuvom.x]", True),
        (b"# [tool.nuvom]", False),
        (b"[tool.nuvomatic]", False),
        (b'x = "[tool.nuvom]"', False),
        (b"[tool.other]\nnuvom = 1", False),
    ],
)
def test_our_section_is_found_by_its_header(text: bytes, *, found: bool) -> None:
    assert found == has_section(text)


# ---- the folder .nuvom ----------------------------------------------------------------


def test_the_folder_keeps_itself_out_of_git_and_twice_is_safe(tmp_path: Path) -> None:
    folder = ensure_state_dir(tmp_path)
    assert folder == tmp_path / ".nuvom"
    assert (folder / ".gitignore").read_bytes() == b"*\n"

    (folder / ".gitignore").write_bytes(b"mine\n")
    assert ensure_state_dir(tmp_path) == folder
    assert (folder / ".gitignore").read_bytes() == b"mine\n"


@posix
def test_folders_and_files_are_private_and_a_store_elsewhere_needs_no_state_folder(
    tmp_path: Path,
) -> None:
    root = tmp_path / "p"
    before = os.umask(0)
    try:
        ensure_folder_for(tmp_path / "other" / "deep" / "c", root=root, setting="file_path")
        assert not root.exists()
        ensure_folder_for(root / ".nuvom" / "a" / "b", root=root, setting="file_path")
        create_private_file(root / ".nuvom" / "x.db", setting="sqlite_path")
    finally:
        os.umask(before)

    assert mode(tmp_path / "other") == mode(tmp_path / "other" / "deep") == 0o700
    assert mode(root / ".nuvom") == mode(root / ".nuvom" / "a") == 0o700
    assert mode(root / ".nuvom" / "x.db") == mode(root / ".nuvom" / ".gitignore") == 0o600


@posix
def test_a_state_folder_is_checked_by_readers_and_writers_alike(tmp_path: Path) -> None:
    def writer(root: Path) -> None:
        ensure_folder_for(root / ".nuvom" / "x.db", root=root, setting="sqlite_path")

    assert check_state_dir(tmp_path) is False
    writer(tmp_path)
    assert check_state_dir(tmp_path) is True
    (tmp_path / ".nuvom").chmod(0o777)
    for call in (ensure_state_dir, check_state_dir, writer):
        with pytest.raises(BackendUnavailable, match="other users"):
            call(tmp_path)


def test_a_place_that_cannot_be_used_names_the_setting_that_moves_it(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(BackendUnavailable, match="NUVOM_FILE_PATH"):
        ensure_folder_for(tmp_path / "a" / "b" / "c", root=tmp_path, setting="file_path")


# ---- private files --------------------------------------------------------------------


@posix
@pytest.mark.parametrize("target", ["there", "gone"])
def test_a_linked_file_is_refused_and_its_target_left_alone(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").write_bytes(b"theirs")
    link = tmp_path / "x.db"
    link.symlink_to(tmp_path / target)

    with pytest.raises(BackendUnavailable, match="symbolic link"):
        create_private_file(link, setting="sqlite_path")

    assert (tmp_path / "there").read_bytes() == b"theirs"
    assert not (tmp_path / "gone").exists()
    with pytest.raises(BackendUnavailable, match="not a regular file"):
        create_private_file(tmp_path, setting="sqlite_path")


# ---- module names ---------------------------------------------------------------------


def test_a_module_is_named_from_the_root_or_from_a_src_that_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()

    assert import_roots(tmp_path) == [tmp_path, tmp_path / "src"]
    assert module_name_for(tmp_path / "src" / "app" / "mail.py", tmp_path) == "app.mail"
    assert module_name_for(tmp_path / "tasks.py", tmp_path) == "tasks"

    (tmp_path / "src" / "__init__.py").touch()
    assert import_roots(tmp_path) == [tmp_path]
    assert module_name_for(tmp_path / "src" / "app" / "mail.py", tmp_path) == "src.app.mail"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("tasks.py", "tasks"),
        ("a/__init__.py", "a"),
        ("größe.py", "größe"),
        ("__init__.py", None),
        ("my-tasks.py", None),
        ("a.b/c.py", None),
        ("class.py", None),
        ("tasks.txt", None),
        ("../tasks.py", None),
    ],
)
def test_module_names(tmp_path: Path, path: str, name: str | None) -> None:
    root = tmp_path / "p"
    root.mkdir()

    assert module_name_for(root / path, root) == name
