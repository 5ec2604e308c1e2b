"""The pages of jobs, one job, errors and tasks: what they show, and what they offer."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.discovery.manifest import write_manifest
from nuvom.discovery.scan import scan

from .conftest import Dashboard

TRACE = """Traceback (most recent call last):
  File "/usr/lib/python3/site-packages/cards/api.py", line 3, in call
    raise Declined(order)
  File "{root}/shop.py", line 88, in charge
    return row["net"]
KeyError: 'net'"""


def _rows(html: str) -> dict[str, str]:
    """Return the rows of a list of jobs by id: which actions they take."""
    return {job: can.strip() for job, can in re.findall(r'<tr id="job-(\S+)" class="(.*?)">', html)}


def _link(html: str, text: str) -> str:
    found = re.search(rf'href="([^"]*)"[^>]*>{text}', html)
    assert found is not None, text
    return unescape(found[1])


def _text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


# ---- jobs ----------------------------------------------------------------------------------------


def test_a_row_takes_what_its_status_allows(any_dashboard: Dashboard) -> None:
    jobs, rows = any_dashboard.jobs, _rows(any_dashboard.get("/jobs").text)
    assert {name: rows[job] for name, job in jobs.items()} == {
        "failed": "can-retry can-discard",
        "success": "can-discard",
        "ready": "can-cancel",
        "later": "can-cancel",
    }


def test_who_may_only_read_sees_no_button_and_no_checkbox(dashboard: Dashboard) -> None:
    dashboard.grants = "read_only"
    for page in ("/jobs", "/errors", f"/jobs/{dashboard.jobs['failed']}"):
        html = dashboard.get(page).text
        assert 'method="post"' not in html or "csrf" not in html.split('class="rows"')[0]
        assert '<input type="checkbox" name' not in html
        assert not re.search(r">(Retry|Discard|Cancel|Duplicate)[^<]*</button>", html)


def test_a_search_that_cannot_be_read_leaves_the_one_before(dashboard: Dashboard) -> None:
    html = dashboard.get("/jobs?q=status:FAILED&q=statsu:DEAD").text
    assert list(_rows(html)) == [dashboard.jobs["failed"]]
    assert 'value="statsu:DEAD"' in html
    assert 'aria-invalid="true"' in html
    assert "Did you mean" in html


def test_what_is_typed_is_added_to_the_search(dashboard: Dashboard) -> None:
    html = dashboard.get("/jobs?q=status:PENDING&q=tag:vip").text
    assert list(_rows(html)) == [dashboard.jobs["ready"]]
    assert _link(html, "\N{MULTIPLICATION SIGN}") == "/jobs?q=tag%3Avip"


def test_pages_go_on_at_the_last_job(any_dashboard: Dashboard) -> None:
    newest = list(_rows(any_dashboard.get("/jobs").text))
    seen, address = list[str](), "/jobs?size=3"
    while address:
        html = any_dashboard.get(address).text
        seen += _rows(html)
        address = _link(html, "Older jobs") if "Older jobs" in html else ""
        assert ("Select all 4 that match" in html) is (len(newest) > len(_rows(html)))
    assert seen == newest
    assert len(seen) > 3


def test_all_that_match_are_counted_and_changed_up_to_the_newest(dashboard: Dashboard) -> None:
    html = dashboard.get("/jobs/chosen?q=status:PENDING").text
    assert "Cancel 2 jobs" in html
    assert "Retry" not in _text(html)
    form = dict(re.findall(r'name="(q|upto)" value="([^"]*)"', html))
    later = dashboard.add()
    dashboard.post("/jobs/act", {**form, "do": "cancel", "next": "/jobs"})
    assert dashboard.see("ready").status is JobStatus.CANCELLED
    assert dashboard.see(later).status is JobStatus.PENDING


# ---- one job -------------------------------------------------------------------------------------


def _failed_twice(dashboard: Dashboard) -> JobRecord:
    root = dashboard.runtime.settings.root
    error = StoredError("KeyError", "'net'", TRACE.format(root=root), "f1")
    job = dashboard.add("shop.charge", 1, max_retries=1)
    dashboard.end(job, JobStatus.PENDING, error=error, outcome="failure")
    return dashboard.end(job, JobStatus.FAILED, error=error)


def test_attempts_are_drawn_and_the_projects_own_line_is_marked(dashboard: Dashboard) -> None:
    html = dashboard.get(f"/jobs/{_failed_twice(dashboard).id}").text
    assert html.count('<rect class="span') == 2
    hot = re.search(r'<span class="hot">(.*?)</span>', html, re.DOTALL)
    assert hot is not None
    assert unescape(hot[1]).split("\n")[:2] == [
        '  File "shop.py", line 88, in charge',
        '    return row["net"]',
    ]
    assert "FAILED is final. All attempts are used." in _text(html)


def test_a_large_result_is_cut_and_can_be_downloaded_whole(dashboard: Dashboard) -> None:
    value = {"id": 2**63, "data": b"\x89PNG" * 10, "rows": ["x" * 100] * 1000, "password": "p"}
    job = dashboard.add()
    dashboard.end(job, JobStatus.SUCCESS, value=value)
    text = unescape(dashboard.get(f"/jobs/{job}").text)
    assert '"id": 9223372036854775808' in text
    assert "40 bytes: 89 50 4e 47" in text
    assert len(text) < 100_000
    whole = dashboard.get(_link(text, "Download")).json()
    assert (len(whole["rows"]), whole["id"], whole["password"]) == (1000, 2**63, "***")


def test_a_deeply_nested_result_is_shown(dashboard: Dashboard) -> None:
    value: Any = 1
    for _ in range(50):
        value = [value]
    job = dashboard.add()
    dashboard.end(job, JobStatus.SUCCESS, value=value)
    assert "[" * 50 in dashboard.get(f"/jobs/{job}").text


def test_a_job_with_damaged_arguments_still_has_a_page(dashboard: Dashboard) -> None:
    job = dashboard.add()
    record = dashboard.see(job).record
    dashboard.queue.enqueue(record.replace(id=record.id[:-1] + "0", args=b"\xc1"))
    answer = dashboard.get(f"/jobs/{record.id[:-1]}0")
    assert answer.status_code == 200
    assert dashboard.get("/jobs").status_code == 200


@pytest.mark.parametrize(
    ("name", "said"),
    [("later", "It is due in"), ("ready", "It is ready"), ("failed", "FAILED is final.")],
)
def test_why_a_job_does_not_run_comes_first(dashboard: Dashboard, name: str, said: str) -> None:
    html = dashboard.get(f"/jobs/{dashboard.jobs[name]}").text
    first = _text(html.partition('<ol class="why">')[2].partition("</li>")[0])
    assert said in first


# ---- errors and tasks ----------------------------------------------------------------------------


def test_a_group_opens_with_an_example_and_its_jobs(dashboard: Dashboard) -> None:
    job = _failed_twice(dashboard)
    html = dashboard.get("/errors").text
    assert "2 jobs in 2 groups." in _text(html)
    opened = dashboard.get(_link(html, "shop.<wbr>charge")).text
    assert "KeyError: 'net'" in unescape(opened)
    assert f"/jobs/{job.id}" in opened
    assert "Discard 1" in opened


def test_errors_are_filtered_by_what_a_group_has(dashboard: Dashboard) -> None:
    _failed_twice(dashboard)
    assert "1 job in 1 group." in _text(dashboard.get("/errors?q=error:KeyError").text)
    html = _text(dashboard.get("/errors?q=worker:x").text)
    assert "Errors cannot be filtered by worker:x." in html
    assert "2 jobs in 2 groups." in html


def test_tasks_that_never_ran_and_those_without_code_are_told(
    dashboard: Dashboard, project: Path
) -> None:
    (project / "idle.py").write_text("from nuvom import task\n@task\ndef unused(): ...\n")
    write_manifest(dashboard.runtime.settings.manifest_file, scan(project).tasks, root=project)
    html = dashboard.get("/tasks").text
    unused = _text(html.partition('id="task-idle.unused"')[2].partition("</tr>")[0])
    mail = _text(html.partition('id="task-shop.mail"')[2].partition("</tr>")[0])
    assert "never run" in unused
    assert "in no manifest" in mail
    assert dashboard.get("/tasks/idle.unused").status_code == 200
    assert dashboard.get("/tasks/shop.mail").status_code == 200
    assert dashboard.get("/tasks/no.such").status_code == 404
