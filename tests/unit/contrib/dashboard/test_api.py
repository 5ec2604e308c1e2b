"""The API: the same data as ``--json``, described as it is, and exact about what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from nuvom.contrib.dashboard.api import openapi
from nuvom.contrib.dashboard.api.endpoints import ENDPOINTS
from nuvom.contrib.dashboard.app import routes
from nuvom.core.record import JobStatus
from tests.cli.test_schemas import SCHEMAS, keys_of
from tests.unit.contrib.dashboard.conftest import Dashboard

MANIFEST_TASKS = """
from nuvom import task

@task(queue="mail")
def mail(to: str, *, count: int = 1) -> None: ...
"""
BEYOND = {  # what the API adds to the data of --json
    "nuvom.jobs/1": {"next_before", "is_partial", "looked_at"},
    "nuvom.job/1": {"editable"},
}


def call(dashboard: Dashboard, path: str, body: Any = None) -> httpx.Response:
    """Ask the API as a program does; without a body it is only read."""
    if body is None:
        return dashboard.get(f"/api/v1{path}")
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return dashboard.request("POST", f"/api/v1{path}", content=json.dumps(body), headers=headers)


def found(dashboard: Dashboard, path: str, body: Any = None) -> Any:
    answer = call(dashboard, path, body)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


def refused(dashboard: Dashboard, path: str, body: Any = None) -> tuple[int, str]:
    answer = call(dashboard, path, body)
    assert set(answer.json()) == {"code", "message", "hint"}
    return answer.status_code, answer.json()["code"]


def test_data_have_the_keys_of_json(any_dashboard: Dashboard) -> None:
    names = {
        "id": any_dashboard.jobs["failed"],
        "name": "nightly",
        "fingerprint": any_dashboard.inspector.error_groups()[0].fingerprint,
    }
    compared = 0
    for one in ENDPOINTS:
        if one.method != "GET":
            continue
        data = found(any_dashboard, one.path.format(**names))
        assert data["schema"] == one.schema
        snapshot = SCHEMAS / f"{one.schema.replace('/', '-')}.json"
        if snapshot.exists():
            compared += 1
            known = set(json.loads(snapshot.read_text())) | BEYOND.get(one.schema, set())
            assert keys_of(data, one.schema) <= known, one.path
    assert compared == 10


def test_integers_of_any_size_are_exact(any_dashboard: Dashboard) -> None:
    data = found(any_dashboard, f"/jobs/{any_dashboard.jobs['failed']}")
    assert data["kwargs"] == {"card_str": str(2**63)}
    assert json.loads(data["editable"])["kwargs"] == {"card": 2**63}


def test_jobs_are_found_page_by_page(any_dashboard: Dashboard) -> None:
    first = found(any_dashboard, "/jobs?q=task:shop.mail&limit=2")
    rest = found(any_dashboard, f"/jobs?q=task:shop.mail&limit=2&before={first['next_before']}")
    ids = [one["id"] for one in (*first["jobs"], *rest["jobs"])]
    assert ids == [any_dashboard.jobs[name] for name in ("later", "ready", "failed")]
    assert refused(any_dashboard, "/jobs?q=status:NEVER") == (422, "InvalidSearch")
    assert refused(any_dashboard, "/jobs?limit=many")[0] == 422
    assert len(found(any_dashboard, "/jobs?limit=0")["jobs"]) == 1


def test_a_job_is_found_by_the_end_of_its_id(dashboard: Dashboard) -> None:
    job_id = dashboard.jobs["failed"]
    assert found(dashboard, f"/jobs/{job_id[-8:]}")["id"] == job_id
    assert refused(dashboard, "/jobs/nothing-of-it") == (404, "JobNotFound")


def test_a_job_is_changed_if_it_is_as_the_program_has_seen_it(any_dashboard: Dashboard) -> None:
    job_id = any_dashboard.jobs["failed"]
    path = f"/jobs/{job_id}/retry"
    assert refused(any_dashboard, path, {"status": "SUCCESS"}) == (409, "Refused")
    assert refused(any_dashboard, path, {"lease_epoch": 7}) == (409, "Refused")
    assert any_dashboard.see(job_id).status == JobStatus.FAILED
    data = found(any_dashboard, path, {"status": "FAILED", "lease_epoch": 1})
    assert (data["id"], data["status_before"]) == (job_id, "FAILED")
    assert refused(any_dashboard, path, {}) == (409, "Refused")
    found(any_dashboard, f"/jobs/{job_id}/cancel", {})
    found(any_dashboard, f"/jobs/{job_id}/discard", {})
    assert refused(any_dashboard, f"/jobs/{job_id}") == (404, "JobNotFound")
    done = [(one.action, one.done) for one in any_dashboard.inspector.audit()]
    assert done == [("discard", 1), ("cancel", 1), ("retry", 0), ("retry", 1)]


def test_a_job_is_enqueued_by_the_name_of_its_task(dashboard: Dashboard, project: Path) -> None:
    discover(dashboard, project)
    options = {"delay": 60, "tags": ["a"], "unique_key": "one", "run_at": None}
    body = {"task": "shop.mail", "args": ["ann"], "kwargs": {"count": 2**60}, "options": options}
    data = found(dashboard, "/jobs", body)
    record = dashboard.see(data["id"]).record
    assert (record.queue, record.tags, data["created"]) == ("mail", ("a",), True)
    assert dashboard.inspector.arguments(record) == (("ann",), {"count": 2**60})
    again = found(dashboard, "/jobs", body)
    assert (again["id"], again["created"]) == (data["id"], False)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"task": "os.system", "args": ["true"]}, 404),
        ({"task": "shop.mail"}, 422),
        ({"task": "shop.mail", "args": ["ann", 2]}, 422),
        ({"task": "shop.mail", "args": "ann"}, 422),
        ({"task": ["shop.mail"]}, 422),
        ({"task": "shop.mail", "args": ["ann"], "options": {"connection": 1}}, 422),
        ({"task": "shop.mail", "args": ["ann"], "options": {"delay": "soon"}}, 422),
        ({"task": "shop.mail", "args": ["ann"], "options": {"run_at": "soon"}}, 422),
        ({"task": "shop.mail", "args": ["ann"], "more": 1}, 422),
        (["shop.mail"], 422),
    ],
)
def test_a_call_that_does_not_fit_is_not_enqueued(
    dashboard: Dashboard, project: Path, body: Any, status: int
) -> None:
    discover(dashboard, project)
    before = len(dashboard.queue.page())
    assert refused(dashboard, "/jobs", body)[0] == status
    assert len(dashboard.queue.page()) == before
    assert dashboard.inspector.audit() == []


def test_a_job_is_repeated_with_other_arguments(dashboard: Dashboard, project: Path) -> None:
    discover(dashboard, project)
    old = dashboard.add("shop.mail", "ann", kwargs={"count": 2**63})
    dashboard.end(old)
    path = f"/jobs/{old}/repeat"
    same = dashboard.see(found(dashboard, path, {})["id"]).record
    other = found(dashboard, path, {"args": ["bob"], "kwargs": {"count": 1}})
    new = dashboard.see(other["id"]).record
    assert dashboard.inspector.arguments(same) == (("ann",), {"count": 2**63})
    assert dashboard.inspector.arguments(new) == (("bob",), {"count": 1})
    assert (new.retried_from, other["retried_from"]) == (old, old)
    assert refused(dashboard, path, {"args": []}) == (422, "InvalidArguments")


def test_a_mask_that_could_stand_for_anything_is_refused(
    dashboard: Dashboard, project: Path
) -> None:
    discover(dashboard, project)
    old = dashboard.add("shop.mail", {"password": "hunter2"})
    dashboard.end(old)
    moved = {"args": [{"name": "***"}]}
    assert refused(dashboard, f"/jobs/{old}/repeat", moved) == (422, "InvalidArguments")


def test_a_job_for_a_time_that_no_calendar_has_is_shown(dashboard: Dashboard) -> None:
    for run_at in (3e11, -1e11):
        job_id = dashboard.add("shop.mail", run_at=run_at)
        dashboard.cookies.set("nuvom_zone", "Pacific/Kiritimati")
        assert dashboard.get(f"/jobs/{job_id}").status_code == 200
        assert found(dashboard, f"/jobs/{job_id}")["run_at"][:4] in ("9999", "0001")
    assert dashboard.get("/jobs").status_code == 200


def discover(dashboard: Dashboard, project: Path) -> None:
    """Write the task ``shop.mail`` and have the manifest list it."""
    (project / "shop.py").write_text(MANIFEST_TASKS)
    settings = dashboard.runtime.settings
    from nuvom.discovery.auto_register import refresh

    refresh(settings.root, settings.manifest_file)


def test_queues_workers_schedules_and_failures_are_changed(any_dashboard: Dashboard) -> None:
    (group,) = any_dashboard.inspector.error_groups()
    assert found(any_dashboard, "/queues/mail/pause", {})["by"] == "dashboard@127.0.0.9"
    assert found(any_dashboard, "/queues/mail/resume", {})["change"] == "resumed"
    assert refused(any_dashboard, "/queues/mail/purge", {"confirm": "all"})[0] == 422
    assert found(any_dashboard, "/queues/mail/purge", {"confirm": "mail"})["removed"] == 1
    assert found(any_dashboard, "/workers/worker-1/quiet", {})["workers"] == ["worker-1"]
    assert found(any_dashboard, "/schedules/nightly/pause", {})["state"] == "paused"
    assert found(any_dashboard, "/schedules/nightly/resume", {})["state"] == "active"
    job_id = found(any_dashboard, "/schedules/nightly/run", {})["job"]
    assert any_dashboard.see(job_id).status == JobStatus.PENDING
    data = found(any_dashboard, f"/errors/{group.fingerprint}/retry", {})
    assert (data["asked"], data["done"], data["failed"]) == (1, 1, 0)
    assert refused(any_dashboard, "/queues/none/pause", {}) == (404, "QueueNotFound")
    assert refused(any_dashboard, "/workers/none/stop", {}) == (404, "WorkerNotFound")
    assert refused(any_dashboard, "/schedules/none/run", {}) == (404, "ScheduleNotFound")


def test_a_history_is_told_in_steps(any_dashboard: Dashboard) -> None:
    data = found(any_dashboard, "/history?step=60")
    ended = {one["kind"]: one["count"] for one in data["rows"] if one["kind"] != "waited"}
    assert ended == {"failed": 1, "success": 1}
    assert refused(any_dashboard, "/history?step=61")[0] == 422
    assert refused(any_dashboard, "/history?since=0")[0] == 422


@pytest.mark.parametrize("body", ["{", "[]", '"x"', "1e999", "[" * 100_000, '{"a": 1}', "\ud800"])
def test_what_is_no_object_is_refused(dashboard: Dashboard, body: str) -> None:
    content, headers = body.encode("utf-8", "replace"), {"Content-Type": "application/json"}
    path = "/api/v1/queues/mail/pause"
    answer = dashboard.request("POST", path, content=content, headers=headers)
    assert answer.status_code in {400, 422}
    assert dashboard.inspector.audit() == []


# ---- its description ----------------------------------------------------------------------------


def test_the_description_says_what_there_is(dashboard: Dashboard) -> None:
    data = dashboard.get("/openapi.json").json()
    assert data == openapi.description()
    said = {(method.upper(), path) for path, one in data["paths"].items() for method in one}
    served = {
        (method, route.path.replace(":path", ""))
        for route in routes(dashboard.site)
        if isinstance(route, Route) and route.path.startswith("/api/")
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert said == served


def test_the_description_is_sound() -> None:
    data = openapi.description("/nuvom")
    assert data["openapi"].startswith("3.1.")
    assert data["servers"] == [{"url": "/nuvom"}]
    operations = [one for path in data["paths"].values() for one in path.values()]
    ids = [one["operationId"] for one in operations]
    assert len(set(ids)) == len(ids)
    for path, methods in data["paths"].items():
        for method, one in methods.items():
            in_path = {it["name"] for it in one["parameters"] if it["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))
            assert ("requestBody" in one) is (method == "post")
            assert all(it["required"] for it in one["parameters"] if it["in"] == "path")
            assert set(one["responses"]) - {"200", "201"} == {"default"}
            assert one["summary"].endswith(".")
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(data)):
        at = data
        for part in reference.split("/"):
            at = at[part]


# ---- for those who watch the server -------------------------------------------------------------


def test_probes_say_nothing_but_ok(dashboard: Dashboard) -> None:
    for path in ("/healthz", "/readyz"):
        answer = dashboard.get(path)
        assert (answer.status_code, answer.text) == (200, "ok\n")


def test_metrics_are_those_of_the_plugin(dashboard: Dashboard) -> None:
    answer = dashboard.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'nuvom_queue_jobs{queue="mail",state="ready"} 1.0' in answer.text


def test_metrics_need_their_package(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    for name in ("nuvom.contrib.prometheus", "nuvom.contrib.prometheus.plugin"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    answer = dashboard.get("/metrics")
    assert answer.status_code == 404
    assert "nuvom[prometheus]" in answer.json()["hint"]
