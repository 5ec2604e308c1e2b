"""Outcomes kept as files: whole, private, and set aside where they are damaged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nuvom._file.keepsakes import Keepsakes, Kept
from nuvom._file.quarantine import Quarantine
from nuvom.core.record import JobSnapshot
from nuvom.testing.builders import make_job

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path) -> Keepsakes:
    return Keepsakes(str(tmp_path), Quarantine(str(tmp_path)))


def put(kept: Keepsakes, job_id: str, result: bytes = b"\x01") -> Path:
    from pathlib import Path

    seen = JobSnapshot(record=make_job("shop.send", id=job_id), result=result)
    kept.turn(job_id, lambda: kept.put(job_id, Kept.of(5.0, seen), flush=True))
    return Path(kept._file(job_id))


def aside(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "quarantine")) if (folder / "quarantine").exists() else []


def test_what_is_kept_is_found_and_what_is_removed_is_gone(kept: Keepsakes) -> None:
    put(kept, "a")
    put(kept, "b", b"\x02")
    found = kept.get("b")
    assert found is not None
    assert (found.since, found.snapshot.result, found.snapshot.record.id) == (5.0, b"\x02", "b")
    assert sorted(one.snapshot.record.id for one in kept.all()) == ["a", "b"]
    assert kept.remove("a")
    assert not kept.remove("a")
    assert kept.get("a") is None
    assert [one.snapshot.record.id for one in kept.all()] == ["b"]


def test_every_flipped_byte_and_every_cut_is_noticed_and_set_aside(
    kept: Keepsakes, tmp_path: Path
) -> None:
    sound = put(kept, "a").read_bytes()
    damaged = [sound[:at] for at in range(len(sound))]
    damaged += [sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :] for at in range(len(sound))]
    damaged.append(sound + b"more")
    put(kept, "neighbour")
    for content in damaged[:: 1 + len(damaged) // 60]:
        path = put(kept, "a")
        path.write_bytes(content)
        assert kept.get("a") is None
        assert not path.exists()
        assert kept.get("neighbour") is not None
    reasons = [name for name in aside(tmp_path) if name.endswith(".reason")]
    assert reasons
    assert len(aside(tmp_path)) == 2 * len(reasons)


@pytest.mark.parametrize("body", [b"\xc0", b"\x92\x01\xc4\x01x"])
def test_a_sound_file_that_says_nothing_is_set_aside(
    kept: Keepsakes, tmp_path: Path, body: bytes
) -> None:
    from nuvom._file.frames import BEGIN, END, KEPT, header

    path = put(kept, "a")
    path.write_bytes(header(KEPT, BEGIN | END, 0, body) + body)
    assert kept.get("a") is None
    assert len(aside(tmp_path)) == 2


def test_a_file_replaced_while_it_was_set_aside_stays(
    kept: Keepsakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(kept, "a")
    path.write_bytes(b"rubbish")
    real = Quarantine.keep

    def slow(quarantine: Quarantine, *args: object) -> None:
        real(quarantine, *args)  # type: ignore[arg-type]  # handed through
        put(kept, "a")

    monkeypatch.setattr(Quarantine, "keep", slow)
    assert kept.get("a") is None
    assert kept.get("a") is not None


def test_a_file_removed_while_it_was_set_aside_is_no_error(
    kept: Keepsakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(kept, "a")
    path.write_bytes(b"rubbish")
    monkeypatch.setattr(Quarantine, "keep", lambda *_: path.unlink())
    assert kept.get("a") is None


def test_foreign_files_are_left_alone(kept: Keepsakes, tmp_path: Path) -> None:
    put(kept, "a")
    (tmp_path / "results" / "notes.txt").write_text("mine")
    (tmp_path / "results" / "ab").mkdir(exist_ok=True)
    (tmp_path / "results" / "ab" / "notes.txt").write_text("mine")
    assert [one.snapshot.record.id for one in kept.all()] == ["a"]
    assert aside(tmp_path) == []


@pytest.mark.parametrize("job_id", ["../../x", "a/b", "CON", "\ud800", "x" * 5000, ""])
def test_whatever_an_id_is_called_its_file_stays_inside(
    kept: Keepsakes, tmp_path: Path, job_id: str
) -> None:
    path = os.path.realpath(kept._file(job_id))
    assert os.path.dirname(os.path.dirname(path)) == os.path.realpath(tmp_path / "results")
    assert os.path.basename(path).isalnum()
