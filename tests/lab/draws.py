"""What random histories are made of: the settings they run under, and what is drawn for a step."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from nuvom.core.record import JobStatus

# Sums of these never hit the end of a lease or a run_at exactly: what happens at the very
# moment is nobody's promise.
PASSING_SECS = (0.7, 7.3, 16.1, 31.7)
DELAY_SECS = (0.0, 0.0, 0.0, 0.0, 5.05, 40.45)
QUEUES = ("a", "b")
TASKS = ("shop.a", "shop.b")
OWNERS = ("worker-a", "worker-b", "worker-c")
SETTINGS: dict[str, Any] = {
    "lease_secs": 30.0,
    "max_deliveries": 3,
    "parked_ttl_secs": 50.55,
    "max_queue_size": 6,
}
# Without a clock to move nothing may run out while a history lasts, however slow the machine is.
LASTING: dict[str, Any] = {"lease_secs": 3600.0, "parked_ttl_secs": 3600.0}
NEVER_SECS = 3600.0
VERDICTS = {
    "success": (JobStatus.SUCCESS, True),
    "failure": (JobStatus.FAILED, True),
    "cancelled": (JobStatus.CANCELLED, True),
    "retry": (JobStatus.PENDING, True),
    "snooze": (JobStatus.PENDING, False),
    "parked": (JobStatus.PARKED, False),
}

queues = st.sampled_from(QUEUES)
tasks = st.sampled_from(TASKS)
owners = st.sampled_from(OWNERS)
delays = st.sampled_from(DELAY_SECS)
picks = st.integers(0, 1000)  # an index, modulo what there is
calls = st.fixed_dictionaries(
    {
        "func_name": tasks,
        "queue": queues,
        "priority": st.integers(0, 2),
        "delay": delays,
        "unique_key": st.sampled_from((None, None, None, "x")),
    }
)
ends = st.fixed_dictionaries(
    {
        "verdict": st.sampled_from(sorted(VERDICTS)),
        "delay": delays,
        "child": st.none() | calls,
    }
)
seldom = st.sampled_from((False, False, True))
