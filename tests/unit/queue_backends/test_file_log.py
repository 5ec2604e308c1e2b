"""The log: appended whole or not at all, followed by many, flushed once for all that wait."""

from __future__ import annotations

import errno
import os
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest

from nuvom.errors import BackendUnavailable
from nuvom.queue_backends import file_log
from nuvom.queue_backends.file_log import GoneError, Log
from tests.unit.queue_backends.interrupting import interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Case = tuple[Callable[[], object], Callable[[bool], object]]


def opened(folder: Path, *, first: bool = True) -> Log:
    (folder / "log").mkdir(parents=True, exist_ok=True)
    log = Log(str(folder))
    log.open(first=first)
    return log


def put(log: Log, *new: bytes) -> None:
    """Append as a process without a table does."""
    bodies(log)
    log.append(new)
    log.end = log.tail


def bodies(log: Log) -> list[bytes]:
    return [body for _, body in log.follow()]


def path_of(folder: Path, number: int = 1) -> Path:
    return folder / "log" / f"{number:010d}.log"


def test_entries_larger_than_one_read_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_log, "_CHUNK_BYTES", 64)
    log = opened(tmp_path)
    put(log, b"a" * 10, b"b" * 5000, b"c" * 70)
    assert bodies(opened(tmp_path)) == [b"a" * 10, b"b" * 5000, b"c" * 70]


def test_a_process_that_only_appends_begins_near_the_end_at_a_whole_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_log, "_CHUNK_BYTES", 200)
    log = opened(tmp_path)
    put(log, b"x" * 500)
    assert bodies(opened(tmp_path, first=False)) == [b"x" * 500]
    put(log, *[b"%02d" % number for number in range(10)])
    put(log, b"last")
    assert bodies(opened(tmp_path, first=False)) == [b"last"]
    os.truncate(path_of(tmp_path), path_of(tmp_path).stat().st_size - 1)
    put(opened(tmp_path, first=False), b"next")
    assert bodies(opened(tmp_path))[-2:] == [b"09", b"next"]


def test_an_append_whose_entries_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, b"one")

    def entries() -> Iterator[bytes]:
        yield b"x" * (2 << 20)  # more than is written at once
        yield b"y"
        raise KeyError("no")

    with pytest.raises(KeyError):
        log.append(entries())
    put(log, b"two")
    assert bodies(opened(tmp_path)) == [b"one", b"two"]
    assert not (tmp_path / "quarantine").exists()


# ---- flushing -----------------------------------------------------------------------------


def _failing(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_threads_that_wait_together_share_a_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path)
    put(log, b"x")
    calls: list[int] = []
    together = Barrier(5)

    def slow(_: int) -> None:
        calls.append(1)
        if len(calls) == 1:
            put(log, b"y")
            together.wait(30)  # the others come while this one flushes

    monkeypatch.setattr(file_log, "sync_data", slow)
    first = Thread(target=log.sync)
    first.start()

    def late() -> None:
        together.wait(30)
        log.sync()

    others = [Thread(target=late) for _ in range(4)]
    for thread in others:
        thread.start()
    for thread in (first, *others):
        thread.join()
    assert len(calls) == 2


def test_after_a_failed_flush_the_data_are_written_again_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system takes its pages for clean after a failed write: a second flush does nothing."""
    log = opened(tmp_path)
    put(log, b"safe")
    log.sync()
    put(log, b"doubtful")
    with monkeypatch.context() as patch:
        patch.setattr(file_log, "sync_data", _failing)
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="flushed"):
                log.sync()
    written: list[bytes] = []
    real = os.write

    def noted(file: int, data: bytes) -> int:
        written.append(bytes(data))
        return real(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", noted)
        log.sync()
        log.sync()
    assert len(written) == 1
    assert b"doubtful" in written[0]
    assert b"safe" not in written[0]
    assert bodies(opened(tmp_path)) == [b"safe", b"doubtful"]


# ---- interrupted --------------------------------------------------------------------------


@pytest.mark.parametrize("has_reader", [False, True])
def test_an_interrupted_rewrite_loses_nothing_and_divides_no_readers(
    tmp_path: Path, *, has_reader: bool
) -> None:
    """Whoever reads the old file and whoever opens the newest one come to the same."""

    def prepare(number: int) -> Case:
        folder = tmp_path / str(number)
        log = opened(folder)
        put(log, b"x")
        old = opened(folder)
        assert bodies(old) == [b"x"]

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            log.leave()
            if has_reader:
                try:
                    put(old, b"y")
                except GoneError:
                    old.open(first=True)
                    put(old, b"y")
            else:
                put(opened(folder), b"y")
            assert bodies(opened(folder)) == [b"x", b"y"]
            assert not (folder / "quarantine").exists()
            old.leave()

        return lambda: log.rewrite([b"x"]), check

    assert interrupt_everywhere(prepare, counts_files=False) > 30
