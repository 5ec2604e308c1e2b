"""Outcomes kept as one file for each job, for results whose queue is another store.

A file is one entry in the form of ``frames``, named by a hash of the job's id, and replaced as a
whole. A damaged one is set aside and counts as missing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

import msgspec

from nuvom._file.frames import BEGIN, END, KEPT, UnknownVersionError, header, scan
from nuvom.core.record import JobRecord, JobSnapshot, StoredError
from nuvom.errors import PayloadError
from nuvom.host.files import (
    persist,
    private_directory,
    read_file,
    storage_errors,
    sync_directory,
    write_durably,
)
from nuvom.host.lock import FileMutex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuvom._file.quarantine import Quarantine

T = TypeVar("T")

_LOCK = "lock"


class Kept(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is kept of one job; ``since`` is when something was first kept of it."""

    since: float
    record: bytes
    result: bytes | None = None
    error: StoredError | None = None
    worker: str | None = None
    started_at: float | None = None
    finished_at: float | None = None

    @classmethod
    def of(cls, since: float, seen: JobSnapshot) -> Kept:
        """Return what to keep of a snapshot."""
        return cls(
            since,
            seen.record.encode(),
            seen.result,
            seen.error,
            seen.worker,
            seen.started_at,
            seen.finished_at,
        )

    @property
    def snapshot(self) -> JobSnapshot:
        """What was kept. Raises: PayloadError."""
        return JobSnapshot(
            record=JobRecord.decode(self.record),
            result=self.result,
            error=self.error,
            worker=self.worker,
            started_at=self.started_at,
            finished_at=self.finished_at,
        )


class Keepsakes:
    """The folder ``results`` of a store. Usable from any thread and process."""

    def __init__(self, directory: str, quarantine: Quarantine) -> None:
        self._path = os.path.join(directory, "results")
        self._quarantine = quarantine

    def turn(self, job_id: str, action: Callable[[], T]) -> T:
        """Call ``action`` under the lock of what is kept of a job, and return its answer."""
        folder = os.path.dirname(self._file(job_id))
        private_directory(folder)
        return FileMutex(os.path.join(folder, _LOCK)).run(action)

    def get(self, job_id: str) -> Kept | None:
        """Return what is kept of a job, or None."""
        return self._read(self._file(job_id))

    def put(self, job_id: str, kept: Kept, *, flush: bool) -> None:
        """Keep something of a job in place of what was kept; it is the caller's turn.

        Raises: StorageFull, BackendUnavailable: all is as before.
        """
        body = msgspec.msgpack.encode(kept)
        data = header(KEPT, BEGIN | END, 0, body) + body
        write_durably(self._file(job_id), data, flush=flush)

    def remove(self, job_id: str) -> bool:
        """Keep nothing of a job any more; False when nothing was kept."""
        path = self._file(job_id)
        with storage_errors(path):
            try:
                persist(lambda: os.unlink(path))
            except FileNotFoundError:
                return False
            sync_directory(os.path.dirname(path))
        return True

    def all(self) -> Iterator[Kept]:
        """Yield all that is kept, in no order."""
        folders = [os.path.join(self._path, name) for name in _names(self._path)]
        files = [os.path.join(path, name) for path in folders for name in _names(path)]
        for path in files:
            name = os.path.basename(path)
            kept = None if "." in name or name == _LOCK else self._read(path)
            if kept is not None:
                yield kept

    def _file(self, job_id: str) -> str:
        # A hash: safe on every file system, whatever the id is called.
        name = blake2b(job_id.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        return os.path.join(self._path, name[:2], name)

    def _read(self, path: str) -> Kept | None:
        with storage_errors(path):
            try:
                data = read_file(path)
            except FileNotFoundError:
                return None
        kept, problem = _decoded(data)
        if kept is None:
            self._set_aside(path, data, problem)
        return kept

    def _set_aside(self, path: str, data: bytes, problem: str) -> None:
        self._quarantine.keep(f"result-{os.path.basename(path)}", data, f"{path}: {problem}")
        with suppress(OSError):  # somebody may have replaced or removed it meanwhile
            if read_file(path) == data:
                os.unlink(path)


def _decoded(data: bytes) -> tuple[Kept | None, str]:
    try:
        found = scan(data, 0)
        if len(found.frames) != 1 or found.used != len(data):
            return None, found.problem
        kept = msgspec.msgpack.decode(found.frames[0][3], type=Kept)
        JobRecord.decode(kept.record)
    except (UnknownVersionError, msgspec.MsgspecError, PayloadError) as error:
        return None, f"it cannot be understood: {error}"
    return kept, ""


def _names(folder: str) -> list[str]:
    with storage_errors(folder):
        try:
            return os.listdir(folder)
        except (NotADirectoryError, FileNotFoundError):
            return []
