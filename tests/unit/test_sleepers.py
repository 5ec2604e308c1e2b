"""Sleepers of one process at a server: they are lent, kept for the next one, and closed."""

from __future__ import annotations

from nuvom.host.sleepers import RESULTS, SCHEDULES, WORK, SleeperPool


class _Sleeper:
    """Keeps what is done with it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.calls: list[str] = []

    def is_usable(self) -> bool:
        return True

    def arm(self) -> None:
        self.calls.append("arm")

    def disarm(self) -> None:
        self.calls.append("disarm")

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return False

    def poke(self) -> None:
        self.calls.append("poke")

    def close(self) -> None:
        self.calls.append("close")


def test_a_sleeper_is_kept_for_the_next_one_of_its_kind() -> None:
    pool = SleeperPool(_Sleeper)
    with pool.lend(SCHEDULES) as first:
        pass
    with pool.lend(SCHEDULES) as second, pool.lend(RESULTS) as other:
        pass
    assert second is first
    assert (first.kind, other.kind) == (SCHEDULES, RESULTS)
    assert first.calls == ["arm", "disarm"] * 2


def test_a_sleeper_that_is_given_back_after_the_end_is_closed() -> None:
    """Nobody will use the pool again, and its connection would stay open."""
    pool = SleeperPool(_Sleeper)
    with pool.lend(WORK) as one:
        pool.close()
        assert "close" not in one.calls
    assert one.calls == ["arm", "disarm", "close"]
