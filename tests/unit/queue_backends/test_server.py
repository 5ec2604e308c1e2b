"""What all queues on servers share, without a server."""

from __future__ import annotations

import pytest

from nuvom.core.clock import Clock
from nuvom.queue_backends import server
from nuvom.queue_backends.server import CONNECT_SECS, reach


class SleeplessClock(Clock):
    """Notes how long it was asked to sleep, and does not."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, secs: float) -> None:
        self.slept.append(secs)


@pytest.mark.parametrize(("lease_secs", "most_secs"), [(0.5, 0.1), (1.0, 0.2), (30.0, 1.0)])
def test_no_pause_between_two_tries_comes_near_a_lease(
    monkeypatch: pytest.MonkeyPatch, lease_secs: float, most_secs: float
) -> None:
    clock = SleeplessClock()
    monkeypatch.setattr(server, "SYSTEM_CLOCK", clock)

    def fail() -> None:
        raise ConnectionError("nobody listens")

    with pytest.raises(TimeoutError):
        reach(
            fail,
            errors=(ConnectionError,),
            may_pass=lambda _: True,
            failure=lambda error: TimeoutError(str(error)),
            lease_secs=lease_secs,
        )
    assert max(clock.slept) <= most_secs
    assert CONNECT_SECS - 2 * most_secs < sum(clock.slept) <= CONNECT_SECS
