"""Files whole or not at all, private folders, and operating system errors as errors of ours."""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import BackendUnavailable, StorageFull
from nuvom.host import files
from nuvom.host.files import (
    network_kind,
    on_file,
    open_file,
    persist,
    private_directory,
    read_at,
    read_file,
    refuse_network,
    storage_error,
    storage_errors,
    sync_data,
    sync_directory,
    sync_file,
    write_all,
    write_durably,
)
from tests.unit.queue_backends.faults import Faults, fail
from tests.unit.queue_backends.interrupting import descriptors, interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="owners, modes and links are POSIX")


# ---- errors -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_without_room_is_storage_full(code: int) -> None:
    error = storage_error("here", OSError(code, os.strerror(code)))
    assert isinstance(error, StorageFull)
    assert "here" in str(error)


def test_any_other_failure_is_an_unavailable_backend_that_says_why() -> None:
    error = storage_error("here", OSError(errno.EIO, "Input/output error"))
    assert isinstance(error, BackendUnavailable)
    assert "Input/output error" in str(error)
    assert "weird" in str(storage_error("here", OSError("weird")))
    assert "OSError" in str(storage_error("here", OSError()))


def test_an_error_of_the_block_is_wrapped_once_with_its_cause() -> None:
    with pytest.raises(BackendUnavailable) as caught, storage_errors("here"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert isinstance(caught.value.__cause__, PermissionError)
    with pytest.raises(StorageFull), storage_errors("outer"), storage_errors("inner"):
        raise OSError(errno.ENOSPC, "full")


# ---- files --------------------------------------------------------------------------------


def test_a_written_file_holds_the_data_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert write_durably(path, b"one")
    assert write_durably(path, b"two", flush=False)
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]


