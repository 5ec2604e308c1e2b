"""Whether a manifest is likely to be out of date, without reading any code.

Production workers do not scan. They look at the times of the files that the manifest names,
which tells of every edited or removed task, though not of one in a new file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nuvom.discovery.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path


def is_stale(root: Path, manifest_path: Path) -> bool:
    """Return whether the manifest is missing, or older than a file that it names.

    Raises: InvalidManifest.
    """
    listed = read_manifest(manifest_path)
    if listed is None:
        return True
    written = os.stat(manifest_path).st_mtime_ns
    return any(_is_newer(root / file, written) for file in {task.file for task in listed})


def _is_newer(path: Path, written: int) -> bool:
    try:
        return os.stat(path).st_mtime_ns > written
    except OSError:  # removed, or out of reach: the manifest says otherwise
        return True
