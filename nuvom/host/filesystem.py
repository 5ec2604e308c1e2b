"""Which kind of file system a path is on: locks between machines cannot be relied upon.

The backends that keep files ask once when they open a store.
"""

from __future__ import annotations

import os
import sys

from nuvom.errors import BackendUnavailable

_NETWORK = frozenset(
    (
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "pvfs2",
        "smb3",
        "smbfs",
    )
)


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
    """Return the kind of network file system that ``path`` is on, None for any other kind.

    Known on Linux, and on Windows for paths of shares; elsewhere always None.
    """
    path = os.path.realpath(path)
    if sys.platform == "win32":  # pragma: no cover
        return "share" if path.startswith("\\\\") else None
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as stream:
            kind = _kind_of_mount(stream.read().splitlines(), path)
    except OSError:  # not Linux, or hidden: nothing is known
        return None
    return kind if kind in _NETWORK else None


def _kind_of_mount(lines: list[str], path: str) -> str:
    """Return the type of the last and deepest mount that holds ``path``."""
    best, kind = "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        point = _unescaped(fields[4]) if len(fields) > 4 else ""  # noqa: PLR2004  # see proc(5)
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if point and inside and len(point) >= len(best):
            best, kind = point, after.split()[0] if after else ""
    return kind


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
