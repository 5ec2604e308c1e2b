"""Every page can be read: by anybody, on any screen, and whatever jobs have written into it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from nuvom.contrib.dashboard.app import PAGES
from nuvom.core.record import JobStatus, StoredError
from nuvom.core.views import WorkerInfo
from nuvom.scheduler.schedule import put, store_of
from nuvom.testing import make_job, make_schedule, make_settlement
from tests.browser.serving import Serving, expect, failure, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page, ViewportSize

    from tests.browser.conftest import Visitor, Watch

FAILED, SUCCESS = JobStatus.FAILED, JobStatus.SUCCESS
WIDE: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 740}
HUGE = 2**63
DEEP = 60
AXE = "options => axe.run(document, {resultTypes: ['violations'], preload: false, ...options})"
ADDRESSES = {
    "/jobs/chosen": ["/jobs/chosen?q=queue:mail"],
    "/jobs/{id:path}": ["/jobs/{failed}", "/jobs/{waiting}", "/jobs/{done}"],
    "/errors": ["/errors?show=ValueError:mail"],
    "/tasks/{name:path}": ["/tasks/tasks.add"],
    "/queues/{name:path}": ["/queues/mail?purge=1"],
    "/workers/{id:path}": ["/workers/{worker}"],
    "/schedules/{name:path}": ["/schedules/nightly"],
    "/jobs": ["/jobs", "/jobs?q=status:FAILED,", "/jobs?q=task:none"],
}
"""What is looked at of each page; without an entry, the page itself."""
OTHERS = ["/signin", "/nowhere"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A project without a worker, so that everything stays as it was stored."""
    with serve(tmp_path_factory.mktemp("read"), works=False) as serving:
        yield serving


@pytest.fixture(scope="module")
def names(site: Serving) -> dict[str, str]:
    """Store jobs in all states, a worker and a schedule; return what pages are named after."""
    queue, found = site.queue, {"worker": "worker-of-the-test"}
    queue.announce(WorkerInfo(id=found["worker"], pid=1, host="here", version="1", slots=4))
    statuses = [FAILED] * 3 + [JobStatus.PARKED]
    ended = site.add_ended("mail", statuses, error=failure("no", "ValueError:mail"))
    found["failed"] = ended[0]
    (found["done"],) = site.add_ended("mail", [SUCCESS], value={"rows": 3})
    site.add("tasks.hold", "there", queue="slow")
    queue.claim(1, found["worker"], queues=("slow",))
    found["waiting"] = site.add("tasks.add", 1, 2, queue="mail", tags=("vip",))
    queue.pause("nights", "somebody")
    site.add("tasks.add", 1, 2, queue="nights")
    put(store_of(site.runtime), make_schedule("nightly"))
    return found


def addresses(path: str) -> list[str]:
    """Return what to open of a page of the table of routes."""
    assert "{" not in path or path in ADDRESSES, f"say how to reach {path}"
    return ADDRESSES.get(path, [path])


def violations(page: Page, options: dict[str, Any]) -> list[str]:
    """Return what axe-core finds on the page as it is now."""
    found = page.evaluate(AXE, options)["violations"]
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for one in found
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("path", [*PAGES, *OTHERS])
def test_a_page_is_accessible_and_fits_a_phone(
    visitor: Visitor, site: Serving, names: dict[str, str], watch: Watch, path: str
) -> None:
    """Light and dark differ in colours alone, so dark is tried for these."""
    axe = pytest.importorskip("axe_playwright_python.base")
    watch.allowed = ("status of 404",) if path == "/nowhere" else ()
    context = visitor(viewport=WIDE, reduced_motion="reduce")  # no colour on its way to another
    if path != "/signin":
        context.add_cookies(site.cookies)
    page = context.new_page()
    colours = {"runOnly": ["color-contrast"]}
    for address in addresses(path):
        page.set_viewport_size(WIDE)
        page.emulate_media(color_scheme="light")
        page.goto(address.format_map(names))
        page.evaluate(axe.AXE_SCRIPT)
        found = violations(page, {})
        page.emulate_media(color_scheme="dark")
        found += violations(page, colours)
        page.set_viewport_size(PHONE)
        found += violations(page, colours)
        page.emulate_media(color_scheme="light")
        found += violations(page, {})
        assert not found, "\n".join([address, *found])
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{address} scrolls sideways: {width} px"


def test_what_jobs_bring_along_is_inert_text(page: Page, site: Serving, watch: Watch) -> None:
    """Whatever ran would break the content security policy, call ``alert``, or ask for a file."""
    text = (
        "\"'><img src=/owned onerror=alert(1)><script>alert(1)</script>"
        "<b hx-get=/owned hx-trigger=load hx-on:load=alert(1)>owned</b>"
    )
    asked: list[str] = []
    page.on("dialog", lambda one: watch.found.append(f"dialog: {one.message}"))
    page.on("request", lambda one: asked.append(one.url))
    ids = hostile(site, text)
    quoted = quote(text, safe="")
    shown = 0
    plain = [path for path in PAGES if "{" not in path]
    named = [f"/jobs?q={quoted}", f"/tasks/{quoted}", f"/errors?show={quoted}", "/queues/hostile"]
    for address in [*plain, *named, *(f"/jobs/{one}" for one in ids), "/workers/worker-2"]:
        page.goto(address)
        shown += text in page.locator("body").inner_text()
        expect(page.locator("b[hx-get], img")).to_have_count(0)
    assert shown >= 8
    page.goto("/jobs?q=queue:hostile")
    new = site.add(text, text, queue="hostile")
    expect(page.locator(f"#job-{new}")).to_contain_text(text)  # it was morphed into the page
    expect(page.locator("b[hx-get], img")).to_have_count(0)
    assert not [one for one in asked if one.endswith("/owned")]


