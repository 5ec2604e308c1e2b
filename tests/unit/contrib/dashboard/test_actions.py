"""What the forms do, on every store: only to what the person has seen, and not without a trace."""

from __future__ import annotations

import pytest

from nuvom.core.record import JobStatus
from tests.unit.contrib.dashboard.conftest import Dashboard


def epoch(dashboard: Dashboard, name: str) -> dict[str, int]:
    return {"epoch": dashboard.see(name).record.lease_epoch}


@pytest.mark.parametrize(
    ("do", "name", "after"),
    [
        ("retry", "failed", JobStatus.PENDING),
        ("cancel", "ready", JobStatus.CANCELLED),
        ("cancel", "later", JobStatus.CANCELLED),
    ],
)
def test_a_job_is_changed_as_it_was_seen(
    any_dashboard: Dashboard, do: str, name: str, after: JobStatus
) -> None:
    seen, path = epoch(any_dashboard, name), f"/jobs/{any_dashboard.jobs[name]}/{do}"
    answer = any_dashboard.post(path, {**seen, "next": "/queues?q=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/queues?q=1")
    assert any_dashboard.see(name).status == after

    page = any_dashboard.follow(path, seen)  # once more, on what is no longer as it was seen
    assert any_dashboard.see(name).status == after
    assert "Nothing was done" in page.text
    assert "Nothing was done" not in any_dashboard.get("/queues").text
