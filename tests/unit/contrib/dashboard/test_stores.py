"""Each page, form and address of the API on every kind of store, also on those that tell little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.contrib.dashboard.api.endpoints import ENDPOINTS
from nuvom.contrib.dashboard.app import PAGES, POSTS, build, site_over
from nuvom.core.record import JobStatus, StoredError
from nuvom.discovery.manifest import write_manifest
from nuvom.discovery.scan import scan
from nuvom.runtime import Runtime
from nuvom.testing import make_job
from tests.conformance.list_queue import ListQueue
from tests.engine import make_runtime, with_backends
from tests.integration.test_five_methods import SixMethods
from tests.lab.servers import SERVERS, drop_stores, new_store

from .conftest import STORES, Browser, Dashboard

FAULT = StoredError("ValueError", "no such card", "Traceback ...", "ValueError:shop.mail")
NAMES = {"queues": "mail", "workers": "worker-1", "tasks": "shop.mail", "schedules": "nightly"}
READS = [*PAGES, "/jobs/{id}/result", "/system?checks=1", "/?window=7d", "/metrics", "/readyz"]
READS += [f"/api/v1{one.path}" for one in ENDPOINTS if one.method == "GET"]
WRITES = [*POSTS, *(f"/api/v1{one.path}" for one in ENDPOINTS if one.method == "POST")]


def with_tasks(project: Path, runtime: Runtime) -> Runtime:
    """Return the runtime; its project has the task of the jobs."""
    (project / "shop.py").write_text(
        'from nuvom import task\n\n@task(queue="mail")\ndef mail(to="", *, card=0): ...\n'
    )
    write_manifest(runtime.settings.manifest_file, scan(project).tasks, root=project)
    return runtime


@pytest.fixture(params=[*STORES, *SERVERS, "apart"])
def anywhere(request: pytest.FixtureRequest, project: Path) -> Iterator[Dashboard]:
    """Yield the dashboard of a project; ``apart`` has its results in another store."""
    kind = request.param
    place: dict[str, Any] = new_store(kind) if kind in SERVERS else {}
    queue, results = ("sqlite", "file") if kind == "apart" else (kind, kind)
    runtime = make_runtime(project, queue_backend=queue, result_backend=results, **place)
    found = Dashboard(with_tasks(project, runtime))
    try:
        found.fill()
        yield found
    finally:
        found.site.changes.close()
        runtime.stop()
        drop_stores(place)


def address(pattern: str, job_id: str) -> str:
    """Return the address of what is there, for the pattern of a route."""
    named = NAMES.get(pattern.removeprefix("/api/v1").split("/")[1], "")
    of_one = pattern.replace(":path", "").replace("{id}", named or job_id)
    return of_one.replace("{name}", named).replace("{fingerprint}", str(FAULT.fingerprint))


def send(dashboard: Dashboard, path: str, job_id: str) -> int:
    """Send a form, or what a program would; return the status."""
    if path.startswith("/api/"):
        bodies = {"purge": '{"confirm": "mail"}', "jobs": '{"task": "shop.mail"}'}
        body, headers = (
            bodies.get(path.rpartition("/")[2], ""),
            {"Content-Type": "application/json"},
        )
        return dashboard.request("POST", path, content=body, headers=headers).status_code
    epoch = dashboard.see(job_id).record.lease_epoch
    form = {"epoch": epoch, "confirm": "mail", "do": "retry", "id": f"{job_id}.{epoch}"}
    return dashboard.post(path, form).status_code


def test_everything_is_read_and_done_on_each_store(anywhere: Dashboard) -> None:
    for path in READS:
        for job_id in anywhere.jobs.values() if "/jobs/{" in path else ["none"]:
            answer = anywhere.get(address(path, job_id))
            assert answer.status_code == 200, (path, answer.text)
    can_discard = anywhere.runtime.is_shared
    for path in WRITES:
        is_waiting = path.endswith("/cancel")
        later = anywhere.runtime.clock.now() + 3600 if is_waiting else 0.0
        job_id = anywhere.add("shop.mail", run_at=later)
        if not is_waiting:
            anywhere.end(job_id, JobStatus.FAILED, error=FAULT)
        status = send(anywhere, address(path, job_id), job_id)
        is_missing = path.endswith("/discard") and not can_discard
        assert status in ({501} if is_missing else {200, 201, 303}), (path, status)


def test_a_store_of_few_methods_says_what_it_cannot_tell(project: Path) -> None:
    runtime = with_backends(make_runtime(project), ListQueue(), SixMethods())
    with_tasks(project, runtime)
    browser = Browser(build(site_over(lambda: runtime), lambda _: "all"))
    done, failed = make_job("shop.mail"), make_job("shop.mail")
    runtime.results.set_result(done.id, {"rows": 3})
    runtime.results.set_error(failed.id, FAULT)
    told = {
        "/": "This store does not tell of workers, queues and schedules",
        "/jobs": "Unknown task",
        f"/jobs/{done.id}": "rows",
        f"/jobs/{failed.id}": "ValueError",
        "/errors": "This store does not group failures",
        "/tasks": "This store does not count what ends per minute",
        "/tasks/shop.mail": "this store keeps no history",
        "/queues": "This store does not tell which queues there are",
        "/workers": "This store does not tell which workers there are",
        "/schedules": "This store keeps no schedules",
        "/audit": "This store keeps no record of what people do here",
        "/system": "This store does not tell of workers, queues and schedules",
    }
    for path, text in told.items():
        answer = browser.get(path)
        assert (answer.status_code, text in answer.text) == (200, True), (path, answer.text)
    assert "as they should be" not in browser.get("/").text
    assert browser.follow("/tasks/shop.mail/enqueue").status_code == 200
    assert runtime.queue.qsize() == 1
    refused = browser.post(f"/jobs/{failed.id}/retry", {"epoch": 0})
    assert (refused.status_code, "five methods" in refused.text) == (501, True)
    assert "Try again" not in refused.text