def hostile(site: Serving, text: str) -> list[str]:
    """Store jobs, a worker and a schedule all of which say ``text``; return the ids of the jobs."""
    queue, worker = site.queue, "worker-2"
    queue.announce(WorkerInfo(id=worker, pid=1, host=text, version=text, release=text))
    trace = f'  File "{text}", line 1, in {text}\n    {text}\n{text}'
    error = StoredError(text, text, trace, text)
    kwargs = {text: [text, {text: text}]}
    ids = [site.add(text, text, kwargs=kwargs, queue="hostile", tags=(text,)) for _ in range(3)]
    running, failed, done = queue.claim(3, worker, queues=("hostile",))
    queue.report_progress(running, 1, 2, text)
    ended = [
        make_settlement(failed, FAILED, error=error),
        make_settlement(done, SUCCESS, value={text: text}),
    ]
    assert all(queue.settle(ended))
    queue.pause("hostile", text)
    put(store_of(site.runtime), make_schedule(text[:60]))
    return ids


def test_values_are_exact_or_cut_and_freeze_nothing(page: Page, site: Serving) -> None:
    deep: Any = HUGE
    for _ in range(DEEP):
        deep = [deep]
    job = site.add("tasks.add", HUGE, b"\x00\xff" * 40_000, kwargs={"deep": deep}, queue="values")
    (claimed,) = site.queue.claim(1, "w", queues=("values",))
    assert site.queue.settle([make_settlement(claimed, SUCCESS, value="long " * 1_000_000)])
    page.goto(f"/jobs/{job}")
    arguments = page.get_by_role("region", name="Arguments", exact=True)
    expect(arguments.locator("dd").first).to_have_text(str(HUGE))
    expect(arguments).to_contain_text("80,000 bytes")
    expect(arguments).to_contain_text(re.compile("00 ?ff"))
    result = page.get_by_role("region", name="Result")
    expect(result).to_contain_text("These are the first 64 KiB.")
    assert len(result.locator("pre").inner_text()) <= 65_536 + 10
    with page.expect_download() as started:
        result.get_by_role("link", name="Download").click()
    assert started.value.path().stat().st_size >= 5_000_000


def test_a_hundred_thousand_jobs_are_paged_and_filtered(page: Page, site: Serving) -> None:
    site.queue.enqueue_many([make_job("tasks.add", at, 1, queue="many") for at in range(100_000)])
    page.goto("/jobs?q=queue:many&size=200")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(200)
    expect(page.get_by_role("navigation", name="Status")).to_contain_text("50k+")
    first = rows.first.get_attribute("id")
    page.get_by_role("link", name="Older jobs").click()
    expect(rows).to_have_count(200)
    assert rows.first.get_attribute("id") != first
    box = page.get_by_label("Filter jobs")
    box.fill("args.x:99990")
    box.press("Enter")
    expect(rows).to_have_count(1)


def test_everything_is_there_without_javascript(visitor: Visitor, site: Serving) -> None:
    (failed,) = site.add_ended("plain", [FAILED])
    context = visitor(java_script_enabled=False)
    context.add_cookies(site.cookies)
    page = context.new_page()
    page.goto("/")
    page.get_by_role("link", name="Jobs", exact=False).first.click()
    box = page.get_by_label("Filter jobs")
    box.fill("queue:plain")
    box.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("[data-js]:visible, [data-live-button]:visible")).to_have_count(0)
    page.get_by_label(f"Select job {failed[-8:]}").check()
    page.get_by_role("button", name="Retry", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("1 job will run again")
    expect(page.locator("tbody .st")).to_have_text("PENDING")
    page.get_by_role("link", name="Dark").click()
    page.goto(f"/jobs/{failed}")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#main > .line > .st")).to_have_text("CANCELLED")


def test_everything_is_done_by_keyboard(page: Page, site: Serving) -> None:
    (failed,) = site.add_ended("keys", [FAILED])
    page.goto("/")
    keys = page.keyboard
    keys.press("?")
    shortcuts = page.get_by_role("dialog", name="Shortcuts")
    expect(shortcuts).to_be_visible()
    expect(shortcuts.get_by_role("button", name="Close")).to_be_focused()
    keys.press("Escape")
    expect(shortcuts).to_be_hidden()
    keys.press("g")
    keys.press("j")
    page.wait_for_url("**/jobs")
    keys.press("/")
    expect(page.get_by_label("Filter jobs")).to_be_focused()
    keys.type("queue:keys")
    keys.press("Enter")
    page.wait_for_url("**/jobs?q=queue%3Akeys")
    expect(page.locator("tbody tr")).to_have_count(1)
    focus = "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText"
    tab_to(page, focus, f"Select job {failed[-8:]}")
    keys.press("Space")
    tab_to(page, focus, "Retry 1 job", back=True)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    keys.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("1 job will run again")
    assert site.see(failed).status is JobStatus.PENDING
    keys.press("t")
    keys.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def tab_to(page: Page, focus: str, label: str, *, back: bool = False) -> None:
    """Press Tab until something has the focus."""
    for _ in range(60):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if page.evaluate(focus) == label:
            return
    pytest.fail(f"Tab does not lead to {label}")
