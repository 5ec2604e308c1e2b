"""The dashboard of a project with a few jobs, and a client that sends what a browser would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nuvom.contrib.dashboard.app import build, site_over
from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.core.views import WorkerInfo
from nuvom.inspection.inspector import Inspector
from nuvom.queue_backends.store import StoreQueue
from nuvom.runtime import Runtime
from nuvom.scheduler.schedule import put, store_of
from nuvom.testing import make_job, make_schedule, make_settlement
from tests.engine import make_runtime

ORIGIN = "http://127.0.0.1:8321"
STORES = ["sqlite", "memory", "file"]


class Browser:
    """A client with cookies. Nothing is sent beyond what a method says.

    Attributes:
        cookies: What servers have set, by name.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.cookies = httpx.Cookies()

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Send exactly this; redirects are not followed."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=("127.0.0.9", 5000))
            async with httpx.AsyncClient(
                transport=transport, base_url=ORIGIN, trust_env=False, verify=False
            ) as client:
                client.cookies = self.cookies
                response = await client.request(method, path, **given)
                self.cookies = client.cookies
                return response

        return asyncio.run(send())

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.request("GET", path, **given)

    def post(self, path: str, form: dict[str, Any] | None = None) -> httpx.Response:
        """Send a form of the dashboard, as its own pages do."""
        if "nuvom_csrf" not in self.cookies:
            self.get("/queues")
        fields = {"csrf": self.cookies.get("nuvom_csrf", ""), **(form or {})}
        headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
        return self.request("POST", path, data=fields, headers=headers)

    def follow(self, path: str, form: dict[str, Any] | None = None) -> httpx.Response:
        """Send a form, and return the page that it goes on to."""
        answer = self.post(path, {"next": "/queues", **(form or {})})
        assert answer.status_code == 303, answer.text
        return self.get(answer.headers["location"])


class Dashboard(Browser):
    """The dashboard of one project, asked by one person.

    Attributes:
        grants: What this person may do; an exception is raised.
        queue: Its queue, which has jobs named in ``jobs``.
        jobs: Ids by what became of the jobs: ``ready``, ``later``, ``success``, ``failed``.
    """

    def __init__(self, runtime: Runtime) -> None:
        assert isinstance(runtime.queue, StoreQueue)
        self.runtime = runtime
        self.queue = runtime.queue
        self.grants: Any = "all"
        self.site = site_over(lambda: runtime)
        super().__init__(build(self.site, self._access))
        self.jobs = dict[str, str]()

    def _access(self, _: Any) -> Any:
        if isinstance(self.grants, Exception):
            raise self.grants
        return self.grants

    @property
    def inspector(self) -> Inspector:
        return Inspector(self.runtime)

    def see(self, name: str) -> JobSnapshot:
        """Return a job by its key in ``jobs``, or by its id."""
        return self.inspector.snapshot(self.jobs.get(name, name))

    def add(self, task: str = "shop.mail", *args: Any, **fields: Any) -> str:
        """Enqueue a job; return its id."""
        job = make_job(task, *args, **fields)
        self.queue.enqueue(job)
        return job.id

    def end(self, job_id: str, status: JobStatus = JobStatus.FAILED, **fields: Any) -> JobRecord:
        """Run a job that is ready to its end; other ready jobs stay."""
        claimed = self.queue.claim(1000, "worker-1")
        (mine,) = [one for one in claimed if one.id == job_id]
        self.queue.release([one for one in claimed if one is not mine])
        assert self.queue.settle([make_settlement(mine, status, **fields)]) == [True]
        return mine

    def fill(self) -> None:
        """Store the jobs of ``jobs``, a worker and a schedule."""
        error = StoredError("ValueError", "no such card", "Traceback ...", "ValueError:shop.mail")
        self.jobs["failed"] = self.add("shop.mail", "bob", kwargs={"card": 2**63})
        self.end(self.jobs["failed"], error=error)
        self.jobs["success"] = self.add("shop.count", 3)
        self.end(self.jobs["success"], JobStatus.SUCCESS, value={"rows": 3})
        self.jobs["ready"] = self.add("shop.mail", "ann", queue="mail", tags=("vip",))
        self.jobs["later"] = self.add("shop.mail", run_at=self.runtime.clock.now() + 3600)
        self.queue.announce(WorkerInfo(id="worker-1", pid=1, host="here", queues=("mail",)))
        put(store_of(self.runtime), make_schedule("nightly"))


@pytest.fixture
def dashboard(project: Path) -> Iterator[Dashboard]:
    """Yield the dashboard of a project on SQLite."""
    yield from _dashboard(project, "sqlite")


@pytest.fixture(params=STORES)
def any_dashboard(request: pytest.FixtureRequest, project: Path) -> Iterator[Dashboard]:
    """Yield the dashboard of a project on each kind of store."""
    yield from _dashboard(project, request.param)


def _dashboard(project: Path, store: str) -> Iterator[Dashboard]:
    runtime = make_runtime(project, queue_backend=store, result_backend=store)
    found = Dashboard(runtime)
    try:
        found.fill()
        yield found
    finally:
        found.site.changes.close()
        runtime.stop()
