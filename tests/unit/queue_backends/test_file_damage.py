"""Flipped and missing bytes: what they hit is set aside, its neighbours go on."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from nuvom.errors import BackendUnavailable
from nuvom.queue_backends import file as file_module
from nuvom.queue_backends import file_log
from nuvom.testing.builders import make_job, make_settlement
from tests.unit.queue_backends.stories import jobs, open_queue

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.queue_backends.file import FileJobQueue

COUNT = 20


def log_of(root: Path) -> Path:
    return root / ".nuvom" / "files" / "log" / "0000000001.log"


def aside(root: Path) -> dict[str, bytes]:
    folder = root / ".nuvom" / "files" / "quarantine"
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def fill(root: Path) -> None:
    queue = open_queue(root)
    queue.enqueue_many(jobs(*(f"j{number:02}" for number in range(COUNT))))
    queue.stop()


def ids(queue: FileJobQueue) -> set[str]:
    return {one.record.id for one in queue.page(limit=1000)}


ALL = {f"j{number:02}" for number in range(COUNT)}


def test_a_flipped_byte_costs_one_job_and_its_bytes_are_kept(tmp_path: Path) -> None:
    rng = Random(4)
    for trial in range(40):
        root = tmp_path / str(trial)
        root.mkdir()
        fill(root)
        content = bytearray(log_of(root).read_bytes())
        at = rng.randrange(100, len(content) - 150)  # behind the note of the boot, before the END
        content[at] ^= 1 << rng.randrange(8)
        log_of(root).write_bytes(content)
        queue = open_queue(root)
        lost = ALL - ids(queue)
        assert len(lost) == 1, f"byte {at}: {lost}"
        kept = aside(root)
        reasons = [name for name in kept if name.endswith(".reason")]
        assert len(kept) == 2
        assert len(reasons) == 1
        assert lost.pop().encode() in kept[reasons[0].removesuffix(".reason")] or at > 0
        assert b"0000000001.log" in kept[reasons[0]]
        claimed = queue.claim(100, "w")
        assert all(queue.settle([make_settlement(job) for job in claimed]))
        assert len(claimed) == COUNT - 1
        queue.stop()
        again = open_queue(root)  # finds the same damage, and keeps it once
        assert len(ids(again)) == COUNT - 1
        assert aside(root) == kept
        again.stop()


def test_a_log_cut_at_any_byte_keeps_whole_what_stands_before_the_cut(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    ends = {log_of(tmp_path).stat().st_size if log_of(tmp_path).exists() else 0: 0}
    for number, job in enumerate(jobs("a", "b", "c")):
        queue.enqueue(job)
        ends[log_of(tmp_path).stat().st_size] = number + 1
    queue.stop()
    content = log_of(tmp_path).read_bytes()
    for cut in range(0, len(content), 7):
        log_of(tmp_path).write_bytes(content[:cut])
        other = open_queue(tmp_path)
        assert len(ids(other)) == max(count for end, count in ends.items() if end <= cut or not end)
        other.enqueue(make_job("shop.send", id="fresh"))
        assert "fresh" in ids(other)
        other.stop()


@pytest.mark.parametrize(("version", "told"), [(3, "a newer version"), (1, "an older version")])
def test_another_form_of_the_log_is_refused_and_left_alone(
    tmp_path: Path, version: int, told: str
) -> None:
    fill(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_log, "VERSION", version)
        at = file_log.place(1, log_of(tmp_path).stat().st_size)
        other = file_log.header(file_log.BEGIN | file_log.END, at, b"?") + b"?"
    with log_of(tmp_path).open("ab") as stream:
        stream.write(other)
    content = log_of(tmp_path).read_bytes()
    queue = open_queue(tmp_path)
    with pytest.raises(BackendUnavailable, match=told) as raised:
        queue.enqueue(make_job("shop.send"))
    assert "file_path" in str(raised.value)
    assert log_of(tmp_path).read_bytes() == content


def test_after_a_power_cut_what_was_not_flushed_goes_from_the_damage_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue(tmp_path)
    for name in ("hit-by-the-disk", "flushed"):
        queue.enqueue(make_job("shop.send", id=name))
    queue._flushes = False  # as if the flushes had not come before the power cut
    for name in ("written", "torn", "lost"):
        queue.enqueue(make_job("shop.send", id=name))
    queue.stop()
    content = log_of(tmp_path).read_bytes()
    for damaged in (b"hit-by-the-disk", b"torn"):
        content = content.replace(damaged, bytes(len(damaged)))
    log_of(tmp_path).write_bytes(content)
    monkeypatch.setattr(file_module, "boot_id", lambda: "the next boot")
    again = open_queue(tmp_path)
    assert ids(again) == {"flushed", "written"}
    again.enqueue(make_job("shop.send", id="fresh"))
    again.stop()
    assert ids(open_queue(tmp_path)) == {"flushed", "written", "fresh"}
