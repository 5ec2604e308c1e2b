"""Where a project is, what may be its state folder, and what its files are called."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.config.project import (
    cannot_write,
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
)
from nuvom.errors import BackendUnavailable, ProjectNotFound, StorageFull

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


def test_the_search_starts_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mark(tmp_path / "p")
    (root / "sub").mkdir()
    monkeypatch.chdir(root / "sub")

    assert find_root() == root


def test_a_project_reached_through_a_link_is_the_same_project(tmp_path: Path) -> None:
    root = mark(tmp_path / "p")
    (tmp_path / "link").symlink_to(root, target_is_directory=True)

    assert find_root(tmp_path / "link") == root


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


def test_a_folder_that_does_not_exist_is_no_project(tmp_path: Path) -> None:
    mark(tmp_path)

    assert find_root(tmp_path / "gone") is None
    with pytest.raises(ProjectNotFound, match="gone"):
        require_root(tmp_path / "gone")


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


def test_the_search_ends_at_the_top_of_the_file_system() -> None:
    top = Path(Path.cwd().anchor)

    assert find_root(top) in (None, top)


@posix
def test_another_file_system_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mark(tmp_path / "mount")
    (root / "sub").mkdir()
    fake_stat(monkeypatch, root, st_dev=root.stat().st_dev + 1)

    assert find_root(root / "sub") is None


@posix
def test_a_folder_that_cannot_be_examined_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mark(tmp_path / "p")
    (root / "sub").mkdir()
    real = os.stat

    def fail(asked: Any, **options: Any) -> os.stat_result:
        if str(asked) == str(root):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(asked, **options)

    monkeypatch.setattr(os, "stat", fail)

    assert find_root(root / "sub") is None


@posix
@pytest.mark.parametrize(
    ("uid", "permissions", "found"),
    [
        (ME, 0o755, True),
        (ME, 0o775, True),  # as umask 002 makes it
        (ME, 0o757, False),
        (0, 0o755, True),
        (0, 0o775, False),
        (0, 0o1777, False),
        (STRANGER, 0o755, False),
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


@posix
def test_whoever_stands_in_a_folder_of_another_user_has_chosen_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mark(tmp_path / "p")
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)

    assert find_root(root) == root


@posix
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root gives away")
def test_a_folder_that_really_belongs_to_another_user_ends_the_search(tmp_path: Path) -> None:
    root = mark(tmp_path / "p")
    (root / "sub").mkdir()
    os.chown(root, STRANGER, STRANGER)

    assert find_root(root / "sub") is None
    assert find_root(root) == root


@pytest.mark.skipif(sys.platform == "win32", reason="looks at Windows from elsewhere")
def test_on_windows_owners_and_modes_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mark(tmp_path / "p")
    (root / "sub").mkdir()
    ensure_state_dir(root).chmod(0o777)
    root.chmod(0o777)
    monkeypatch.setattr(sys, "platform", "win32")

    assert find_root(root / "sub") == root
    assert check_state_dir(root)


@pytest.mark.parametrize(
    "text",
    [
        b"[tool.nuvom]",
        b"[a]\r\n  [ tool . nuvom ] # x\r\n",
        b"[tool.nuvom.x]",
    ],
)
def test_our_section_is_found_by_its_header(text: bytes) -> None:
    assert has_section(text)


@pytest.mark.parametrize(
    "text",
    [
        b"# [tool.nuvom]",
        b"[tool.nuvomatic]",
        b'x = "[tool.nuvom]"',
        b"[tool.other]\nnuvom = 1",
        b"",
    ],
)
def test_what_only_looks_like_our_section_is_none(text: bytes) -> None:
    assert not has_section(text)


def test_a_pyproject_of_somebody_else_is_no_marker(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")

    assert find_root(tmp_path) is None


# ---- the folder .nuvom ----------------------------------------------------------------


@posix
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_folder_and_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = ensure_state_dir(tmp_path)
        create_private_file(folder / "x.db", setting="sqlite_path")
        ensure_folder_for(folder / "files" / "a" / "b", root=tmp_path, setting="file_path")
        ensure_folder_for(tmp_path / "other" / "deep" / "c", root=tmp_path, setting="file_path")
    finally:
        os.umask(before)

    assert mode(folder) == 0o700
    assert mode(folder / "x.db") == mode(folder / ".gitignore") == 0o600
    assert mode(folder / "files") == mode(folder / "files" / "a") == 0o700
    assert mode(tmp_path / "other") == mode(tmp_path / "other" / "deep") == 0o700


def test_the_folder_keeps_itself_out_of_git_and_twice_is_safe(tmp_path: Path) -> None:
    folder = ensure_state_dir(tmp_path)
    assert folder == tmp_path / ".nuvom"
    assert (folder / ".gitignore").read_bytes() == b"*\n"

    (folder / ".gitignore").write_bytes(b"mine\n")
    assert ensure_state_dir(tmp_path) == folder
    assert (folder / ".gitignore").read_bytes() == b"mine\n"


def test_a_state_folder_that_is_not_there_is_no_error_for_a_reader(tmp_path: Path) -> None:
    assert check_state_dir(tmp_path) is False
    assert not (tmp_path / ".nuvom").exists()
    ensure_state_dir(tmp_path)
    assert check_state_dir(tmp_path) is True


@posix
@pytest.mark.parametrize("target", ["elsewhere", "gone"])
def test_a_linked_state_folder_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".nuvom").symlink_to(tmp_path / target)

    with pytest.raises(BackendUnavailable, match="symbolic link") as caught:
        ensure_state_dir(tmp_path)

    assert "sqlite_path" in caught.value.fix
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_file_in_place_of_the_state_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / ".nuvom").write_bytes(b"mine")

    with pytest.raises(BackendUnavailable, match="not a folder"):
        ensure_state_dir(tmp_path)

    assert (tmp_path / ".nuvom").read_bytes() == b"mine"


@posix
@pytest.mark.parametrize("permissions", [0o770, 0o707, 0o777, 0o720])
def test_a_state_folder_that_others_can_write_to_is_refused_with_its_repair(
    tmp_path: Path, permissions: int
) -> None:
    root = tmp_path / "mit Leerzeichen"
    root.mkdir()
    folder = ensure_state_dir(root)
    folder.chmod(permissions)

    for call in (ensure_state_dir, check_state_dir):
        with pytest.raises(BackendUnavailable) as caught:
            call(root)
        assert caught.value.fix == f'Run: chmod go-w "{folder}"'

    folder.chmod(stat.S_IMODE(permissions & ~0o022))  # what the repair does
    assert ensure_state_dir(root) == folder


@posix
def test_a_state_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ensure_state_dir(tmp_path)
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)

    with pytest.raises(BackendUnavailable, match=f"belongs to the user {owner}") as caught:
        ensure_state_dir(tmp_path)

    assert f'chown -R {STRANGER} "{folder}"' in caught.value.fix


def test_a_place_that_cannot_be_written_names_the_setting_that_moves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "mkdir", refuse)

    with pytest.raises(BackendUnavailable, match="Read-only file system") as caught:
        ensure_state_dir(tmp_path)
    assert caught.value.where == tmp_path / ".nuvom"
    assert "sqlite_path (NUVOM_SQLITE_PATH)" in caught.value.fix

    with pytest.raises(BackendUnavailable) as caught:
        ensure_folder_for(tmp_path / "a" / "b", root=tmp_path, setting="file_path")
    assert caught.value.where == tmp_path / "a"
    assert "NUVOM_FILE_PATH" in caught.value.fix


def test_a_folder_that_is_there_is_used_also_where_making_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ensure_state_dir(tmp_path)

    def refuse(path: object, *_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "mkdir", refuse)

    assert ensure_state_dir(tmp_path) == folder


def test_a_gitignore_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)

    with pytest.raises(StorageFull, match=r"\.gitignore"):
        ensure_state_dir(tmp_path)


def test_a_store_outside_the_state_folder_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "data" / "x.db"

    assert ensure_folder_for(path, root=tmp_path / "p", setting="sqlite_path") == path.parent
    assert ensure_folder_for(path, root=tmp_path / "p", setting="sqlite_path") == path.parent
    assert path.parent.is_dir()
    assert not (tmp_path / "p").exists()


@posix
def test_a_store_in_the_state_folder_needs_that_folder_to_be_sound(tmp_path: Path) -> None:
    path = tmp_path / ".nuvom" / "x.db"
    ensure_folder_for(path, root=tmp_path, setting="sqlite_path")
    assert (path.parent / ".gitignore").exists()
    path.parent.chmod(0o777)

    with pytest.raises(BackendUnavailable, match="other users"):
        ensure_folder_for(path, root=tmp_path, setting="sqlite_path")


def test_a_drive_that_is_not_there_is_no_endless_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "exists", lambda _: False)  # as for Z:\\ on Windows

    assert ensure_folder_for(tmp_path / "x", root=tmp_path, setting="file_path") == tmp_path


def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")

    with pytest.raises(BackendUnavailable, match="file"):
        ensure_folder_for(tmp_path / "file" / "a" / "b", root=tmp_path, setting="sqlite_path")


# ---- private files --------------------------------------------------------------------


def test_a_private_file_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "Datei ä.db"

    assert create_private_file(path, setting="sqlite_path") is True
    path.write_bytes(b"mine")
    assert create_private_file(path, setting="sqlite_path") is False
    assert path.read_bytes() == b"mine"


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


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="not a regular file"):
        create_private_file(tmp_path, setting="sqlite_path")


def test_a_file_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="NUVOM_SQLITE_PATH"):
        create_private_file(tmp_path / "gone" / "x.db", setting="sqlite_path")


def test_a_full_disk_is_told_from_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    full = cannot_write(tmp_path, OSError(errno.ENOSPC, "No space left on device"), "file_path")
    other = cannot_write(tmp_path, OSError("odd"), "file_path")

    assert isinstance(full, StorageFull)
    assert isinstance(other, BackendUnavailable)
    assert other.reason == "odd"


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
        ("a/b/c.py", "a.b.c"),
        ("a/__init__.py", "a"),
        ("a/__main__.py", "a.__main__"),
        ("größe.py", "größe"),
        ("__init__.py", None),
        ("my-tasks.py", None),
        ("a b/c.py", None),
        ("a.b/c.py", None),
        ("x.y.py", None),
        ("class.py", None),
        ("1a.py", None),
        ("tasks.txt", None),
        ("tasks", None),
        (".", None),
        ("../tasks.py", None),
    ],
)
def test_module_names(tmp_path: Path, path: str, name: str | None) -> None:
    root = tmp_path / "p"
    root.mkdir()

    assert module_name_for(root / path, root) == name


def test_a_relative_path_is_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert module_name_for(Path("a") / "b.py", tmp_path) == "a.b"


@posix
def test_links_give_the_name_by_which_the_file_is_imported(tmp_path: Path) -> None:
    root, outside = tmp_path / "p", tmp_path / "outside.py"
    root.mkdir()
    outside.touch()
    (root / "inside.py").symlink_to(outside)
    (tmp_path / "link").symlink_to(root)

    assert module_name_for(root / "inside.py", root) == "inside"
    (root / "tasks.py").touch()
    assert module_name_for(tmp_path / "link" / "tasks.py", root) == "tasks"


@given(st.lists(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), min_size=1, max_size=4))
def test_a_module_name_leads_back_to_its_file(parts: list[str]) -> None:
    root = Path.cwd()
    path = root.joinpath(*parts).with_suffix(".py")

    name = module_name_for(path, root)

    assert name is None or root.joinpath(*name.split(".")).with_suffix(".py") == path
