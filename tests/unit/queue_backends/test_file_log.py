"""The log: appended whole or not at all, followed by many, flushed once for all that wait."""

from __future__ import annotations

import errno
import gc
import os
from contextlib import suppress
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest

from nuvom.errors import BackendUnavailable, StorageFull
from nuvom.host.files import sync_data
from nuvom.queue_backends import file_log
from nuvom.queue_backends.file_log import GoneError, Log
from tests.unit.queue_backends.faults import Faults, fail
from tests.unit.queue_backends.interrupting import descriptors, interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Log, "segment_bytes", 200)


def opened(folder: Path, *, first: bool = True) -> Log:
    (folder / "log").mkdir(exist_ok=True)
    log = Log(str(folder))
    log.open(first=first)
    return log


def put(log: Log, *new: bytes) -> None:
    """Append as a turn does that has no table: nothing of it is given back."""
    bodies(log)
    log.begin_next_when_full()
    log.append(new)
    log.end = log.tail


def bodies(log: Log) -> list[bytes]:
    return [body for _, body in log.follow()]


def test_who_follows_sees_each_append_once_in_order(tmp_path: Path) -> None:
    writer, reader = opened(tmp_path), opened(tmp_path)
    put(writer, b"one", b"two")
    assert bodies(reader) == [b"one", b"two"]
    assert bodies(reader) == []
    put(writer, b"three")
    assert bodies(reader) == [b"three"]
    reader.append([b"four"])
    assert bodies(reader) == [b"four"], "it has not said that it knows it"
    assert bodies(writer) == [b"four"]
    assert bodies(opened(tmp_path)) == [b"one", b"two", b"three", b"four"]


def test_a_new_segment_is_begun_and_followed(tmp_path: Path) -> None:
    writer, reader = opened(tmp_path), opened(tmp_path)
    expected = [b"%04d" % number * 10 for number in range(20)]
    for body in expected:
        put(writer, body)
    assert len(writer.segments()) > 5
    assert bodies(reader) == expected
    assert reader.segments() == list(range(1, len(writer.segments()) + 1))
    late = opened(tmp_path, first=False)
    assert len(bodies(late)) < 5


def test_entries_larger_than_what_is_read_at_once_come_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_log, "_CHUNK_BYTES", 64)
    log = opened(tmp_path)
    put(log, b"a" * 10, b"b" * 5000, b"c" * 70)
    reader = opened(tmp_path)
    assert bodies(reader) == [b"a" * 10, b"b" * 5000, b"c" * 70]


def test_an_append_whose_making_fails_leaves_nothing(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, b"one")

    def entries() -> Iterator[bytes]:
        yield b"x" * (2 << 20)  # more than is written at once
        yield b"y"
        yield b"z"
        raise KeyError("no")

    with pytest.raises(KeyError):
        log.append(entries())
    put(log, b"two")
    assert bodies(opened(tmp_path)) == [b"one", b"two"]
    assert not (tmp_path / "quarantine").exists()


def test_an_append_that_cannot_even_be_taken_back_is_cut_off_by_the_next(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, b"one")
    with pytest.MonkeyPatch.context() as patch:
        Faults(0, fail(errno.ENOSPC)).install(patch)
        real = os.ftruncate

        def failing(file: int, size: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(os, "ftruncate", failing)
        with pytest.raises(StorageFull):
            log.append([b"torn" * 50])
        assert real is not os.ftruncate
    assert bodies(opened(tmp_path)) == [b"one"]
    put(log, b"two")
    assert bodies(opened(tmp_path)) == [b"one", b"two"]


def test_a_segment_that_cannot_be_begun_leaves_the_one_before_as_it_was(tmp_path: Path) -> None:
    number = 0
    while True:
        folder = tmp_path / str(number)
        folder.mkdir()
        log = opened(folder)
        put(log, b"x" * 300)
        fault = Faults(number, fail(errno.EIO))
        with pytest.MonkeyPatch.context() as patch:
            fault.install(patch)
            try:
                log.begin_next_when_full()
            except BackendUnavailable:
                pass
            else:
                assert not fault.reached
        if not fault.reached:
            break
        put(log, b"again")
        assert bodies(opened(folder)) == [b"x" * 300, b"again"]
        number += 1
    assert number >= 3


def test_a_segment_whose_name_could_not_be_flushed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path)
    put(log, b"x" * 300)
    flushes: list[str] = []

    def failing_once(folder: str) -> None:
        flushes.append(folder)
        if len(flushes) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(file_log, "sync_directory", failing_once)
    with pytest.raises(BackendUnavailable):
        put(log, b"y")
    put(log, b"again")
    assert len(flushes) == 2
    assert bodies(opened(tmp_path)) == [b"x" * 300, b"again"]


