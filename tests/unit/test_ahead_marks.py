"""Start marks that are sent ahead, over connections that fail."""

from __future__ import annotations

import threading
from collections.abc import Container
from types import SimpleNamespace
from typing import Any

import pytest

from nuvom.host import ahead_marks
from nuvom.host.ahead_marks import AheadMarks
from tests.engine import LIMIT_SECS

FIRST, SECOND = 1, 2


class WatchedLock:
    """A lock that tells when somebody waits for it."""

    someone_waits = threading.Event()

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.someone_waits.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class CutSender:
    """A connection that is cut while somebody waits for an answer and others want to send."""

    def __init__(self, *, is_cut: bool) -> None:
        self.sent: set[int] = set()
        self.calls: list[str] = []
        self._is_cut = is_cut

    def send(self, refs: list[int], running: Container[int]) -> None:
        self.calls.append("send")
        self.sent.update(refs)

    def acknowledged_until(self, ref: int) -> list[int]:
        self.calls.append("wait")
        if self._is_cut:
            assert WatchedLock.someone_waits.wait(LIMIT_SECS)
            raise ConnectionError
        refs = list(self.sent)
        self.sent.clear()
        return refs

    def close(self) -> None:
        self.calls.append("close")


def test_nobody_uses_a_connection_that_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer to one mark would be taken for that to another."""
    monkeypatch.setattr(ahead_marks, "threading", SimpleNamespace(Lock=WatchedLock))
    made: list[CutSender] = []

    def connect(_: str) -> Any:
        made.append(CutSender(is_cut=not made))
        return made[-1]

    marks = AheadMarks(connect, (ConnectionError,), lambda error: error)
    marks.expect("worker", [FIRST, SECOND])
    threads = [threading.Thread(target=marks.mark, args=(ref,)) for ref in (FIRST, SECOND)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECS)
        assert not thread.is_alive()
    assert made[0].calls == ["send", "wait", "close"]
    assert made[1].calls.count("wait") == 2
