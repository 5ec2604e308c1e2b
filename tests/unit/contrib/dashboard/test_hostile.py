"""Names, arguments, errors and all other texts that jobs bring along are shown, and do nothing."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from nuvom.contrib.dashboard.app import PAGES
from nuvom.core.record import JobStatus, StoredError
from nuvom.core.views import WorkerInfo
from nuvom.scheduler.schedule import put, store_of
from nuvom.testing import make_schedule, make_settlement

from .conftest import Dashboard

_MARK = "zq9x"
PAYLOADS = {
    "element": f"\"'><{_MARK} hx-get=/{_MARK}></textarea></title></pre><script>{_MARK}()</script>",
    "attribute": f"\" on{_MARK}=1 hx-on:click=1 ' on{_MARK}=1 `",
    "address": f"javascript:{_MARK}()",
    "template": f"{{{{ {_MARK} }}}}{{% {_MARK} %}}",
}


class _Seen(HTMLParser):
    """Everything of a page that can do something."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def _fill(dashboard: Dashboard, text: str) -> dict[str, str]:
    """Store a job of each kind, a worker and a schedule, all of which say ``text``."""
    queue, worker = dashboard.queue, "worker-2"  # stores refuse other characters here
    queue.announce(WorkerInfo(id=worker, pid=1, host=text, version=text, release=text))
    error = StoredError(text, text, f'  File "{text}", line 1, in {text}\n    {text}\n{text}', text)
    ids = {}
    outcomes = {"failed": JobStatus.FAILED, "parked": JobStatus.PARKED, "done": JobStatus.SUCCESS}
    for name in (*outcomes, "running", "ready"):
        ids[name] = dashboard.add(
            text, text, kwargs={text: [text, {text: text}]}, queue="hostile", tags=(text,),
            unique_key=f"{name}{text}", max_retries=2,
        )  # fmt: skip
    names = {job_id: name for name, job_id in ids.items()}
    for job in queue.claim(10, worker):
        name = names.get(job.id, "ready")
        if name == "ready":
            queue.release([job])
        elif name == "running":
            queue.report_progress(job, 1, 2, text)
        else:
            given = {"value": {text: text}} if name == "done" else {"error": error}
            assert queue.settle([make_settlement(job, outcomes[name], **given)]) == [True]
    queue.pause("hostile", text)
    put(store_of(dashboard.runtime), make_schedule(text.replace("\n", " ")[:60]))
    return ids


def _pages(text: str, ids: dict[str, str]) -> list[str]:
    name = quote(text, safe="")
    found = [path for path in PAGES if "{" not in path]
    found += [f"/jobs/{one}" for one in ids.values()]
    found += [f"{page}?q={name}" for page in ("/jobs", "/jobs/chosen", "/errors")]
    found += [f"/errors?show={name}&window={name}&theme={name}", f"/jobs?before={name}&size={name}"]
    found += [
        "/queues/hostile",
        f"/queues/{name}",
        "/workers/worker-2",
        f"/tasks/{name}",
        f"/schedules/{name}",
    ]
    return found


@pytest.mark.parametrize("kind", PAYLOADS)
def test_no_page_has_an_element_or_attribute_from_a_job(dashboard: Dashboard, kind: str) -> None:
    text, shown = PAYLOADS[kind], 0
    for page in _pages(text, _fill(dashboard, text)):
        answer = dashboard.get(page)
        assert answer.status_code < 500, page
        seen = _Seen(answer.text)
        shown += text in seen.text
        assert _MARK not in "".join(seen.tags), page
        assert seen.tags.count("script") == sum(one[0] == "src" for one in seen.attributes), page
        for name, value in seen.attributes:
            assert not name.startswith(("on", "hx-", "data-hx-", "style", _MARK)), (page, name)
            if name in ("href", "action", "src", "formaction"):
                assert value.startswith(("/", "?", "#", "data:,")), (page, value)
    assert shown >= 10  # it is there, as text


def test_no_text_of_a_job_is_in_a_header(dashboard: Dashboard) -> None:
    text = "x\r\nSet-Cookie: zq9x=1"
    job = dashboard.add(text, text)
    dashboard.end(job, JobStatus.SUCCESS, value="x" * 100_000)
    answer = dashboard.get(f"/jobs/{job}/result")
    assert answer.status_code == 200
    assert _MARK not in str(answer.headers)
    assert answer.headers["content-disposition"].startswith("attachment")
