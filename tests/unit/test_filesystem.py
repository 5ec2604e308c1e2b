"""Which kind of file system a path is on, and which are refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from nuvom.errors import BackendUnavailable
from nuvom.host import files as _filesystem
from nuvom.host.files import network_kind, refuse_network

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="reads what Linux tells")


def mounts(folder: Path, *lines: tuple[str, str]) -> str:
    table = folder / "mountinfo"
    table.write_text(
        "".join(
            f"{number} 1 0:{number} / {point} rw,relatime shared:1 - {kind} source rw\n"
            for number, (point, kind) in enumerate(lines)
        )
    )
    return str(table)


def test_the_deepest_mount_decides(tmp_path: Path) -> None:
    table = mounts(tmp_path, ("/", "ext4"), ("/srv", "nfs4"), ("/srv/local", "xfs"))
    assert network_kind("/srv/queue", table) == "nfs4"
    assert network_kind("/srv", table) == "nfs4"
    assert network_kind("/srv/local/queue", table) is None
    assert network_kind("/srvother", table) is None
    assert network_kind("/home/me", table) is None


def test_the_last_of_two_mounts_at_one_place_decides(tmp_path: Path) -> None:
    table = mounts(tmp_path, ("/", "ext4"), ("/srv", "autofs"), ("/srv", "cifs"))
    assert network_kind("/srv/queue", table) == "cifs"


def test_a_mount_with_a_space_in_its_name_is_understood(tmp_path: Path) -> None:
    table = mounts(tmp_path, ("/", "ext4"), ("/srv/my\\040share", "fuse.sshfs"))
    assert network_kind("/srv/my share/queue", table) == "fuse.sshfs"


def test_where_nothing_is_told_nothing_is_refused(tmp_path: Path) -> None:
    assert network_kind("/srv", str(tmp_path / "missing")) is None
    (tmp_path / "odd").write_text("rubbish\n1 2 3 4 / - \n")
    assert network_kind("/srv", str(tmp_path / "odd")) is None


def test_a_local_folder_is_accepted(tmp_path: Path) -> None:
    refuse_network(str(tmp_path), allowed=False)


def test_a_network_file_system_is_refused_unless_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_filesystem, "network_kind", lambda _: "nfs4")
    with pytest.raises(BackendUnavailable, match="nfs4") as caught:
        refuse_network(str(tmp_path), allowed=False)
    assert "allow_network_fs" in str(caught.value)
    refuse_network(str(tmp_path), allowed=True)
