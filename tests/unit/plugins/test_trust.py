"""A file that names code is read only when nobody else could have written it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.errors import InvalidConfigFile, PluginNotTrusted
from nuvom.plugins.trust import read_trusted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners of POSIX")

STRANGER = 54_321


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "my project"
    folder.mkdir(mode=0o755)
    path = folder / "file.toml"
    path.write_bytes(b"content")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o755])
def test_file_that_only_its_owner_writes_is_read(path: Path, mode: int) -> None:
    path.chmod(mode)

    assert b"content" == read_trusted(path)


@pytest.mark.parametrize(
    ("where", "mode", "what"),
    [
        (".", 0o620, "it can be written to by other users"),
        (".", 0o602, "it can be written to by other users"),
        ("..", 0o770, "its folder .* other users"),
        ("..", 0o1777, "its folder .* other users"),
    ],
)
def test_what_others_may_write_is_refused_with_the_repair(
    path: Path, where: str, mode: int, what: str
) -> None:
    open_to_others = path if where == "." else path.parent
    open_to_others.chmod(mode)

    with pytest.raises(PluginNotTrusted, match=what) as caught:
        read_trusted(path)

    assert f"Run: chmod go-w '{open_to_others}'" == caught.value.fix


def test_file_of_another_user_is_refused_and_one_of_root_is_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    if owner == 0:
        assert b"content" == read_trusted(path)
        os.chown(path, STRANGER + 1, -1)

    with pytest.raises(PluginNotTrusted, match="it belongs to the user") as caught:
        read_trusted(path)

    assert f"chown {STRANGER}" in caught.value.fix


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can give folders away"
)
def test_folder_of_another_user_is_refused(path: Path) -> None:
    os.chown(path.parent, STRANGER, -1)

    with pytest.raises(PluginNotTrusted, match=f"its folder .* belongs to the user {STRANGER}"):
        read_trusted(path)


@pytest.mark.parametrize("target", ["file.toml", "nowhere"])
def test_symbolic_link_is_refused_even_to_a_good_file(path: Path, target: str) -> None:
    link = path.with_name("link.toml")
    link.symlink_to(target)

    with pytest.raises(PluginNotTrusted, match="it is a symbolic link"):
        read_trusted(link)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_regular_file_is_refused_without_waiting(
    path: Path, make: Callable[[Path], None]
) -> None:
    path.unlink()
    make(path)

    with pytest.raises(PluginNotTrusted, match="it is not a regular file"):
        read_trusted(path)


def test_missing_file_is_no_error(path: Path) -> None:
    assert read_trusted(path.with_name("other")) is None
    assert read_trusted(path / "below a file") is None


def test_endless_file_is_refused(path: Path) -> None:
    path.write_bytes(b"#" * (1 << 20))
    assert (1 << 20) == len(read_trusted(path) or b"")

    path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(InvalidConfigFile, match="longer than 1048576 bytes"):
        read_trusted(path)


def test_what_was_opened_is_judged_and_not_what_lies_there_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and reading somebody puts a file of the same name in its place."""
    real = os.fstat

    def exchange(descriptor: int) -> os.stat_result:
        path.unlink(missing_ok=True)
        path.write_bytes(b"hostile")
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", exchange)

    assert b"content" == read_trusted(path)
