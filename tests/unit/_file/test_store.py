"""Turns of several threads and processes at one file store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.testing.builders import make_job
from tests.unit._file.stories import open_queue

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_table_that_is_made_while_a_caller_waits_for_its_turn_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, others = open_queue(tmp_path), open_queue(tmp_path)
    others.enqueue(make_job("shop.send", id="theirs"))
    run = ours.store._lock.run

    def last(*turn: Any) -> object:
        monkeypatch.undo()
        assert ours.qsize() == 1  # another thread of ours makes the table, for its own turn
        assert [one.id for one in others.claim(1, "other")] == ["theirs"]
        return run(*turn)

    monkeypatch.setattr(ours.store._lock, "run", last)
    ours.enqueue(make_job("shop.send", id="ours"))
    assert [one.id for one in ours.claim(9, "our")] == ["ours"]
    ours.stop()
    others.stop()