@posix
def test_a_written_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_durably(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_an_exclusive_write_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert write_durably(path, b"one", exclusive=True)
    assert not write_durably(path, b"two", exclusive=True)
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_whatever_fails_the_file_is_as_before_or_whole(
    tmp_path: Path, code: int, *, exclusive: bool
) -> None:
    number = 0
    while True:
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "file"
        if not exclusive:
            path.write_bytes(b"before")
        fault = Faults(number, fail(code))
        with pytest.MonkeyPatch.context() as patch:
            fault.install(patch)
            try:
                write_durably(path, b"after" * 100, exclusive=exclusive)
            except (StorageFull, BackendUnavailable) as error:
                assert isinstance(error, StorageFull) == (code == errno.ENOSPC)
        if not fault.reached:
            break
        if fault.reached not in ("unlink", ""):
            assert len(os.listdir(folder)) <= 1
        assert not path.exists() or path.read_bytes() in (b"before", b"after" * 100)
        number += 1
    assert number >= 4


def test_file_and_folder_are_flushed_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_replace = os.replace
    monkeypatch.setattr(files, "sync_file", lambda _: calls.append("file"))
    monkeypatch.setattr(files, "sync_directory", lambda _: calls.append("folder"))

    def replace(source: str, target: str) -> None:
        calls.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_durably(tmp_path / "file", b"x")
    assert calls == ["file", "rename", "folder"]
    calls.clear()
    write_durably(tmp_path / "file", b"x", flush=False)
    assert calls == ["rename"]


def test_data_that_the_system_takes_in_parts_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, bytes(data)[:3]))
    write_durably(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_reading_at_a_place_gathers_what_comes_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    real = os.read
    monkeypatch.setattr(os, "read", lambda file, size: real(file, min(size, 3)))
    file = os.open(tmp_path / "file", os.O_RDONLY)
    assert read_at(file, 5, 2) == b"23456"
    assert read_at(file, 50, 7) == b"789"
    assert read_at(file, 5, 50) == b""
    os.close(file)


def test_flushing_a_real_file_and_folder_works(tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    write_all(file, b"x")
    sync_file(file)
    sync_data(file)
    os.close(file)
    sync_directory(tmp_path)


# ---- interrupted --------------------------------------------------------------------------


@pytest.mark.parametrize("exclusive", [False, True])
def test_an_interrupted_write_leaves_the_file_as_before_or_whole(
    tmp_path: Path, *, exclusive: bool
) -> None:
    def prepare(number: int) -> tuple[Callable[[], object], Callable[[bool], object]]:
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "file"
        if not exclusive:
            path.write_bytes(b"before")

        def check(_: bool) -> None:  # noqa: FBT001  # it is told this alone
            assert set(os.listdir(folder)) <= {"file"}
            if exclusive:
                assert not path.exists() or path.read_bytes() == b"after"
            else:
                assert path.read_bytes() in (b"before", b"after")
            assert write_durably(path, b"again")
            assert path.read_bytes() == b"again"

        return lambda: write_durably(path, b"after", exclusive=exclusive), check

    assert interrupt_everywhere(prepare) > 20


def test_an_interrupted_use_of_a_file_leaves_it_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def prepare(_: int) -> tuple[Callable[[], object], Callable[[bool], object]]:
        def use() -> None:
            read_file(path)
            on_file(path, os.O_RDWR, os.fsync)
            open_file(path, os.O_RDWR).close()
            sync_directory(tmp_path)

        return use, lambda _: None

    assert interrupt_everywhere(prepare) > 10


def test_a_file_is_closed_behind_a_use_that_fails(tmp_path: Path) -> None:
    before = descriptors()
    (tmp_path / "file").touch()
    with pytest.raises(ZeroDivisionError):
        on_file(tmp_path / "file", os.O_RDWR, lambda file: file // 0)
    with pytest.raises(FileNotFoundError):
        on_file(tmp_path / "missing", os.O_RDWR, os.fsync)
    assert descriptors() == before


# ---- Windows' refusals --------------------------------------------------------------------


class HeldError(PermissionError):
    winerror = 32


def busy(times: int, error: type[OSError] = HeldError) -> tuple[Callable[[], None], list[int]]:
    tries: list[int] = []

    def action() -> None:
        tries.append(1)
        if len(tries) <= times:
            raise error(errno.EACCES, "in use")

    return action, tries


def test_an_action_is_tried_again_while_another_program_holds_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", waits.append)
    action, tries = busy(3)
    persist(action)
    assert len(tries) == 4
    assert len(waits) == 3


def test_a_file_held_for_ever_surfaces_after_about_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", waits.append)
    action, _ = busy(10**6)
    with pytest.raises(HeldError):
        persist(action)
    assert 0.5 < sum(waits) < 2


def test_another_error_is_not_tried_again() -> None:
    action, tries = busy(1, PermissionError)
    with pytest.raises(PermissionError):
        persist(action)
    assert len(tries) == 1


# ---- folders ------------------------------------------------------------------------------


@posix
def test_a_private_folder_and_those_above_are_made_for_the_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_directory(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    private_directory(tmp_path / "a" / "b")


@posix
def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(BackendUnavailable, match="symbolic link"):
        private_directory(tmp_path / "link")


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendUnavailable, match="not a folder"):
        private_directory(tmp_path / "file")


@posix
def test_a_folder_that_others_may_write_to_is_refused_with_the_repair(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o770)
    with pytest.raises(BackendUnavailable, match=f'chmod go-w "{folder}"'):
        private_directory(folder)


@posix
def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.lstat

    def stranger(path: Any) -> os.stat_result:
        fields = list(real(path))
        fields[4] = 4242
        return os.stat_result(fields)

    monkeypatch.setattr(os, "lstat", stranger)
    with pytest.raises(BackendUnavailable, match="belongs to the user 4242"):
        private_directory(tmp_path)


def test_a_folder_made_by_another_process_at_the_same_time_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def late(path: Any, mode: int) -> None:
        real(path, mode)
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", late)
    private_directory(tmp_path / "new")
    assert (tmp_path / "new").is_dir()


def test_a_folder_that_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Faults(0, fail(errno.ENOSPC)).install(monkeypatch)
    with pytest.raises(StorageFull):
        private_directory(tmp_path / "new")


# ---- network file systems ---------------------------------------------------------------

linux = pytest.mark.skipif(sys.platform == "win32", reason="reads what Linux tells")


def mounts(folder: Path, *lines: tuple[str, str]) -> str:
    table = folder / "mountinfo"
    table.write_text(
        "".join(
            f"{number} 1 0:{number} / {point} rw,relatime shared:1 - {kind} source rw\n"
            for number, (point, kind) in enumerate(lines)
        )
    )
    return str(table)


@linux
def test_the_deepest_mount_decides(tmp_path: Path) -> None:
    table = mounts(tmp_path, ("/", "ext4"), ("/srv", "nfs4"), ("/srv/local", "xfs"))
    assert network_kind("/srv/queue", table) == "nfs4"
    assert network_kind("/srv", table) == "nfs4"
    assert network_kind("/srv/local/queue", table) is None
    assert network_kind("/srvother", table) is None
    assert network_kind("/home/me", table) is None


@linux
def test_the_last_of_two_mounts_at_one_place_decides(tmp_path: Path) -> None:
    table = mounts(tmp_path, ("/", "ext4"), ("/srv", "autofs"), ("/srv", "cifs"))
    assert network_kind("/srv/queue", table) == "cifs"


@linux
def test_a_mount_with_a_space_in_its_name_is_understood(tmp_path: Path) -> None:
    table = mounts(tmp_path, ("/", "ext4"), ("/srv/my\\040share", "fuse.sshfs"))
    assert network_kind("/srv/my share/queue", table) == "fuse.sshfs"


@linux
def test_where_nothing_is_told_nothing_is_refused(tmp_path: Path) -> None:
    assert network_kind("/srv", str(tmp_path / "missing")) is None
    (tmp_path / "odd").write_text("rubbish\n1 2 3 4 / - \n")
    assert network_kind("/srv", str(tmp_path / "odd")) is None


def test_a_local_folder_is_accepted(tmp_path: Path) -> None:
    refuse_network(str(tmp_path), allowed=False)


def test_a_network_file_system_is_refused_unless_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "network_kind", lambda _: "nfs4")
    with pytest.raises(BackendUnavailable, match="nfs4") as caught:
        refuse_network(str(tmp_path), allowed=False)
    assert "allow_network_fs" in str(caught.value)
    refuse_network(str(tmp_path), allowed=True)
