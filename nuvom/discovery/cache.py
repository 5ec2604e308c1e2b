"""What discovery remembers of files that have not changed, in ``.nuvom/cache/discovery.json``.

Kept apart from the manifest, since it holds times and sizes. It is only a cache: a damaged one
is made anew, one that cannot be written is done without. Used by ``scan.py``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from nuvom.config.project import ensure_folder_for
from nuvom.discovery.entries import FoundTask, Note
from nuvom.discovery.parser import NOTHING, Parsed
from nuvom.errors import NuvomError
from nuvom.host.files import write_durably
from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.discovery.walker import SourceFile

CACHE_FILE = os.path.join(".nuvom", "cache", "discovery.json")

# What a file's content is read as depends on this code and on Python's grammar.
FORMAT = f"1 python {sys.version_info.major}.{sys.version_info.minor}"

_NANOS = 1_000_000_000
_TICK_NANOS = _NANOS // 10  # file times advance by the kernel's tick, 10 ms at most; 10 on exFAT
_COARSE_TICK_NANOS = 2 * _NANOS  # FAT counts in steps of two seconds, HFS+ and others in one

_TEXT_OR_NONE = (str, type(None))
_TASK_TYPES = (str, _TEXT_OR_NONE, int, str, bool, bool, dict, list, _TEXT_OR_NONE, str)
_NOTE_TYPES = (int, str, str)

_log = get_logger("discovery")


class DiscoveryCache:
    """What is known of each file: ``[size, mtime_ns]``, then tasks and notes if there are any.

    Args:
        known: As loaded.
        started_ns: When this scan began. A file written later than one tick of its file
            system's clock before that may be written again without a change of its time, so
            it is not remembered yet.
    """

    def __init__(self, known: dict[str, Any], started_ns: int) -> None:
        self._known = known
        self._kept: dict[str, Any] = {}
        self._started_ns = started_ns

    def find(self, source: SourceFile) -> Parsed | None:
        """Return what an unchanged file holds, or None when it must be read."""
        entry = self._known.get(source.file)
        if type(entry) is not list or entry[:2] != [source.size, source.mtime_ns] or source.is_link:
            return None
        parsed = NOTHING if len(entry) == 2 else _decoded(entry)  # noqa: PLR2004  # size and time
        if parsed is not None:
            self._kept[source.file] = entry
        return parsed

    def keep(self, source: SourceFile, parsed: Parsed) -> None:
        """Remember what a file holds that was just read."""
        is_coarse = source.mtime_ns % _NANOS == 0
        tick = _COARSE_TICK_NANOS if is_coarse else _TICK_NANOS
        if source.is_link or source.mtime_ns > self._started_ns - tick:
            return
        entry: list[Any] = [source.size, source.mtime_ns]
        if parsed.tasks or parsed.notes:
            entry += [parsed.tasks, parsed.notes]
        self._kept[source.file] = entry

    def save(self, path: Path, root: Path) -> None:
        """Write what is known now, if that differs from what was loaded."""
        if self._kept == self._known:
            return
        content = json.dumps({"format": FORMAT, "files": self._kept}, separators=(",", ":"))
        try:
            ensure_folder_for(path, root=root, setting="manifest_path")
            # Not flushed: one that a power cut damages is made anew.
            write_durably(path, content.encode(), flush=False)
        except NuvomError as error:
            text = f"The discovery cache cannot be written. {error.what}"
            log_event(_log, logging.DEBUG, "discovery.cache_unwritten", text)


def load(path: Path) -> dict[str, Any]:
    """Return what is known of each file; nothing when the cache is missing or of no use."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        return _made_anew(str(error))
    files = content.get("files") if isinstance(content, dict) else None
    if isinstance(files, dict) and content.get("format") == FORMAT:
        return files
    return _made_anew("it is of another version")


def _made_anew(reason: str) -> dict[str, Any]:
    text = f"The discovery cache is made anew: {reason}."
    log_event(_log, logging.DEBUG, "discovery.cache_rebuilt", text)
    return {}


def _decoded(entry: list[Any]) -> Parsed | None:
    try:
        _, _, tasks, notes = entry
        return Parsed(tuple(map(_task, tasks)), tuple(map(_note, notes)))
    except (ValueError, TypeError):  # damaged: the file is read again
        return None


def _task(values: list[Any]) -> FoundTask:
    _check(values, _TASK_TYPES)
    task = FoundTask(*values)
    return task._replace(dynamic_options=tuple(map(str, task.dynamic_options)))


def _note(values: list[Any]) -> Note:
    _check(values, _NOTE_TYPES)
    return Note(*values)


def _check(values: list[Any], types: tuple[Any, ...]) -> None:
    for value, expected in zip(values, types, strict=True):
        if not isinstance(value, expected):
            raise TypeError
