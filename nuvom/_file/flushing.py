"""Having the device keep what this process appends to the log. Used by ``log.py`` only."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

from nuvom._file.frames import offset_of, segment_of
from nuvom.errors import BackendUnavailable
from nuvom.host.crashpoint import crashpoint
from nuvom.host.files import on_file, sync_data, write_again

if TYPE_CHECKING:
    from io import FileIO

FILE_FLAGS = (
    os.O_RDWR
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
_SUFFIX = ".log"


class Flusher:
    """What is on the device. Usable from any thread, whoever has the store's lock.

    A thread flushes what it has appended when its turn is over. By then another one may have
    closed the log, or be reading another file of it: so the file to flush is kept here.

    Attributes:
        appended: The place up to which this process has appended.
        synced: The place up to which the log is known to be on the device.
        is_doubtful: A flush failed: what was appended may be lost unless ``sync`` now succeeds.
    """

    _file: FileIO | None = None  # the one that was appended to

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._mutex = Lock()
        self.appended = 0
        self.synced = 0
        self.is_doubtful = False

    def note(self, file: FileIO | None, end: int) -> None:
        """Note that this process has appended to ``file`` up to the place ``end``."""
        if self._file is not file:
            with self._mutex:
                before, self._file = self._file, file
                if before is not None:
                    before.close()
        self.appended = end

    def enter(self, start: int) -> None:
        """Note that the log goes on in a segment: those before it were flushed when they ended."""
        with self._mutex:
            if start > self.synced and not self.is_doubtful:
                self.synced = start

    def leave(self, file: FileIO) -> None:
        """Close a file that the log no longer has in use, unless there is something to flush."""
        with self._mutex:
            if file is not self._file or (self.appended <= self.synced and not self.is_doubtful):
                file.close()

    def close(self) -> None:
        """Close the file. Twice is fine; what is still to be flushed can be."""
        with self._mutex:
            if self._file is not None:
                self._file.close()

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def sync(self) -> None:
        """Return when all that this process has appended is on the device.

        Callers that come together share one flush.
        Raises: BackendUnavailable: it may not be; a later call tries again.
        """
        wanted = self.appended
        with self._mutex:
            if self._file is None or (self.synced >= wanted and not self.is_doubtful):
                return
            try:
                self._flush(self._file, self.appended)
            except OSError as error:
                raise BackendUnavailable(
                    self._directory,
                    f"it could not be flushed: {error.strerror}",
                    "What was just written may vanish at a power cut. Look after the disk.",
                ) from error

    def flush(self, file: FileIO, end: int) -> None:
        """Flush ``file``, which has been read up to the place ``end``. Raises: OSError."""
        with self._mutex:
            self._flush(file, end)

    def _flush(self, file: FileIO, end: int) -> None:
        try:
            if self.is_doubtful:
                # By a descriptor of its own: another thread moves in the first.
                on_file(self._path(end), FILE_FLAGS, lambda opened: self._write_again(opened, end))
            crashpoint("file.flush.before")
            if file.closed:  # the log was closed after the append
                on_file(self._path(end), FILE_FLAGS, sync_data)
            else:
                sync_data(file.fileno())
            crashpoint("file.flush.after")
        except OSError:
            self.is_doubtful = True
            raise
        self.is_doubtful = False
        self.synced = end

    def _write_again(self, opened: int, end: int) -> None:
        is_here = segment_of(self.synced) == segment_of(end)
        write_again(opened, offset_of(self.synced) if is_here else 0, offset_of(end))

    def _path(self, at: int) -> str:
        return segment_path(self._directory, segment_of(at))


def segment_path(directory: str, number: int) -> str:
    """Return the file of a segment."""
    return os.path.join(directory, f"{number:010d}{_SUFFIX}")


def segment_numbers(directory: str) -> list[int]:
    """Return the numbers of the segments that exist, oldest first. Raises: OSError."""
    names = os.listdir(directory)
    stems = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    return sorted(int(stem) for stem in stems if stem.isdigit())
