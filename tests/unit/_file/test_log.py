"""The log: appended whole or not at all, followed by many, flushed once for all that wait."""

from __future__ import annotations

import errno
import gc
import os
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest

from nuvom._file import flushing
from nuvom._file import log as log_module
from nuvom._file.frames import JOB, NOTE, SEAL
from nuvom._file.log import GoneError, Log
from nuvom._file.quarantine import Quarantine
from nuvom.errors import BackendUnavailable, CorruptRecord, StorageFull
from nuvom.host.files import sync_data
from tests.unit._file.faults import Faults, fail
from tests.unit._file.interrupting import descriptors, interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Log, "segment_bytes", 200)


def opened(folder: Path, *, first: bool = True) -> Log:
    log = Log(str(folder), Quarantine(str(folder)))
    log.open(first=first)
    return log


def put(log: Log, *bodies: bytes) -> None:
    for _ in log.follow():
        pass
    log.append([(JOB, body) for body in bodies])


def bodies(log: Log) -> list[bytes]:
    return [body for _, _, _, body in log.follow()]


def test_who_follows_sees_each_append_once_in_order(tmp_path: Path) -> None:
    writer, reader = opened(tmp_path), opened(tmp_path)
    put(writer, b"one", b"two")
    assert bodies(reader) == [b"one", b"two"]
    assert bodies(reader) == []
    put(writer, b"three")
    put(reader, b"four")
    assert bodies(reader) == [b"four"] or bodies(reader) == []
    assert bodies(writer) == [b"three", b"four"]
    assert bodies(opened(tmp_path)) == [b"one", b"two", b"three", b"four"]


