"""Atomically written files, private folders, and mounts.

This module knows nothing of jobs. It is the one place that turns operating system errors into
Nuvom's: a full disk becomes ``StorageFull``, everything else ``BackendUnavailable``.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import contextmanager, suppress
from io import FileIO
from typing import TYPE_CHECKING, TypeVar

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import BackendUnavailable, QueueError, StorageFull
from nuvom.host.crashpoint import crashpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    StrPath = str | Path

T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers that mean that there is no space left."""

# Without O_BINARY, Windows converts line endings.
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

READ_WRITE = os.O_RDWR | _PLAIN
"""Flags that open a file of ours for reading and writing; a symbolic link is refused."""

# Windows refuses to replace or remove an open file: 5 access denied, 32 sharing violation, 33 lock
# violation. Virus scanners and readers hold files only briefly.
_WINDOWS_BUSY = frozenset({5, 32, 33})
_BUSY_TRIES = 40
_CHUNK_BYTES = 1 << 20
_BUSY_WAIT_SECS = 0.025
# fmt: off
_NETWORK = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.glusterfs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs",
))
# fmt: on


def storage_error(where: object, error: OSError, repair: str = "") -> QueueError:
    """Return the Nuvom error for ``error`` in the store ``where``.

    Args:
        repair: What to do, unless the disk is full.
    """
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in FULL:
        return StorageFull(where, reason)
    return (
        BackendUnavailable(where, reason, repair) if repair else BackendUnavailable(where, reason)
    )


@contextmanager
def storage_errors(where: object) -> Iterator[None]:
    """Turn an ``OSError`` in the block into a Nuvom error."""
    try:
        yield
    except OSError as error:
        raise storage_error(where, error) from error


class OwnedFile(FileIO):
    """A file that closes itself when it is garbage collected, without a warning."""

    def __del__(self) -> None:
        # ``FileIO`` would warn. An owner's own finalizer may run too late to prevent that: in a
        # reference cycle, finalizers run in no particular order.
        self.close()


def open_file(path: StrPath, flags: int) -> OwnedFile:
    """Open a file for reading and writing; if ``flags`` create it, its mode is 0600.

    ``os.open`` alone would return a number, which an exception at that moment (Ctrl-C, a time
    limit) would lose. Here an object owns the file before any Python code runs.
    """
    (file,) = map(OwnedFile, map(os.open, (path,), (flags,), (0o600,)), ("r+",))
    return file


def on_file(path: StrPath, flags: int, action: Callable[[int], T]) -> T:
    """Call ``action`` with the descriptor of a file or folder that stays open for the call.

    It is opened as by ``open_file``, and closed whatever exception is raised.
    """
    opened: list[int] = []
    closing = map(os.close, opened)  # lazy: closes nothing yet
    try:
        opened.extend(map(os.open, (path,), (flags,), (0o600,)))
        return action(opened[0])
    finally:
        any(closing)  # a single C call: a Python function could be interrupted first


def read_file(path: StrPath) -> bytes:
    """Return the content of a file; refuse a symbolic link. Raises: OSError."""
    return on_file(path, os.O_RDONLY | _PLAIN, _content)


def _content(descriptor: int) -> bytes:
    return read_at(descriptor, os.fstat(descriptor).st_size, 0)


def sync_file(descriptor: int) -> None:
    """Flush what was written to ``descriptor`` to the device."""
    if sys.platform == "darwin":  # pragma: no cover  # its fsync leaves data in the drive's cache
        import fcntl  # noqa: PLC0415  # POSIX only

        with suppress(OSError):  # not every file system supports it; then fsync has to do
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_data(descriptor: int) -> None:
    """Do as ``sync_file``, but only for data and length if the system supports that."""
    if sys.platform == "linux":
        os.fdatasync(descriptor)
    else:  # pragma: no cover
        sync_file(descriptor)


def sync_directory(path: StrPath) -> None:
    """Flush creations, renames and removals in folder ``path`` to the device."""
    if sys.platform == "win32":  # pragma: no cover  # folders cannot be opened, NTFS logs names
        return
    on_file(path, os.O_RDONLY | os.O_DIRECTORY, os.fsync)


def persist(action: Callable[[], None]) -> None:
    """Run ``action``; on Windows, retry for a second while another program holds the file."""
    for _ in range(_BUSY_TRIES - 1):
        try:
            action()
            return
        except OSError as error:
            if getattr(error, "winerror", None) not in _WINDOWS_BUSY:
                raise
        SYSTEM_CLOCK.sleep(_BUSY_WAIT_SECS)
    action()


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    """Write all of ``data``; a single system call may write less."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read ``size`` bytes starting at ``offset``, fewer only at the end of the file.

    The caller must keep other threads from seeking in this file at the same time.
    """
    os.lseek(descriptor, offset, os.SEEK_SET)
    parts = [os.read(descriptor, size)]
    while parts[-1] and (size := size - len(parts[-1])):
        parts.append(os.read(descriptor, size))
    return b"".join(parts)


