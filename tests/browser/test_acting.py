"""What people do on the pages is done to the store, once, and the page says what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from nuvom.contrib.dashboard.app import POSTS
from nuvom.core.record import JobStatus
from nuvom.testing import make_settlement
from tests.browser.serving import expect, failure, signed_in

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Visitor, Watch
    from tests.browser.serving import Serving

FAILED, SUCCESS = JobStatus.FAILED, JobStatus.SUCCESS


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def statuses(site: Serving, ids: list[str]) -> set[str]:
    return {site.see(one).status for one in ids}


def test_all_that_match_a_filter_are_retried_in_one_step(page: Page, site: Serving) -> None:
    failed = site.add_ended("old", [FAILED] * 250)
    (other,) = site.add_ended("old", [SUCCESS])
    page.goto("/jobs")
    box = page.get_by_label("Filter jobs")
    box.fill("status:FAILED queue:old")
    box.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(50)
    address = page.url
    page.get_by_label("Select all on this page").check()
    page.get_by_role("link", name="Select all that match").click()
    expect(page.get_by_text("250 jobs match")).to_be_visible()
    late = site.add_ended("old", [FAILED])
    press(page, "Retry 250 jobs")
    expect(page.get_by_role("status")).to_contain_text("250 jobs will run again")
    assert page.url.replace("%3A", ":") == address.replace("%3A", ":")
    expect(page.locator("tbody tr")).to_have_count(1)  # it came after they were counted
    assert statuses(site, failed) == {JobStatus.PENDING}
    assert statuses(site, late) == {FAILED}
    assert statuses(site, [other]) == {SUCCESS}

    page.goto("/audit")
    rows = page.locator("tbody tr", has_text="queue:old")
    expect(rows).to_have_count(1)
    expect(rows.locator("td").nth(3)).to_have_text("250")


def test_a_job_that_moved_since_it_was_seen_is_left_alone(page: Page, site: Serving) -> None:
    seen, moved = site.add_ended("moved", [FAILED] * 2)
    page.goto("/jobs?q=queue:moved")
    page.keyboard.press("r")
    expect(page.get_by_role("button", name="Paused")).to_be_visible()
    page.get_by_label("Select all on this page").check()
    site.runtime.control.retry(moved)
    (again,) = site.queue.claim(1, "somebody", queues=("moved",))
    assert site.queue.settle([make_settlement(again, FAILED)]) == [True]  # as before, yet not it
    press(page, "Retry 2 jobs")
    expect(page.get_by_role("status")).to_contain_text("1 skipped")
    assert site.see(seen).status is JobStatus.PENDING
    assert site.see(moved).status is FAILED


def test_edited_arguments_are_checked_and_make_a_new_job(page: Page, site: Serving) -> None:
    old = site.add("tasks.add", "two", 3, queue="run")
    site.wait_for(old, FAILED)
    page.goto(f"/jobs/{old}")
    page.get_by_role("link", name="Retry with edited arguments").click()
    field = page.get_by_label("x", exact=False).and_(page.locator('[name="arg.x"]'))
    field.fill("three")
    press(page, "Start new job")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description("Type a whole number, such as 5.")
    expect(field).to_have_value("three")
    field.fill("39")
    press(page, "Start new job")
    expect(page.locator("#main > .line > .st")).to_have_text("SUCCESS")
    expect(page.get_by_role("heading", name="Result").locator("../..")).to_contain_text("42")
    expect(page.locator("dt", has_text="Repeats").locator("+ dd")).to_contain_text(old[-8:])
    assert site.see(old).status is FAILED


def test_a_paused_queue_starts_nothing_until_it_goes_on(page: Page, site: Serving) -> None:
    site.wait_for(site.add("tasks.add", 1, 1, queue="run-paused"), SUCCESS)
    page.goto("/queues/run-paused")
    press(page, "Pause")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    waiting = site.add("tasks.add", 1, 2, queue="run-paused")
    site.wait_for(site.add("tasks.add", 1, 3, queue="run"), SUCCESS)  # the worker goes on
    expect(page.locator("tbody tr", has_text="PENDING")).to_contain_text("1")
    assert site.see(waiting).status is JobStatus.PENDING
    press(page, "Resume")
    site.wait_for(waiting, SUCCESS)
    expect(page.locator("tbody tr", has_text="SUCCESS")).to_contain_text("2")


def test_one_bad_deploy_is_one_row(page: Page, site: Serving) -> None:
    ids = []
    for at in range(5):
        error = failure(f"no card {at}", "ValueError:deploy")
        ids += site.add_ended("deploy", [FAILED] * 100, error=error)
    page.goto("/errors")
    row = page.locator("#group-ValueError\\:deploy")
    expect(row).to_have_count(1)
    expect(row.get_by_role("link", name="500")).to_be_visible()
    row.locator(".twist").click()
    expect(page).to_have_url(f"{site.address}/errors?show=ValueError%3Adeploy")
    press(page, "Discard 500")
    expect(page.get_by_role("status")).to_contain_text("500 jobs discarded")
    expect(row).to_have_count(0)
    assert site.inspector.failed_ids("ValueError:deploy") == []


def test_a_purge_wants_the_name_of_the_queue(page: Page, site: Serving, watch: Watch) -> None:
    watch.allowed = ("status of 422",)
    jobs = [site.add("tasks.add", at, 1, queue="full") for at in range(3)]
    page.goto("/queues/full")
    page.get_by_role("link", name="Purge 3 waiting jobs").click()
    name = page.get_by_label("Type the queue name to go on")
    name.fill("other")
    press(page, "Purge 3 waiting jobs")
    expect(page.get_by_text("not the name of the queue")).to_be_visible()
    expect(name).to_have_value("other")
    assert statuses(site, jobs) == {JobStatus.PENDING}
    expect(page.get_by_role("link", name="Keep them")).to_have_attribute("href", "/queues/full")
    name.fill("full")
    press(page, "Purge 3 waiting jobs")
    expect(page.get_by_role("status")).to_contain_text("3 ")
    expect(page.locator("tbody tr", has_text="PENDING")).to_contain_text("0")


def test_a_schedule_runs_now_and_addresses_give_the_same_view(page: Page, site: Serving) -> None:
    page.goto("/schedules")
    page.get_by_role("link", name="tasks.report").first.click()
    page.wait_for_url("**/schedules/tasks.report")
    press(page, "Run now")
    runs = page.get_by_role("region", name="Table of runs").locator("tbody tr")
    expect(runs).to_have_count(1)
    expect(runs).to_contain_text("SUCCESS")
    runs.get_by_role("link").click()
    expect(page.locator("#main > .line > .st")).to_have_text("SUCCESS")
    deep = page.url

    page.go_back()
    expect(page).to_have_url(f"{site.address}/schedules/tasks.report")
    expect(runs).to_have_count(1)
    other = page.context.new_page()
    other.goto(deep)
    expect(other.get_by_role("heading", name="tasks.report", exact=True)).to_be_visible()
    expect(other.locator("dt", has_text="Created").locator("+ dd")).to_contain_text("tasks.report")


def test_back_and_forward_go_through_views_that_were_morphed(page: Page, site: Serving) -> None:
    site.add_ended("views", [FAILED], error=failure("no", "ValueError:views"))
    page.goto("/errors?q=task:tasks.add")
    row = page.locator("#group-ValueError\\:views")
    detail = page.locator("#detail-ValueError\\:views")
    expect(row).to_be_visible()
    page.get_by_role("button", name="Live").click()  # what is asked for is shown on a paused page
    page.evaluate("window.isTheSame = true")
    row.locator(".twist").click()
    expect(detail).to_be_visible()
    page.go_back()
    expect(detail).to_have_count(0)
    page.go_forward()
    expect(detail).to_be_visible()
    assert page.evaluate("window.isTheSame")
    page.reload()
    expect(detail).to_be_visible()


def test_who_may_only_read_sees_no_button_and_is_refused(visitor: Visitor, site: Serving) -> None:
    site.wait_for(site.add("tasks.add", 1, 1, queue="run"), SUCCESS)
    (failed,) = site.add_ended("read", [FAILED], error=failure("no", "ValueError:read"))
    address, _ = site.serve()
    reader = visitor(base_url=address)
    reader.add_cookies(signed_in(address))
    page = reader.new_page()
    names = {"name": "run", "id": failed, "fingerprint": "ValueError:read"}
    for path in ("/jobs", f"/jobs/{failed}", "/errors?show=ValueError:read", "/queues",
                 "/queues/run", "/workers", "/schedules", "/schedules/tasks.report",
                 "/tasks/tasks.add", "/jobs/chosen?q=queue:read"):  # fmt: skip
        page.goto(path)
        expect(page.get_by_text("Read only")).to_be_attached()
        expect(page.locator("form[method=post] button, input[name=id]")).to_have_count(0)
    csrf = next(one["value"] for one in reader.cookies() if one["name"] == "nuvom_csrf")
    for path in POSTS:
        for name, value in names.items():
            path = path.replace(f"{{{name}:path}}", quote(value))  # noqa: PLW2901
        form: dict[str, str | float | bool] = {"csrf": csrf, "do": "retry", "id": f"{failed}.1"}
        answer = reader.request.post(path, form=form, headers={"Origin": address})
        assert (answer.status, "You may only read here" in answer.text()) == (403, True), path
    assert site.see(failed).status is FAILED


def test_the_printed_address_works_once(visitor: Visitor, site: Serving, watch: Watch) -> None:
    watch.allowed = ("status of 403",)
    first, second = visitor().new_page(), visitor().new_page()
    first.goto(site.sign_in)
    expect(first).to_have_url(f"{site.address}/")
    expect(first.get_by_text("Actions allowed")).to_be_visible()
    second.goto(site.sign_in)
    expect(second.get_by_role("alert")).to_contain_text("was used before")
    second.goto("/jobs")
    expect(second).to_have_url(f"{site.address}/signin?next=%2Fjobs")
