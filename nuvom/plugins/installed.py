"""Whether any installed package may name a plugin, told without ``importlib.metadata``.

That module, with the parsers of mail and archives that it needs, takes a fifteenth of a worker's
start to load, and almost no project has a plugin that is installed. Here the files that it would
parse are searched for the group's name. Whatever is not a plain folder is left to it.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

_METADATA = frozenset({".dist-info", ".egg-info"})
_FILE = "entry_points.txt"
_EGG = ".egg"


def may_have_entry_points(group: str) -> bool:
    """Return False only if ``importlib.metadata`` would find no entry point of ``group``."""
    if any(_finds_packages(finder) for finder in sys.meta_path):
        return True
    word = f"[{group}]".encode()  # the head of its section
    return any(_may_name(folder or ".", word) for folder in sys.path)


def _finds_packages(finder: object) -> bool:
    """Whether a finder of somebody else's may know of packages that no folder shows."""
    return finder is not PathFinder and hasattr(finder, "find_distributions")


def _may_name(folder: str, word: bytes) -> bool:
    if folder.endswith(_EGG):
        return True
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return False
    except OSError:  # an archive, or what may not be read
        return True
    for name in names:
        kind = os.path.splitext(name)[1].lower()
        if kind == _EGG:
            return True
        if kind in _METADATA and _contains(os.path.join(folder, name, _FILE), word):
            return True
    return False


def _contains(path: str, word: bytes) -> bool:
    try:
        with open(path, "rb") as stream:
            return word in stream.read()
    except (FileNotFoundError, NotADirectoryError):  # an old package's metadata in one file
        return False
    except OSError:
        return True