def write_again(descriptor: int, start: int, end: int) -> None:
    """Rewrite the bytes from ``start`` to ``end`` unchanged.

    This repairs a failed flush: the system marks pages as clean even if it failed to write
    them, and a second flush alone would succeed without having stored them.
    """
    for at in range(start, end, _CHUNK_BYTES):
        data = read_at(descriptor, min(_CHUNK_BYTES, end - at), at)
        os.lseek(descriptor, at, os.SEEK_SET)
        write_all(descriptor, data)


def write_durably(
    path: StrPath, data: bytes, *, exclusive: bool = False, flush: bool = True
) -> bool:
    """Write a file that readers see whole or not at all, readable only by its owner (0600).

    Args:
        exclusive: Leave an existing file alone. Otherwise it is replaced.
        flush: Return only once the file will survive a power cut.
    Returns: False when ``exclusive`` is set and the file exists.
    Raises: StorageFull, BackendUnavailable: the file is unchanged.
    """
    path = os.fspath(path)
    temp = f"{path}.{os.getpid():x}-{os.urandom(6).hex()}.tmp"
    with storage_errors(path):
        try:
            _write_temp(temp, data, flush=flush)
            crashpoint("durable.before_rename")
            stored = _publish(temp, path, exclusive=exclusive)
        except BaseException:
            with suppress(OSError):
                os.unlink(temp)
            raise
        crashpoint("durable.after_rename")
        if stored and flush:
            sync_directory(os.path.dirname(path) or ".")
    return stored


def _write_temp(temp: str, data: bytes, *, flush: bool) -> None:
    def write(descriptor: int) -> None:
        write_all(descriptor, data)
        if flush:
            sync_file(descriptor)

    on_file(temp, READ_WRITE | os.O_CREAT | os.O_EXCL, write)


def _publish(temp: str, path: str, *, exclusive: bool) -> bool:
    if not exclusive:
        persist(lambda: os.replace(temp, path))
        return True
    try:
        if sys.platform == "win32":  # pragma: no cover  # rename never replaces there
            persist(lambda: os.rename(temp, path))
        else:
            os.link(temp, path)
    except FileExistsError:
        return False
    finally:
        with suppress(OSError):  # a leftover name does no harm
            os.unlink(temp)
    return True


def private_directory(path: StrPath) -> None:
    """Create folder ``path`` (0700) if it is missing, or check that it is safe to use.

    Raises: BackendUnavailable, StorageFull: see ``check_private``, or it cannot be created.
    """
    path = os.path.abspath(path)
    with storage_errors(path):
        make_private_folders(path)
        check_private(path)


def make_private_folders(path: str) -> None:
    """Create folder ``path`` and its missing parents with mode 0700. Raises: OSError."""
    above = os.path.dirname(path)
    if above == path or os.path.lexists(path):  # the first: a drive that does not exist
        return
    make_private_folders(above)
    with suppress(FileExistsError):  # another process was faster
        os.mkdir(path, 0o700)
    with suppress(PermissionError):  # an unreadable folder cannot be flushed
        sync_directory(above)


def check_private(path: StrPath) -> None:
    """Check that no other user can tamper with a folder.

    Raises: BackendUnavailable: it is a symbolic link or not a folder, belongs to another user,
        or others can write to it. The error says how to fix that.
        FileNotFoundError, OSError: it cannot be examined.
    """
    status = os.lstat(path)
    # On Windows, access lists protect a folder, which a stat result does not show.
    is_posix, user = os.name == "posix", status.st_uid
    if sys.platform != "win32":
        user = os.geteuid()
    if stat.S_ISLNK(status.st_mode):
        reason = "it is a symbolic link"
        repair = "Remove the link, and set the path of the folder that it points to."
    elif not stat.S_ISDIR(status.st_mode):
        reason, repair = "it is not a folder", "Move it away, or configure another folder."
    elif status.st_uid != user:
        reason = f"it belongs to the user {status.st_uid}"
        repair = f'Run as that user, or: sudo chown -R {user} "{path}"'
    elif is_posix and status.st_mode & 0o022:
        reason, repair = "other users can write to it", f'Run: chmod go-w "{path}"'
    else:
        return
    raise BackendUnavailable(path, reason, repair)


def refuse_network(path: str, *, allowed: bool) -> None:
    """Refuse a folder on a network file system, unless the setting says it is ``allowed``.

    Raises: BackendUnavailable.
    """
    kind = None if allowed else network_kind(path)
    if kind is not None:
        raise BackendUnavailable(
            path,
            f"it is on a network file system ({kind}), where locks may fail",
            "Use a local disk, or set allow_network_fs if all users are on this one machine.",
        )


def network_kind(path: str, mounts: str = "/proc/self/mountinfo") -> str | None:
    """Return the type of network file system that ``path`` is on, None for any other.

    Detected on Linux, and on Windows for UNC paths; elsewhere always None.
    """
    if sys.platform == "win32":  # pragma: no cover
        return "share" if os.path.realpath(path).startswith("\\\\") else None
    try:
        device = os.stat(path).st_dev
        with open(mounts, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.readlines()
    except OSError:  # not Linux, or hidden: nothing is known
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:  # see proc(5)
        mount, _, kind = line.partition(" - ")
        if number in mount.split() and kind.split()[0] in _NETWORK:
            return kind.split()[0]
    return None