def test_what_is_known_is_not_given_back(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append([(JOB, b"mine")], known=True)
    assert bodies(log) == []
    put(log, b"next")
    assert bodies(log) == [b"next"]


def test_nothing_is_appended_where_there_is_nothing_to_append(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append([])
    assert log.size() == 0


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


def test_a_large_batch_stays_in_one_segment(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, *(b"x" * 100 for _ in range(50)))
    assert log.segments() == [1]
    assert len(bodies(log)) == 50


def test_entries_larger_than_what_is_read_at_once_come_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_CHUNK_BYTES", 64)
    log = opened(tmp_path)
    put(log, b"a" * 10, b"b" * 5000, b"c" * 70)
    reader = opened(tmp_path)
    places = [at for _, _, at, _ in reader.follow()]
    assert bodies(log) == [b"a" * 10, b"b" * 5000, b"c" * 70]
    assert [log.read(at, "?") for at in places] == [
        (JOB, b"a" * 10),
        (JOB, b"b" * 5000),
        (JOB, b"c" * 70),
    ]


def test_an_append_whose_making_fails_leaves_nothing(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, b"one")

    def entries() -> Iterator[tuple[int, bytes]]:
        yield JOB, b"x" * (2 << 20)  # more than is written at once
        yield JOB, b"y"
        yield JOB, b"z"
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
            log.append([(JOB, b"torn" * 50)])
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
        for _ in log.follow():
            pass
        fault = Faults(number, fail(errno.EIO))
        with pytest.MonkeyPatch.context() as patch:
            fault.install(patch)
            try:
                log.append([(JOB, b"more")])
            except BackendUnavailable:
                pass
            else:
                assert not fault.reached
        if not fault.reached:
            break
        put(log, b"again")
        assert bodies(opened(folder)) == [b"x" * 300, b"again"]
        number += 1
    assert number >= 4


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

    monkeypatch.setattr(log_module, "sync_directory", failing_once)
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
        patch.setattr(log_module, "sync_directory", failing)
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
    writer.drop(1)
    with pytest.raises(GoneError):
        bodies(reader)


def test_who_has_to_go_on_in_a_dropped_segment_has_to_read_everything_anew(
    tmp_path: Path,
) -> None:
    writer, reader = opened(tmp_path), opened(tmp_path)
    for _ in range(10):
        put(writer, b"x" * 150)
    writer.drop(2)
    with pytest.raises(GoneError):
        bodies(reader)


def test_a_file_that_has_become_shorter_has_to_be_read_anew(tmp_path: Path) -> None:
    writer, reader = opened(tmp_path), opened(tmp_path)
    put(writer, b"one")
    assert bodies(reader) == [b"one"]
    os.truncate(tmp_path / "0000000001.log", 3)
    with pytest.raises(GoneError):
        bodies(reader)


def test_reading_a_place_that_is_gone_or_damaged_is_an_error(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, b"one")
    ((_, _, at, _),) = log.follow()
    with pytest.raises(CorruptRecord, match="job-1"):
        log.read(at + 1, "job-1")
    log.drop(1)
    with pytest.raises(CorruptRecord, match="missing"):
        log.read(at, "job-1")


def test_a_seal_without_the_next_segment_is_followed_by_making_it(tmp_path: Path) -> None:
    """A process that dies between the two leaves it so."""
    log = opened(tmp_path)
    put(log, b"one")
    log.append([(SEAL, b"")])
    reader = opened(tmp_path)
    assert bodies(reader) == [b"one"]
    assert reader.segments() == [1, 2]
    put(reader, b"two")
    assert bodies(opened(tmp_path)) == [b"one", b"two"]


def test_a_lost_end_of_an_append_does_not_lose_the_rest_of_it(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, b"first", b"second", b"third")
    put(log, b"other")
    path = tmp_path / "0000000001.log"
    path.write_bytes(path.read_bytes().replace(b"third", b"thirD"))
    reader = opened(tmp_path)
    assert bodies(reader) == [b"first", b"second", b"other"]
    assert bodies(reader) == []


def test_following_can_stop_before_a_place(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, b"one")
    for _ in log.follow():
        pass
    until = log.end
    log.append([(JOB, b"two")])
    reader = opened(tmp_path)
    assert [body for *_, body in reader.follow(until=until)] == [b"one"]


def test_a_folder_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path)
    put(log, b"one")

    def failing(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(log_module, "read_at", failing)
    with pytest.raises(BackendUnavailable):
        bodies(log)


# ---- flushing -----------------------------------------------------------------------------


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []

    def counted(file: int) -> None:
        calls.append(file)
        sync_data(file)

    monkeypatch.setattr(flushing, "sync_data", counted)
    return calls


def test_what_is_flushed_is_not_flushed_again(tmp_path: Path, flushes: list[int]) -> None:
    log = opened(tmp_path)
    log.sync()
    assert flushes == []
    put(log, b"one")
    log.sync()
    log.sync()
    assert len(flushes) == 1


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

    monkeypatch.setattr(flushing, "sync_data", slow)
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
        patch.setattr(flushing, "sync_data", _failing)
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

    monkeypatch.setattr(flushing, "sync_data", noted)
    return inodes


def test_what_was_appended_is_flushed_though_the_log_is_read_from_its_beginning(
    tmp_path: Path, flushed: list[int]
) -> None:
    log = opened(tmp_path)
    put(log, b"x" * 300)
    put(log, b"y")
    flushed.clear()
    log.leave()  # another thread does, in a turn of its own
    log.open(first=True)
    log.sync()
    assert flushed == [os.stat(tmp_path / "0000000002.log").st_ino]
    log.sync()
    assert len(flushed) == 1


def test_what_was_appended_is_flushed_though_the_log_was_closed(
    tmp_path: Path, flushed: list[int]
) -> None:
    log = opened(tmp_path)
    put(log, b"x")
    log.close()
    log.sync()
    log.sync()
    assert flushed == [os.stat(tmp_path / "0000000001.log").st_ino]


def test_what_another_process_flushed_at_the_end_of_a_segment_is_not_flushed_again(
    tmp_path: Path, flushed: list[int]
) -> None:
    ours, theirs = opened(tmp_path), opened(tmp_path)
    put(ours, b"x" * 300)
    put(theirs, b"y")  # begins a segment
    flushed.clear()
    assert bodies(ours) == [b"x" * 300, b"y"]
    ours.sync()
    assert flushed == []


def test_a_doubtful_end_of_a_segment_is_written_again_when_another_process_has_gone_on(
    tmp_path: Path, flushed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flush at the end of it succeeds, but for what the failed one has left out."""
    ours, theirs = opened(tmp_path), opened(tmp_path)
    put(ours, b"x" * 300)
    with monkeypatch.context() as patch:
        patch.setattr(flushing, "sync_data", _failing)
        with pytest.raises(BackendUnavailable):
            ours.sync()
    put(theirs, b"y")
    assert bodies(ours) == [b"x" * 300, b"y"]
    flushed.clear()
    written: list[bytes] = []
    real = os.write

    def noted(file: int, data: bytes) -> int:
        written.append(bytes(data))
        return real(file, data)

    monkeypatch.setattr(os, "write", noted)
    ours.sync()
    assert flushed == [os.stat(tmp_path / "0000000001.log").st_ino]
    assert b"x" * 300 in b"".join(written)
    assert bodies(opened(tmp_path)) == [b"x" * 300, b"y"]


def test_files_of_segments_that_are_done_with_are_closed(tmp_path: Path) -> None:
    gc.collect()
    before = descriptors()
    ours, theirs = opened(tmp_path), opened(tmp_path)
    for _ in range(5):
        put(ours, b"x" * 300)
        put(theirs, b"y" * 300)
        assert len(bodies(ours)) > 1
        ours.leave()
        ours.open(first=True)
    assert descriptors() - before <= 3
    for log in (ours, theirs):
        log.close()
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


def test_entries_tell_how_far_the_log_is_flushed(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, b"one")
    log.sync()
    put(log, b"two")
    reader = opened(tmp_path)
    assert bodies(reader) == [b"one", b"two"]
    for _ in log.follow():
        pass
    assert 0 < reader.flusher.synced < log.end


def _failing(_: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_foreign_file_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "notes.log").write_text("mine")
    log = opened(tmp_path)
    log.append([(NOTE, b"x")])
    assert log.segments() == [1]
    assert (tmp_path / "notes.log").read_text() == "mine"


# ---- interrupted --------------------------------------------------------------------------


# A file that was just opened when the exception came is closed when it is forgotten.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_an_interrupted_append_is_there_whole_or_not_at_all_also_where_a_segment_begins(
    tmp_path: Path,
) -> None:
    def prepare(number: int) -> tuple[Callable[[], object], Callable[[bool], object]]:
        folder = tmp_path / str(number)
        folder.mkdir()
        log = opened(folder)
        put(log, b"x" * 300)
        for _ in log.follow():
            pass

        def check(is_cut: bool) -> None:  # noqa: FBT001  # it is told this alone
            log.close()
            other = opened(folder)
            found = bodies(other)
            new = [b"one", b"two"]
            assert found == [b"x" * 300, *new] or (is_cut and found == [b"x" * 300])
            other.append([(JOB, b"more")])
            assert bodies(opened(folder)) == [*found, b"more"]
            assert bodies(opened(folder, first=False))[-1:] == [b"more"]
            assert not (folder / "quarantine").exists()
            other.close()

        return lambda: log.append([(JOB, b"one"), (JOB, b"two")]), check

    assert interrupt_everywhere(prepare) > 50


def test_an_interrupted_read_of_an_entry_leaves_no_file_open(tmp_path: Path) -> None:
    log = opened(tmp_path)
    put(log, b"one" * 5000)
    ((_, _, at, body),) = log.follow()

    def prepare(_: int) -> tuple[Callable[[], object], Callable[[bool], object]]:
        return lambda: log.read(at, "j"), lambda _: log.read(at, "j") == (JOB, body)

    assert interrupt_everywhere(prepare) > 10
