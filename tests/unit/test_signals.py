"""The signals by which a task steers its own job."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nuvom.core.signals import Retry, Snooze


@pytest.mark.parametrize(
    ("given", "secs"),
    [
        (None, None),
        (0, 0),
        (2.5, 2.5),
        (timedelta(minutes=1), 60.0),
        (-3, 0.0),
        (float("nan"), 0.0),
        (float("inf"), 1e11),
    ],
)
def test_retry_waits_for_as_long_as_it_says(given: float | None, secs: float | None) -> None:
    assert secs == Retry(given).in_secs
    if given is not None:
        assert secs == Snooze(given).secs


@pytest.mark.parametrize("given", ["5", True, object()])
def test_a_wait_that_is_no_time_is_a_type_error(given: float) -> None:
    for signal in (Retry, Snooze):
        with pytest.raises(TypeError, match="seconds or a timedelta are needed"):
            signal(given)
