"""The queue. As in a Maildir, a letter is written in ``tmp`` and becomes visible by a rename.

``new`` holds the letters that wait. To take one is to rename it into ``cur``: of two who try,
the file system lets one succeed. There is no lock, and nothing is ever half there.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from nuvom.core.ids import valid_name
from nuvom.queue_backends import BaseJobQueue, Capability, JobRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.config import Settings

_LOOK_SECS = 0.02
_DIGITS = 20  # of nanoseconds: enough until the year 5138, and sorted as text


def folder_of(settings: Settings) -> str:
    """Return the folder of a project's mailbox."""
    return os.fspath(settings.root / ".nuvom" / "mailbox")


class MailboxQueue(BaseJobQueue):
    """Keeps each job in a file; the file's name says when it may be taken.

    Delivers at most once: a letter that was taken is its worker's alone. It declares one
    capability, the order of priorities, since that is a matter of names.

    Args:
        place: The project's settings, or a folder.
    """

    name: ClassVar[str] = "mailbox"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.PRIORITY})

    def __init__(self, place: Settings | str) -> None:
        self.folder = place if isinstance(place, str) else folder_of(place)
        self._tmp, self._new, self._cur = (
            os.path.join(self.folder, name) for name in ("tmp", "new", "cur")
        )
        self._lock = threading.Lock()
        self._last = 0

    # ---- the five methods -----------------------------------------------------------------

    def enqueue(self, job: JobRecord) -> None:
        """Write a letter and make it visible; it is on disk when this returns."""
        valid_name("a job id", job.id)  # it becomes part of a path
        self._make_folders()
        if any(letter.endswith(f"-{job.id}") for letter in self._letters()):
            return  # the same job once more
        draft = os.path.join(self._tmp, job.id)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(job.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, os.path.join(self._new, self._name_of(job)))
        _flush_folder(self._new)

    def dequeue(self, timeout: float | None = None) -> JobRecord | None:
        """Take the first letter, waiting at most ``timeout`` seconds for one."""
        end = time.monotonic() + (timeout or 0.0)
        while True:
            taken = self.pop_batch(1)
            if taken or time.monotonic() >= end:
                return taken[0] if taken else None
            time.sleep(_LOOK_SECS)

    def pop_batch(self, batch_size: int) -> list[JobRecord]:
        """Take at most ``batch_size`` letters, the first ones first."""
        jobs: list[JobRecord] = []
        for letter in self._letters():
            if len(jobs) >= batch_size:
                break
            mine = os.path.join(self._cur, letter)
            try:
                os.rename(os.path.join(self._new, letter), mine)
            except FileNotFoundError:  # somebody else was faster
                continue
            with open(mine, "rb") as file:
                jobs.append(JobRecord.decode(file.read()))
            os.unlink(mine)
        return jobs

    def qsize(self) -> int:
        """Return how many letters wait."""
        return len(self)

    def clear(self) -> None:
        """Throw away the letters that wait."""
        for letter in self._letters():
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._new, letter))

    # ---- files ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return sum(1 for _ in self._letters())

    def _letters(self) -> Iterator[str]:
        """Yield the names of the letters that wait, in the order in which they are taken."""
        try:
            yield from sorted(os.listdir(self._new))
        except FileNotFoundError:  # nobody has written yet
            return

    def _name_of(self, job: JobRecord) -> str:
        """Return a name that sorts by priority, then by when the letter was written."""
        with self._lock:  # two letters of one process never have the same time
            self._last = max(self._last + 1, time.time_ns())
            written = self._last
        return f"{job.priority + _ZERO:010d}-{written:0{_DIGITS}d}-{job.id}"

    def _make_folders(self) -> None:
        for folder in (self._tmp, self._new, self._cur):
            os.makedirs(folder, mode=0o700, exist_ok=True)


_ZERO = 2**31  # priorities may be negative; names sort as text


def _flush_folder(folder: str) -> None:
    """Have the new name survive a power cut, where folders can be opened (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
