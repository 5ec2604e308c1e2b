"""What the forms do, on every store: only to what the person has seen, and not without a trace."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.contrib.dashboard import actions
from nuvom.core.record import JobStatus
from nuvom.errors import BackendUnavailable
from tests.unit.contrib.dashboard.conftest import Dashboard

STATUSES = {"retry": JobStatus.PENDING, "cancel": JobStatus.CANCELLED}


def epoch(dashboard: Dashboard, name: str) -> dict[str, int]:
    return {"epoch": dashboard.see(name).record.lease_epoch}


def counts(dashboard: Dashboard) -> tuple[str, str, int, int, int, int]:
    """Return what the newest audit row says, once it was seen to be complete."""
    entry = dashboard.inspector.audit(1)[0]
    assert (entry.actor, entry.source) == ("dashboard", "127.0.0.9")
    assert entry.note != "not finished"
    return entry.action, entry.target, entry.asked, entry.done, entry.skipped, entry.failed


@pytest.mark.parametrize(
    ("do", "name"), [("retry", "failed"), ("cancel", "ready"), ("cancel", "later")]
)
def test_a_job_is_changed_only_as_it_was_seen(any_dashboard: Dashboard, do: str, name: str) -> None:
    job_id = any_dashboard.jobs[name]
    seen, path = epoch(any_dashboard, name), f"/jobs/{job_id}/{do}"
    answer = any_dashboard.post(path, {**seen, "next": "/queues?q=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/queues?q=1")
    assert any_dashboard.see(name).status == STATUSES[do]
    assert counts(any_dashboard) == (do, job_id, 1, 1, 0, 0)

    page = any_dashboard.follow(path, seen)  # once more, on what is no longer as it was seen
    assert any_dashboard.see(name).status == STATUSES[do]
    assert counts(any_dashboard) == (do, job_id, 1, 0, 1, 0)
    assert "Nothing was done" in page.text
    assert "Nothing was done" not in any_dashboard.get("/queues").text


def test_a_job_that_starts_meanwhile_is_not_cancelled(any_dashboard: Dashboard) -> None:
    seen = epoch(any_dashboard, "ready")
    any_dashboard.queue.claim(10, "worker-1")
    page = any_dashboard.follow(f"/jobs/{any_dashboard.jobs['ready']}/cancel", seen)
    assert "is RUNNING now" in page.text
    assert any_dashboard.see("ready").status == JobStatus.RUNNING


@pytest.mark.parametrize("do", ["retry", "cancel", "discard"])
def test_a_job_in_a_state_that_does_not_fit_stays(any_dashboard: Dashboard, do: str) -> None:
    name = "success" if do != "discard" else "ready"
    before, seen = any_dashboard.see(name), epoch(any_dashboard, name)
    page = any_dashboard.follow(f"/jobs/{any_dashboard.jobs[name]}/{do}", seen)
    assert f"the job is {before.status}" in page.text
    assert any_dashboard.see(name) == before


def test_discarding_a_job_leaves_its_page(any_dashboard: Dashboard) -> None:
    job_id = any_dashboard.jobs["failed"]
    path = f"/jobs/{job_id}/discard"
    answer = any_dashboard.post(path, {**epoch(any_dashboard, "failed"), "next": f"/jobs/{job_id}"})
    assert answer.headers["location"] == "/jobs"
    assert any_dashboard.queue.get(job_id) is None
    assert any_dashboard.post(path, {"epoch": 1}).status_code == 404


def test_a_retry_that_would_run_beside_its_unique_job_says_so(dashboard: Dashboard) -> None:
    first = dashboard.add("shop.mail", unique_key="one")
    dashboard.end(first)
    dashboard.add("shop.mail", unique_key="one")
    page = dashboard.follow(f"/jobs/{first}/retry", epoch(dashboard, first))
    assert "another job has its unique key" in page.text


def test_a_duplicate_is_a_new_job_with_the_same_stored_arguments(any_dashboard: Dashboard) -> None:
    answer = any_dashboard.post(f"/jobs/{any_dashboard.jobs['failed']}/duplicate")
    new = any_dashboard.see(answer.headers["location"].removeprefix("/jobs/")).record
    old = any_dashboard.see("failed").record
    assert (bytes(new.args), bytes(new.kwargs)) == (bytes(old.args), bytes(old.kwargs))
    assert (new.retried_from, new.status) == (old.id, JobStatus.PENDING)


def test_selected_jobs_are_changed_and_those_that_have_changed_are_skipped(
    any_dashboard: Dashboard,
) -> None:
    failed = [any_dashboard.add("shop.bulk") for _ in range(3)]
    for job_id in failed:
        any_dashboard.end(job_id)
    ids = [f"{one}.{any_dashboard.see(one).record.lease_epoch}" for one in failed]
    any_dashboard.queue.retry(failed[1])
    any_dashboard.end(failed[1])  # it has failed once more, which nobody has seen
    form = {"do": "retry", "id": [*ids, "gone.1", f"{any_dashboard.jobs['success']}.1"]}
    page = any_dashboard.follow("/jobs/act", form)
    assert "2 jobs will run again; 3 skipped" in page.text
    assert counts(any_dashboard)[2:] == (5, 2, 3, 0)
    assert [any_dashboard.see(one).status for one in failed] == ["PENDING", "FAILED", "PENDING"]


def test_all_that_match_are_changed_up_to_the_newest_that_was_seen(
    any_dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "CHUNK", 2)
    failed = [any_dashboard.add("shop.bulk") for _ in range(6)]
    for job_id in failed:
        any_dashboard.end(job_id)
    form = {"do": "retry", "q": "task:shop.bulk status:FAILED", "upto": failed[4]}
    page = any_dashboard.follow("/jobs/act", form)
    assert "5 jobs will run again." in page.text
    assert any_dashboard.see(failed[5]).status == JobStatus.FAILED
    action, target, *rest = counts(any_dashboard)
    assert (action, rest) == ("retry", [5, 5, 0, 0])
    assert target == f"task:shop.bulk status:FAILED up to {failed[4]}"


def test_all_that_match_are_found_although_they_are_removed_meanwhile(
    any_dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "CHUNK", 2)
    failed = [any_dashboard.add("shop.bulk") for _ in range(7)]
    for job_id in failed:
        any_dashboard.end(job_id)
    form = {"do": "discard", "q": "task:shop.bulk", "upto": failed[-1]}
    assert "7 jobs discarded." in any_dashboard.follow("/jobs/act", form).text
    assert not any(map(any_dashboard.queue.get, failed))


def test_many_are_changed_chunk_by_chunk_and_a_chunk_may_fail(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "CHUNK", 2)
    failed = [dashboard.add("shop.bulk") for _ in range(6)]
    for job_id in failed:
        dashboard.end(job_id)
    apply, sizes, pauses = dashboard.queue.apply, list[int](), list[float]()
    notes = set[str]()

    def lose_the_second(changes: Any) -> list[bool]:
        sizes.append(len(changes))
        notes.add(dashboard.inspector.audit(1)[0].note)
        if len(sizes) == 2:
            raise BackendUnavailable("the store", "locked", "Wait.")
        return apply(changes)

    monkeypatch.setattr(dashboard.queue, "apply", lose_the_second)
    monkeypatch.setattr(actions, "SYSTEM_CLOCK", _Clock(pauses))
    ids = [f"{one}.{dashboard.see(one).record.lease_epoch}" for one in failed]
    page = dashboard.follow("/jobs/act", {"do": "retry", "id": ids})
    assert "4 jobs will run again; 2 failed" in page.text
    assert counts(dashboard)[2:] == (6, 4, 0, 2)
    assert sizes == [2, 2, 2]
    assert notes == {"not finished"}  # so that something is left of what is interrupted
    assert len(pauses) == 3  # workers get to write after each chunk


class _Clock:
    def __init__(self, pauses: list[float]) -> None:
        self.sleep = pauses.append


def test_failures_of_one_cause_are_changed_together(any_dashboard: Dashboard) -> None:
    (group,) = any_dashboard.inspector.error_groups()
    page = any_dashboard.follow(f"/errors/{group.fingerprint}/retry")
    assert "1 job will run again." in page.text
    assert any_dashboard.see("failed").status == JobStatus.PENDING
    assert counts(any_dashboard) == ("retry", group.fingerprint, 1, 1, 0, 0)
    assert any_dashboard.post(f"/errors/{group.fingerprint}/retry").status_code == 404


def test_a_queue_is_paused_resumed_and_purged(any_dashboard: Dashboard) -> None:
    def paused_by() -> str | None:
        (stats,) = [one for one in any_dashboard.inspector.stats() if one.queue == "mail"]
        return stats.paused_by

    any_dashboard.follow("/queues/mail/pause")
    assert paused_by() == "dashboard@127.0.0.9"
    assert counts(any_dashboard) == ("pause", "mail", 1, 1, 0, 0)
    any_dashboard.follow("/queues/mail/resume")
    assert paused_by() is None
    assert "was not paused" in any_dashboard.follow("/queues/mail/resume").text

    for wrong in ("", "default", "mail "[:3]):
        refused = any_dashboard.post("/queues/mail/purge", {"confirm": wrong})
        assert refused.status_code == 422
        assert "not the name of the queue" in refused.text
        assert f'value="{wrong}"' in refused.text
    assert any_dashboard.see("ready").status == JobStatus.PENDING
    page = any_dashboard.follow("/queues/mail/purge", {"confirm": "mail"})
    assert "1 waiting job removed" in page.text
    assert any_dashboard.queue.get(any_dashboard.jobs["ready"]) is None
    assert counts(any_dashboard) == ("purge", "mail", 1, 1, 0, 0)
    assert any_dashboard.post("/queues/nope/pause").status_code == 404


def test_a_worker_is_told(any_dashboard: Dashboard) -> None:
    for word in ("quiet", "resume", "stop"):
        any_dashboard.follow(f"/workers/worker-1/{word}")
        assert any_dashboard.queue.commands("worker-1") == [word]
    assert any_dashboard.post("/workers/worker-2/stop").status_code == 404


def test_a_schedule_is_paused_resumed_and_run(any_dashboard: Dashboard) -> None:
    any_dashboard.follow("/schedules/nightly/pause")
    assert any_dashboard.inspector.schedule("nightly").paused_by == "dashboard@127.0.0.9"
    any_dashboard.follow("/schedules/nightly/resume")
    assert any_dashboard.inspector.schedule("nightly").state == "active"
    any_dashboard.follow("/schedules/nightly/run")
    (job_id,) = any_dashboard.inspector.schedule("nightly").recent
    assert any_dashboard.see(job_id).status == JobStatus.PENDING
    assert counts(any_dashboard)[:2] == ("schedule", "nightly (run)")
    assert any_dashboard.post("/schedules/hourly/run").status_code == 404


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/jobs/act", {"do": "explode", "id": "x.1"}),
        ("/jobs/act", {"do": "retry", "id": "x"}),
        ("/jobs/act", {"do": "retry", "id": "x.-1"}),
        ("/jobs/act", {"do": "retry", "q": "status:FAILED"}),
        ("/jobs/act", {"do": "retry", "q": "status:NEVER", "upto": "x"}),
        ("/jobs/{}/retry", {}),
        ("/jobs/{}/retry", {"epoch": "one"}),
        ("/jobs/{}/retry", {"epoch": "9" * 30}),
    ],
)
def test_a_form_that_makes_no_sense_changes_nothing(
    dashboard: Dashboard, path: str, form: dict[str, str]
) -> None:
    answer = dashboard.post(path.format(dashboard.jobs["failed"]), form)
    assert answer.status_code == 422
    assert dashboard.inspector.audit() == []


@pytest.mark.parametrize(
    "to",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1", "/a\r\nb", ""],
)
def test_a_form_leads_to_a_page_of_the_dashboard_only(dashboard: Dashboard, to: str) -> None:
    answer = dashboard.post("/queues/mail/pause", {"next": to})
    assert answer.headers["location"] == "/"


def test_what_was_done_is_shown_to_the_page_and_not_to_its_refresh(dashboard: Dashboard) -> None:
    dashboard.post("/queues/mail/pause")
    assert "is paused:" not in dashboard.get("/queues", headers={"HX-Request": "true"}).text
    assert "is paused:" in dashboard.get("/queues").text
    assert "is paused:" not in dashboard.get("/queues").text
