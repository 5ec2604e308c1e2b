"""Files whole or not at all, private folders, and operating system errors as errors of ours."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import BackendUnavailable, StorageFull
from nuvom.host import files
from nuvom.host.files import (
    network_kind,
    persist,
    private_directory,
    read_at,
    refuse_network,
    storage_errors,
    write_durably,
)
from tests.unit.queue_backends.faults import Faults, fail
from tests.unit.queue_backends.interrupting import interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable

posix = pytest.mark.skipif(sys.platform == "win32", reason="owners, modes and links are POSIX")


# ---- errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EFBIG, StorageFull),
        (errno.EIO, BackendUnavailable),
    ],
)
def test_an_error_of_the_system_becomes_one_of_ours(code: int, expected: type[Exception]) -> None:
    with pytest.raises(expected, match=os.strerror(code)), storage_errors("here"):
        raise OSError(code, os.strerror(code))


# ---- files --------------------------------------------------------------------------------


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_written_file_is_private_and_replaced_unless_that_is_excluded(
    tmp_path: Path, *, exclusive: bool
) -> None:
    path = tmp_path / "file"
    before = os.umask(0)
    try:
        assert write_durably(path, b"one", exclusive=exclusive)
    finally:
        os.umask(before)
    assert sys.platform == "win32" or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert write_durably(path, b"two", exclusive=exclusive) != exclusive
    assert path.read_bytes() == (b"one" if exclusive else b"two")
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


def test_data_that_the_system_moves_in_parts_is_written_and_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write, real_read = os.write, os.read
    monkeypatch.setattr(os, "write", lambda file, data: real_write(file, bytes(data)[:3]))
    monkeypatch.setattr(os, "read", lambda file, size: real_read(file, min(size, 3)))
    write_durably(tmp_path / "file", b"0123456789")
    file = os.open(tmp_path / "file", os.O_RDONLY)
    assert read_at(file, 5, 2) == b"23456"
    assert read_at(file, 50, 0) == b"0123456789"
    assert read_at(file, 5, 50) == b""
    os.close(file)


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


# ---- Windows' refusals --------------------------------------------------------------------


class HeldError(PermissionError):
    winerror = 32


@pytest.mark.parametrize(
    ("error", "failures", "tries"),
    [(HeldError, 3, 4), (HeldError, 1000, 40), (PermissionError, 1000, 1)],
)
def test_an_action_is_repeated_for_a_second_while_another_program_holds_the_file(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError], failures: int, tries: int
) -> None:
    waits: list[float] = []
    done: list[int] = []

    def action() -> None:
        done.append(1)
        if len(done) <= failures:
            raise error(errno.EACCES, "in use")

    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", waits.append)
    with nullcontext() if failures < tries else pytest.raises(error):
        persist(action)
    assert tries == len(done)
    assert sum(waits) < 1


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


def _make_link(path: Path) -> None:
    path.symlink_to(path.parent)


def _make_shared(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


@posix
@pytest.mark.parametrize(
    ("make", "user", "text"),
    [
        (_make_link, None, "symbolic link"),
        (Path.touch, None, "not a folder"),
        (_make_shared, None, 'chmod go-w "'),
        (Path.mkdir, 4242, 'chown -R 4242 "'),
    ],
)
def test_a_folder_that_others_could_tamper_with_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    user: int | None,
    text: str,
) -> None:
    make(tmp_path / "x")
    if user is not None:
        monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(BackendUnavailable, match=text):
        private_directory(tmp_path / "x")


# ---- network file systems ---------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_the_file_system_of_a_folder_is_found_by_its_device(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    table = tmp_path / "mountinfo"
    other = "20 1 0:999 / / rw,relatime shared:1 - nfs4 host:/x rw\n"
    for kind, found in (("ext4", None), ("fuse.sshfs", "fuse.sshfs")):
        table.write_text(f"{other}21 1 {number} / /my\\040share rw - {kind} source rw\n")
        assert found == network_kind(str(tmp_path), str(table))
    assert network_kind(str(tmp_path), str(tmp_path / "missing")) is None


def test_a_network_file_system_is_refused_unless_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_network(str(tmp_path), allowed=False)
    monkeypatch.setattr(files, "network_kind", lambda _: "nfs4")
    with pytest.raises(BackendUnavailable, match="nfs4") as caught:
        refuse_network(str(tmp_path), allowed=False)
    assert "allow_network_fs" in str(caught.value)
    refuse_network(str(tmp_path), allowed=True)
