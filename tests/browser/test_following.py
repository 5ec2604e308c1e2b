"""Pages follow the store: rows move without a reload, and stand still while somebody needs them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.browser.serving import TOKEN, answers, expect, free_port
from tests.engine import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page, Request

    from tests.browser.conftest import Visitor, Watch
    from tests.browser.serving import Serving

MOUNTED = """\
import sys, uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from nuvom.contrib.dashboard import asgi
app = Starlette(routes=[Mount("/nuvom", asgi(access=lambda request: "all"))])
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=1)
"""
STATUS = ".st"


def row(page: Page, job_id: str) -> Locator:
    return page.locator(f"#job-{job_id}")


def mark(page: Page) -> None:
    """Remember the document, to see later that it was not loaded again."""
    page.evaluate("window.isTheSame = true")


def is_the_same(page: Page) -> bool:
    return bool(page.evaluate("window.isTheSame === true"))


def test_a_job_moves_through_its_statuses_without_a_reload(page: Page, site: Serving) -> None:
    site.queue.pause("run", "the test")
    end = site.root / "end-of-one"
    job = site.add("tasks.hold", str(end), queue="run")
    page.goto("/jobs?q=queue:run")
    mark(page)
    status = row(page, job).locator(STATUS)
    expect(status).to_have_text("PENDING")
    site.queue.resume("run")
    expect(status).to_have_text("RUNNING")
    end.touch()
    expect(status).to_have_text("SUCCESS")
    assert is_the_same(page)


def test_rows_stay_where_they_are_while_some_are_selected(page: Page, site: Serving) -> None:
    ids = [site.add("tasks.add", at, 0, queue="held") for at in range(3)]
    page.goto("/jobs?q=queue:held")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    row(page, ids[1]).get_by_role("checkbox").check()
    expect(page.get_by_role("button", name="Cancel 1 job")).to_be_visible()
    before = row(page, ids[1]).bounding_box()

    new = site.add("tasks.add", 9, 0, queue="held")
    chip = page.get_by_role("button", name="1 new, show")
    expect(chip).to_be_visible()
    expect(page.get_by_role("button", name="On hold")).to_be_visible()
    expect(rows).to_have_count(3)
    assert row(page, ids[1]).bounding_box() == before
    assert row(page, ids[1]).get_by_role("checkbox").is_checked()

    chip.click()
    expect(rows).to_have_count(4)
    expect(rows.first).to_have_id(f"job-{new}")
    expect(page.get_by_role("button", name="Live")).to_be_visible()


def test_two_tabs_follow_with_a_stream_each_and_no_row_twice(
    context: BrowserContext, site: Serving
) -> None:
    asked: list[str] = []
    context.on("request", lambda one: asked.append(one.url))
    tabs = [context.new_page() for _ in range(2)]
    first = site.add("tasks.add", 1, 1, queue="tabs")
    for tab in tabs:
        tab.goto("/jobs?q=queue:tabs")
        expect(row(tab, first)).to_be_visible()
    jobs = [first, *(site.add("tasks.add", at, 1, queue="tabs") for at in range(3))]
    for tab in tabs:
        expect(tab.locator("tbody tr")).to_have_count(len(jobs))
        for selector in ("h1", "#main", "#side", "#message", ".query", "table", "dialog"):
            expect(tab.locator(selector)).to_have_count(1)
    assert sum("/events" in one for one in asked) == 2


def test_a_hidden_tab_closes_its_stream_and_catches_up(page: Page, site: Serving) -> None:
    first = site.add("tasks.add", 1, 1, queue="hidden")
    page.clock.install()
    page.goto("/jobs?q=queue:hidden")
    expect(row(page, first)).to_be_visible()
    show = """(hidden) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""

    def is_stream(one: Request) -> bool:
        return "/events" in one.url

    page.evaluate(show, True)
    with page.expect_event("requestfailed", is_stream):
        page.clock.fast_forward(61_000)
    second = site.add("tasks.add", 2, 1, queue="hidden")
    with page.expect_request(is_stream):
        page.evaluate(show, False)
    expect(row(page, second)).to_be_visible()
    third = site.add("tasks.add", 3, 1, queue="hidden")
    expect(row(page, third)).to_be_visible()


def test_a_page_of_a_store_in_which_nothing_changes_is_read_again(
    page: Page, site: Serving
) -> None:
    """A worker that dies writes nothing, so no change tells of it."""
    page.clock.install()
    page.goto("/workers")
    with page.expect_request(lambda one: one.headers.get("hx-request") == "true"):
        page.clock.fast_forward(16_000)


def test_a_page_outlives_a_restart_of_its_server(
    visitor: Visitor, site: Serving, watch: Watch
) -> None:
    """The dashboard is part of another application here, whose users stay signed in."""
    watch.allowed = (
        "ERR_CONNECTION_",
        "ERR_INCOMPLETE_CHUNKED",
        "htmx:sse:error",
        "htmx:error: Failed to fetch",
    )
    port = free_port()
    command = [sys.executable, "-c", MOUNTED, str(port)]
    address = f"http://127.0.0.1:{port}/nuvom/jobs?q=queue:again"
    server = site.start(command)
    wait_until(lambda: answers(port))
    page = visitor().new_page()
    page.clock.install()
    first = site.add("tasks.add", 1, 1, queue="again")
    page.goto(address)
    expect(row(page, first)).to_be_visible()
    mark(page)

    with page.expect_console_message(
        lambda one: "htmx:sse:error" in one.text or "Failed to fetch" in one.text
    ):
        site.end(server)
    page.clock.fast_forward(6000)
    expect(page.get_by_text("You see the state of")).to_be_visible()
    expect(row(page, first)).to_be_visible()
    second = site.add("tasks.add", 2, 1, queue="again")
    site.start(command)
    wait_until(lambda: answers(port))
    page.clock.fast_forward(6000)
    expect(row(page, second)).to_be_visible()
    expect(page.get_by_text("You see the state of")).to_have_count(0)
    third = site.add("tasks.add", 3, 1, queue="again")
    expect(row(page, third)).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(3)
    assert is_the_same(page)


def test_a_killed_worker_is_gone_from_the_page_and_its_job_is_run_again(
    page: Page, site: Serving
) -> None:
    doomed = site.work("--queues", "doomed")
    (worker,) = [one.id for one in site.queue.workers() if one.pid == doomed.pid]
    end = site.root / "end-of-doomed"
    job = site.add("tasks.hold", str(end), queue="doomed")
    page.goto(f"/jobs/{job}")
    status = page.locator("#main > .line > .st")
    expect(status).to_have_text("RUNNING")
    workers = page.context.new_page()
    workers.goto("/workers")
    article = workers.locator("article", has=workers.locator(f'[title="{worker}"]'))
    expect(article).to_contain_text("1 busy")

    site.end(doomed)
    expect(article).to_have_count(0)
    expect(status).to_have_text("PENDING")
    expect(page.get_by_text('No worker serves its queue "doomed"')).to_be_visible()
    site.work("--queues", "doomed")
    end.touch()
    expect(status).to_have_text("SUCCESS")
    attempts = page.get_by_role("region", name="Table of attempts").locator("tbody tr")
    expect(attempts).to_have_count(2)
    expect(attempts.last).to_contain_text("worker lost")
    expect(attempts.first).to_contain_text("SUCCESS")


def test_a_new_sign_in_leads_back_to_the_page(visitor: Visitor, site: Serving) -> None:
    page = visitor().new_page()
    page.goto("/jobs?q=status:SUCCESS")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{site.address}/jobs?q=status%3ASUCCESS")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