def test_a_segment_that_cannot_even_be_removed_is_led_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path)
    put(log, b"x" * 300)

    def failing(_: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(file_log, "sync_directory", failing)
        patch.setattr(os, "unlink", failing)
        with pytest.raises(BackendUnavailable):
            put(log, b"y")
    late = opened(tmp_path, first=False)
    put(late, b"again")
    assert bodies(opened(tmp_path)) == [b"x" * 300, b"again"]


# ---- what is gone -------------------------------------------------------------------------


def test_who_reads_a_dropped_segment_has_to_read_everything_anew(tmp_path: Path) -> None:
    writer, reader = opened(tmp_path), opened(tmp_path)
    for number in range(10):
        put(writer, b"x" * 150)
        if number == 0:
            assert len(bodies(reader)) == 1
    os.unlink(tmp_path / "log" / "0000000001.log")
    with pytest.raises(GoneError):
        bodies(reader)


def test_who_has_to_go_on_in_a_dropped_segment_has_to_read_everything_anew(
    tmp_path: Path,
) -> None:
    writer, reader = opened(tmp_path), opened(tmp_path)
    for _ in range(10):
        put(writer, b"x" * 150)
    os.unlink(tmp_path / "log" / "0000000002.log")
    with pytest.raises(GoneError):
        bodies(reader)


def test_a_file_that_has_become_shorter_has_to_be_read_anew(tmp_path: Path) -> None:
    writer, reader = opened(tmp_path), opened(tmp_path)
    put(writer, b"one")
    assert bodies(reader) == [b"one"]
    os.truncate(tmp_path / "log" / "0000000001.log", 3)
    with pytest.raises(GoneError):
        bodies(reader)


def test_a_seal_without_the_next_segment_is_followed_by_making_it(tmp_path: Path) -> None:
    """A process that dies between the two leaves it so."""
    log = opened(tmp_path)
    put(log, b"one" * 100)
    with pytest.MonkeyPatch.context() as patch:
        Faults(1, fail(errno.EIO)).install(patch)  # the flush that comes before the next file
        patch.setattr(os, "ftruncate", lambda *_: None)
        with pytest.raises(BackendUnavailable):
            log.begin_next_when_full()
    reader = opened(tmp_path)
    assert bodies(reader) == [b"one" * 100]
    assert reader.segments() == [1, 2]
    put(reader, b"two")
    assert bodies(opened(tmp_path)) == [b"one" * 100, b"two"]


def test_a_lost_end_of_an_append_does_not_lose_the_rest_of_it(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, b"first", b"second", b"third")
    put(log, b"other")
    path = tmp_path / "log" / "0000000001.log"
    path.write_bytes(path.read_bytes().replace(b"third", b"thirD"))
    reader = opened(tmp_path)
    assert bodies(reader) == [b"first", b"second", b"other"]
    assert bodies(reader) == []


# ---- flushing -----------------------------------------------------------------------------


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []

    def counted(file: int) -> None:
        calls.append(file)
        sync_data(file)

    monkeypatch.setattr(file_log, "sync_data", counted)
    return calls


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


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the inodes of the files that were flushed."""
    inodes: list[int] = []

    def noted(file: int) -> None:
        inodes.append(os.fstat(file).st_ino)
        sync_data(file)

    monkeypatch.setattr(file_log, "sync_data", noted)
    return inodes


def test_what_was_appended_is_flushed_though_the_log_was_closed(
    tmp_path: Path, flushed: list[int]
) -> None:
    log = opened(tmp_path)
    put(log, b"x")
    log.leave()
    log.sync()
    log.sync()
    assert flushed == [os.stat(tmp_path / "log" / "0000000001.log").st_ino]


def test_what_another_process_flushed_at_the_end_of_a_segment_is_not_flushed_again(
    tmp_path: Path, flushed: list[int]
) -> None:
    ours, theirs = opened(tmp_path), opened(tmp_path)
    put(ours, b"x" * 300)
    put(theirs, b"y")  # begins a segment
    flushed.clear()
    assert bodies(ours) == [b"y"]
    ours.sync()
    assert flushed == []


def test_a_doubtful_end_of_a_segment_is_written_again_when_another_process_has_gone_on(
    tmp_path: Path, flushed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flush at the end of it succeeds, but for what the failed one has left out."""
    ours, theirs = opened(tmp_path), opened(tmp_path)
    put(ours, b"x" * 300)
    with monkeypatch.context() as patch:
        patch.setattr(file_log, "sync_data", _failing)
        with pytest.raises(BackendUnavailable):
            ours.sync()
    put(theirs, b"y")
    assert bodies(ours) == [b"y"]
    flushed.clear()
    written: list[bytes] = []
    real = os.write

    def noted(file: int, data: bytes) -> int:
        written.append(bytes(data))
        return real(file, data)

    monkeypatch.setattr(os, "write", noted)
    ours.sync()
    assert flushed == [os.stat(tmp_path / "log" / "0000000001.log").st_ino]
    assert b"x" * 300 in b"".join(written)
    assert bodies(opened(tmp_path)) == [b"x" * 300, b"y"]


def test_files_of_segments_that_are_done_with_are_closed(tmp_path: Path) -> None:
    gc.collect()
    before = descriptors()
    ours, theirs = opened(tmp_path), opened(tmp_path)
    for _ in range(5):
        put(ours, b"x" * 300)
        put(theirs, b"y" * 300)
        assert len(bodies(ours)) == 1
        ours.leave()
        ours.open(first=True)
    assert descriptors() - before <= 3
    for log in (ours, theirs):
        log.leave()
    assert descriptors() == before


def test_a_full_segment_is_flushed_before_the_next_begins(
    tmp_path: Path, flushes: list[int]
) -> None:
    log = opened(tmp_path)
    put(log, b"x" * 300)
    assert flushes == []
    put(log, b"y")
    assert len(flushes) == 1
    log.sync()
    assert len(flushes) == 2


def _failing(_: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_foreign_file_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "notes.log").write_text("mine")
    log = opened(tmp_path)
    put(log, b"x")
    log.rewrite([b"y"])
    assert log.segments() == [2, 3]
    assert (tmp_path / "log" / "notes.log").read_text() == "mine"


# ---- interrupted --------------------------------------------------------------------------


def test_an_interrupted_append_is_there_whole_or_not_at_all_also_where_a_segment_begins(
    tmp_path: Path,
) -> None:
    def prepare(number: int) -> tuple[Callable[[], object], Callable[[bool], object]]:
        folder = tmp_path / str(number)
        folder.mkdir()
        log = opened(folder)
        put(log, b"x" * 300)

        def append() -> None:
            log.begin_next_when_full()
            log.append([b"one", b"two"])

        def check(is_cut: bool) -> None:  # noqa: FBT001  # it is told this alone
            log.leave()
            other = opened(folder)
            found = bodies(other)
            new = [b"one", b"two"]
            assert found == [b"x" * 300, *new] or (is_cut and found == [b"x" * 300])
            other.append([b"more"])
            assert bodies(opened(folder)) == [*found, b"more"]
            assert bodies(opened(folder, first=False))[-1:] == [b"more"]
            assert not (folder / "quarantine").exists()
            other.leave()

        return append, check

    assert interrupt_everywhere(prepare) > 50


# ---- written anew -------------------------------------------------------------------------


def test_a_log_that_is_written_anew_has_nothing_else(tmp_path: Path) -> None:
    log, reader = opened(tmp_path), opened(tmp_path)
    put(log, b"old" * 100)
    put(log, b"older")
    assert len(bodies(reader)) == 2
    log.rewrite([b"a", b"b"])
    put(log, b"c")
    assert bodies(opened(tmp_path)) == [b"a", b"b", b"c"]
    assert bodies(opened(tmp_path, first=False)) == [b"c"]
    with pytest.raises(GoneError):
        bodies(reader)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_call_that_fails_while_the_log_is_written_anew_loses_nothing(
    tmp_path: Path, code: int
) -> None:
    number, reached = 0, "?"
    while reached:
        folder = tmp_path / str(number)
        folder.mkdir()
        log = opened(folder)
        put(log, b"x")
        fault = Faults(number, fail(code))
        with pytest.MonkeyPatch.context() as patch:
            fault.install(patch)
            with suppress(BackendUnavailable, StorageFull):
                log.rewrite([b"x"])
        log.leave()
        again = opened(folder)
        assert set(bodies(again)) == {b"x"}
        again.append([b"y"])
        assert bodies(opened(folder))[-1] == b"y"
        number, reached = number + 1, fault.reached
    assert number > 6
