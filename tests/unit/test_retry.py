"""Whether and when a job is tried again."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.core.options import BACKOFFS, TaskOptions
from nuvom.core.outcome import (
    Failed,
    Outcome,
    RetryAsked,
    Snoozed,
    TimedOut,
    UnknownTask,
    Verdict,
    backoff_secs,
    decide,
)
from nuvom.core.record import JobRecord, JobStatus, RetryPolicy, StoredError

NOW = 1_750_000_000.0
ERROR = StoredError("ValueError", "no")
POLICY = RetryPolicy(delay_secs=2.0, backoff="constant", jitter=False)


class BrokenError(ValueError): ...


def verdict(outcome: Outcome, *, options: TaskOptions | None = None, **fields: Any) -> Verdict:
    record = JobRecord("id", "tests.probe", **{"attempt": 1, "retry": POLICY, **fields})
    return decide(outcome, record, options or TaskOptions(), now=NOW, rng=Random(1))


def failed(exception: BaseException | None = None, *, discard: bool = False) -> Failed:
    return Failed(ERROR, exception, discard)


# ---- how long to wait -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        ("constant", [5, 5, 5, 5, 5]),
        ("linear", [5, 10, 15, 20, 25]),
        ("exponential", [5, 10, 20, 40, 60]),
    ],
)
def test_waits_grow_as_the_policy_says_up_to_the_cap(backoff: str, waits: list[float]) -> None:
    policy = RetryPolicy(5, backoff, 60, jitter=False)
    assert waits == [backoff_secs(failures, policy, Random(1)) for failures in range(1, 6)]


@given(
    failures=st.integers(1, 10_000),
    base=st.floats(0, 1e9),
    cap=st.floats(0, 1e9),
    backoff=st.sampled_from(BACKOFFS),
    seed=st.integers(),
)
def test_jitter_spreads_a_wait_below_its_full_length(
    failures: int, base: float, cap: float, backoff: str, seed: int
) -> None:
    full = backoff_secs(failures, RetryPolicy(base, backoff, cap, jitter=False), Random(seed))
    spread = backoff_secs(failures, RetryPolicy(base, backoff, cap, jitter=True), Random(seed))
    assert 0 <= spread <= full <= cap


# ---- what becomes of the job ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (UnknownTask("no such task"), Verdict(JobStatus.PARKED, keeps_attempt=False)),
        (Snoozed(30), Verdict(JobStatus.PENDING, NOW + 30, keeps_attempt=False)),
    ],
)
def test_outcome_that_is_no_failure_needs_no_retry(outcome: Outcome, expected: Verdict) -> None:
    assert expected == verdict(outcome)


@pytest.mark.parametrize(
    ("attempt", "status"), [(1, "PENDING"), (2, "PENDING"), (3, "FAILED"), (4, "FAILED")]
)
def test_two_retries_allow_three_attempts(attempt: int, status: str) -> None:
    assert status == verdict(failed(ValueError()), attempt=attempt, max_retries=2).status


def test_retry_comes_after_the_wait_of_the_policy() -> None:
    assert Verdict(JobStatus.PENDING, NOW + 2) == verdict(failed(ValueError()), max_retries=1)


def test_job_without_a_policy_has_the_default_one() -> None:
    later = verdict(failed(ValueError()), max_retries=1, retry=None)
    assert NOW <= later.run_at <= NOW + 5


@pytest.mark.parametrize(
    ("exception", "options", "status"),
    [
        (ValueError(), {"retry_on": (ValueError,)}, "PENDING"),
        (BrokenError(), {"retry_on": (ValueError,)}, "PENDING"),
        (KeyError(), {"retry_on": (ValueError,)}, "FAILED"),
        (ValueError(), {"retry_on": ()}, "FAILED"),
        (BrokenError(), {"discard_on": (ValueError,)}, "FAILED"),
        (ValueError(), {"retry_on": (ValueError,), "discard_on": (ValueError,)}, "FAILED"),
        (KeyError(), {"discard_on": (ValueError,)}, "PENDING"),
        (SystemExit(3), {}, "FAILED"),
        (SystemExit(3), {"retry_on": (BaseException,)}, "PENDING"),
        (None, {"retry_on": ()}, "PENDING"),  # only the name of its class is known
    ],
)
def test_class_of_the_exception_decides(
    exception: BaseException | None, options: dict[str, Any], status: str
) -> None:
    found = verdict(failed(exception), options=TaskOptions(**options), max_retries=1)
    assert status == found.status


def test_discarded_failure_is_final_whatever_retries_remain() -> None:
    assert "FAILED" == verdict(failed(ValueError(), discard=True), max_retries=9).status


@pytest.mark.parametrize(("in_secs", "wait"), [(None, 2), (0, 0), (7.5, 7.5), (-1, 0)])
def test_retry_that_was_asked_for_waits_as_it_says(in_secs: float | None, wait: float) -> None:
    asked = RetryAsked(ERROR, in_secs)
    assert Verdict(JobStatus.PENDING, NOW + wait) == verdict(asked, max_retries=1)


@pytest.mark.parametrize(("own", "asked", "status"), [(0, 1, "PENDING"), (9, 0, "FAILED")])
def test_limit_of_a_retry_that_was_asked_for_beats_that_of_the_job(
    own: int, asked: int, status: str
) -> None:
    found = verdict(RetryAsked(ERROR, max_retries=asked), max_retries=own)
    assert status == found.status


@pytest.mark.parametrize(
    ("policy", "retries", "status"),
    [
        ("retry", 1, "PENDING"),
        ("retry", 0, "FAILED"),
        ("fail", 1, "FAILED"),
        ("ignore", 0, "SUCCESS"),
        ("ignore", 1, "SUCCESS"),
    ],
)
def test_timeout_follows_its_policy(policy: str, retries: int, status: str) -> None:
    found = verdict(TimedOut(ERROR), timeout_policy=policy, max_retries=retries)
    assert status == found.status
