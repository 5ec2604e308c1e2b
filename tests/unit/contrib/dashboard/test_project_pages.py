"""The pages: what they show of a store, that browsers can read them, and that they stay usable."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nuvom.contrib.dashboard.app import PAGES
from nuvom.core.record import JobStatus
from nuvom.core.views import Rollup, WorkerInfo
from nuvom.inspection.inspector import Inspector
from tests.engine import make_runtime

from .conftest import STORES, Dashboard

_VOID = {"wbr", "meta", "link", "input", "br", "hr", "img"}
_PLAIN = [path for path in PAGES if "{" not in path]
_OF_ONE = ["/queues/mail", "/queues/mail?purge=1", "/workers/worker-1", "/schedules/nightly"]
_VARIED = ["/?window=15m", "/?window=7d&table=1", "/system?checks=1", "/schedules?from=0"]


class _Checked(HTMLParser):
    """A page as a browser reads it, with what is wrong with it in ``faults``."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.labels: set[str] = set()
        self.actions: list[str] = []
        self.links: list[str] = []
        self.figures: dict[str, str] = {}
        self.text = ""
        self._open: list[str] = []
        self._terms: list[str] = []
        self.feed(html)
        self.faults += [f"<{tag}> is left open" for tag in self._open]
        self.faults += [f"no element {one}" for one in self.labels - {*self.ids}]
        self.faults += [f"two elements {one}" for one in {*self.ids} if self.ids.count(one) > 1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag not in _VOID:
            self._open.append(tag)
        self._look(tag, found)
        if tag == "dt":
            self._terms.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._look(tag, {name: value or "" for name, value in attrs})

    def handle_endtag(self, tag: str) -> None:
        opened = self._open.pop() if self._open else "nothing"
        if opened != tag:
            self.faults.append(f"</{tag}> ends <{opened}>")
        if tag == "dl":
            self._terms = []

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._terms and "dt" in self._open:
            self._terms[-1] += data
        elif self._terms and "dd" in self._open:
            term = self._terms[-1]
            self.figures[term] = " ".join(f"{self.figures.get(term, '')} {data}".split())

    def _look(self, tag: str, found: dict[str, str]) -> None:
        if "style" in found or tag == "style" or (tag == "script" and "src" not in found):
            self.faults.append(f"inline style or script in <{tag}>")
        if found.get("role") == "img" and not {"aria-label", "aria-labelledby"} & found.keys():
            self.faults.append("a chart without words")
        self.ids += [found["id"]] if "id" in found else []
        self.labels |= {*found.get("aria-labelledby", "").split()}
        self.actions += [found["action"]] if tag == "form" and "action" in found else []
        self.links += [found["href"]] if tag == "a" else []


def _read(dashboard: Dashboard, path: str) -> _Checked:
    answer = dashboard.get(path)
    assert answer.status_code == 200, (path, answer.text)
    page = _Checked(answer.text)
    assert page.faults == [], path
    return page


@pytest.fixture
def empty(project: Path, request: pytest.FixtureRequest) -> Iterator[Dashboard]:
    """Yield the dashboard of a project in which nothing has happened."""
    store = getattr(request, "param", "sqlite")
    runtime = make_runtime(project, queue_backend=store, result_backend=store)
    found = Dashboard(runtime)
    yield found
    found.site.changes.close()
    runtime.stop()


@pytest.mark.parametrize("empty", STORES, indirect=True)
def test_each_page_is_well_formed_when_nothing_is_stored(empty: Dashboard) -> None:
    for path in (*_PLAIN, *_VARIED):
        _read(empty, path)


def test_each_page_is_well_formed_with_jobs(any_dashboard: Dashboard) -> None:
    any_dashboard.queue.pause("mail", "ada")
    for path in (*_PLAIN, *_VARIED, *_OF_ONE):
        _read(any_dashboard, path)


def test_the_first_steps_are_ticked_as_they_happen(empty: Dashboard) -> None:
    before = _read(empty, "/").text
    assert "Waiting for a worker" in before
    assert "Waiting for your first job" in before
    empty.queue.announce(WorkerInfo(id="worker-1"))
    assert "Done, 1 worker alive" in _read(empty, "/").text


def test_the_overview_has_the_figures(any_dashboard: Dashboard) -> None:
    figures = _read(any_dashboard, "/").figures
    assert figures["Ready to run"] == "1 100 % in mail"
    assert figures["Running"] == "0 of 1 slot 1 worker alive"
    assert figures["Scheduled"].startswith("1 ")
    assert figures["Failed, 24 h"] == "1 50 % of 2"
    assert figures["Oldest ready"].endswith("in mail")


def test_what_needs_attention_has_the_button_that_mends_it(dashboard: Dashboard) -> None:
    dashboard.queue.pause("mail", "ada")
    page = _read(dashboard, "/")
    assert "Queue mail is paused by ada" in " ".join(page.text.split())
    assert "1 job waits, the oldest for" in page.text
    assert "/queues/mail/resume" in page.actions
    dashboard.grants = "read_only"
    page = _read(dashboard, "/")
    assert page.actions == []
    assert "/queues/mail" in page.links
    assert "Read only" in page.text


def test_an_action_is_seen_at_once(dashboard: Dashboard) -> None:
    assert "/queues/mail/pause" in _read(dashboard, "/queues").actions
    dashboard.follow("/queues/mail/pause")
    assert "/queues/mail/resume" in _read(dashboard, "/queues").actions


def test_a_change_that_pages_are_told_of_is_on_the_next_page(dashboard: Dashboard) -> None:
    dashboard.site.changes.look()
    assert _read(dashboard, "/queues/mail").figures["Ready to run"].startswith("1 ")
    dashboard.add("shop.mail", queue="mail")
    dashboard.site.changes.look()
    assert _read(dashboard, "/queues/mail").figures["Ready to run"].startswith("2 ")


def test_a_queue_says_who_serves_it_and_asks_before_a_purge(dashboard: Dashboard) -> None:
    page = _read(dashboard, "/queues/mail")
    assert page.figures["Ready to run"].startswith("1 ")
    assert "/workers/worker-1" in page.links
    assert "/queues/mail/purge" not in page.actions
    assert "/queues/mail/purge" in _read(dashboard, "/queues/mail?purge=1").actions
    assert dashboard.get("/queues/nothing").status_code == 404


def test_a_queue_in_which_all_succeeded_is_there(any_dashboard: Dashboard) -> None:
    any_dashboard.end(any_dashboard.add("shop.mail", queue="calm"), JobStatus.SUCCESS)
    assert 'href="/queues/calm"' in any_dashboard.get("/queues").text
    page = any_dashboard.get("/queues/calm").text
    (row,) = [one for one in page.split("<tr") if "SUCCESS" in one]
    assert '<td class="n">1</td>' in row


def test_a_worker_shows_its_jobs_and_what_it_can_be_told(dashboard: Dashboard) -> None:
    (job,) = dashboard.queue.claim(1, "worker-1", queues=("mail",))
    page = _read(dashboard, "/workers/worker-1")
    assert f"/jobs/{job.id}" in page.links
    assert {"/workers/worker-1/quiet", "/workers/worker-1/stop"} <= {*page.actions}
    assert _read(dashboard, "/workers").figures["Slots busy"] == "1 of 1 100 %"
    assert dashboard.get("/workers/nobody").status_code == 404


def test_a_schedule_shows_its_next_fires(dashboard: Dashboard) -> None:
    row = _read(dashboard, "/schedules")
    assert "/schedules/nightly/run" in row.actions
    assert "Never ran" in row.text
    page = _read(dashboard, "/schedules/nightly")
    assert "Next fires" in page.text
    assert page.figures["Fires"] == "0 made, 0 missed, 0 skipped"


def test_the_audit_tells_what_was_done_here(dashboard: Dashboard) -> None:
    assert "Nothing has been changed from here yet" in _read(dashboard, "/audit").text
    dashboard.follow("/queues/mail/pause")
    page = _read(dashboard, "/audit")
    assert "pause" in page.text
    assert "127.0.0.9" in page.text


def test_the_system_says_where_each_setting_comes_from(dashboard: Dashboard) -> None:
    page = _read(dashboard, "/system?checks=1")
    assert "queue_backend" in page.text
    assert "configure()" in page.text
    assert "all sources are valid" in page.text


def test_a_store_without_history_says_so(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inspector, "keeps_history", False)
    page = _read(dashboard, "/")
    assert "This store does not count what ends per minute" in page.text
    assert page.figures["Failed, 24 h"].endswith("this store keeps no history")
    assert "keeps no record" in _read(dashboard, "/audit").text


def test_tabs_share_what_they_read(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    of_store = Inspector.history

    def history(self: Inspector, since: float, until: float, step: int) -> list[Rollup]:
        reads.append(step)
        return of_store(self, since, until, step)

    monkeypatch.setattr(Inspector, "history", history)
    monkeypatch.setattr(dashboard.runtime.clock, "monotonic", lambda: 1.0)
    for _ in range(5):
        _read(dashboard, "/")
    assert sorted(reads) == [60, 60, 60, 3600]


def test_the_theme_and_the_zone_of_a_browser_are_kept(dashboard: Dashboard) -> None:
    assert "data-theme=" not in dashboard.get("/queues").text
    assert 'data-theme="dark"' in dashboard.get("/queues?theme=dark").text
    assert 'data-theme="dark"' in dashboard.get("/queues").text
    assert "data-theme=" not in dashboard.get("/queues?theme=system").text
    dashboard.cookies.set("nuvom_zone", "Asia/Tokyo")
    assert "Times are in Asia/Tokyo; hover for UTC." in dashboard.get("/queues").text
    dashboard.cookies.set("nuvom_zone", "../etc/passwd")
    assert "Times are in UTC." in dashboard.get("/queues").text


def test_a_queue_that_is_new_has_a_page(dashboard: Dashboard) -> None:
    assert "invoices" not in dashboard.get("/queues").text
    dashboard.add("shop.mail", queue="invoices")
    assert dashboard.get("/queues/invoices").status_code == 200
