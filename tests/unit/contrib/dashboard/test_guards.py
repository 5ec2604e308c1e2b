"""Who gets in, and what is refused: over all routes, so that a new one cannot be forgotten."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.routing import Route

import nuvom
from nuvom.contrib.dashboard import app
from nuvom.contrib.dashboard.access import ACTIONS
from nuvom.contrib.dashboard.api.endpoints import ENDPOINTS
from nuvom.contrib.dashboard.app import POSTS, asgi, build, routes
from nuvom.contrib.dashboard.guards import POLICY
from nuvom.core.views import AuditEntry
from nuvom.runtime import use_runtime
from tests.unit.contrib.dashboard.conftest import ORIGIN, Browser, Dashboard

PROGRAM = {"Content-Type": "application/json"}
API_RIGHTS = {f"/api/v1{one.path}": one.right for one in ENDPOINTS if one.method == "POST"}
FORM_RIGHTS = {path: post.right for path, post in POSTS.items()}
OPEN = ("/static/{stamp}/{name:path}",)


def every_route(dashboard: Dashboard) -> Iterator[tuple[str, str, str]]:
    """Yield method, pattern and an address of each route of the application."""
    for route in routes(dashboard.site):
        assert isinstance(route, Route)
        names = dict.fromkeys(route.param_convertors, "x")
        (method,) = (route.methods or set()) - {"HEAD"}
        yield method, route.path, str(route.url_path_for(route.name, **names))


def send(dashboard: Dashboard, method: str, path: str) -> int:
    """Send what a page of the dashboard, or a program, would send; return the status."""
    if method == "GET":
        return dashboard.get(path).status_code
    if path.startswith("/api/"):
        return dashboard.request(method, path, content="{}", headers=PROGRAM).status_code
    return dashboard.post(path, {"do": "retry", "q": ""}).status_code


def audited(dashboard: Dashboard) -> list[AuditEntry]:
    return dashboard.inspector.audit()


@pytest.mark.parametrize(
    "grants", ["none", None, "admin", {"fly"}, 1, OSError("no database"), {"retry", "fly"}]
)
def test_who_has_no_access_gets_nothing_from_any_route(
    dashboard: Dashboard, grants: Any, caplog: pytest.LogCaptureFixture
) -> None:
    dashboard.get("/queues")
    dashboard.grants = grants
    with caplog.at_level(logging.CRITICAL, "nuvom.dashboard"):
        for method, pattern, path in every_route(dashboard):
            status = send(dashboard, method, path)
            assert (status == 403) is (pattern not in OPEN), (method, path, status)
    assert audited(dashboard) == []


def test_a_reader_changes_nothing_by_any_route(dashboard: Dashboard) -> None:
    dashboard.grants = "read_only"
    for method, _, path in every_route(dashboard):
        if path != "/events":  # has no end
            assert (send(dashboard, method, path) == 403) is (method == "POST"), (method, path)
    assert audited(dashboard) == []


@pytest.mark.parametrize("right", sorted(ACTIONS))
def test_each_action_has_to_be_granted_by_name(dashboard: Dashboard, right: str) -> None:
    needed = {**API_RIGHTS, **FORM_RIGHTS}
    for method, pattern, path in every_route(dashboard):
        if method == "POST":
            needs = needed[pattern.replace(":path", "") if "/api/" in pattern else pattern]
            dashboard.grants = ACTIONS - {needs or "retry"}
            assert send(dashboard, method, path) == 403, path
            dashboard.grants = {right}
            is_granted = right == (needs or "retry")
            assert (send(dashboard, method, path) != 403) is is_granted, (path, right)
            assert not {one.action for one in audited(dashboard)} - {right}


def test_access_may_be_a_coroutine_and_is_asked_each_time(dashboard: Dashboard) -> None:
    seen = []

    async def access(request: Any) -> str:
        seen.append(request.url.path)
        return "read_only"

    browser = Browser(build(dashboard.site, access))
    for path in ("/queues", "/queues", "/api/v1/queues", "/healthz"):
        assert browser.get(path).status_code == 200
    assert seen == ["/queues", "/queues", "/api/v1/queues", "/healthz"]


def test_access_has_to_be_given() -> None:
    with pytest.raises(TypeError, match="access"):
        asgi()  # type: ignore[call-arg]


# ---- hosts and origins --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(
            (one, 200)
            for one in ("localhost", "LOCALHOST:8321", "127.0.0.1:1", "[::1]:80", "[::1]")
        ),
        *((one, 421) for one in ("evil.example", "127.0.0.1.evil.example", "", "localhost@evil")),
        *((one, 421) for one in ("10.0.0.1", "evil.example:8321", "[::2]", "localhost:80:80")),
    ],
)
def test_other_host_names_are_refused(dashboard: Dashboard, host: str, status: int) -> None:
    for path in ("/queues", "/static/1/nuvom.css", "/api/v1/queues"):
        assert dashboard.get(path, headers={"Host": host}).status_code == status


GENUINE = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
FORGED: list[dict[str, str]] = [
    {},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "http://127.0.0.1:8322"},
    {"Origin": f"{ORIGIN}.evil.example"},
    {"Origin": "http://127.0.0.1:8321@evil.example"},
    {"Origin": "file://127.0.0.1:8321"},
    {"Origin": "http://[::1"},
    {**GENUINE, "Sec-Fetch-Site": "cross-site"},
    {**GENUINE, "Sec-Fetch-Site": "same-site"},
    {**GENUINE, "Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("headers", FORGED)
def test_a_form_that_another_page_sends_is_refused(
    dashboard: Dashboard, headers: dict[str, str]
) -> None:
    dashboard.get("/queues")
    form = {"csrf": dashboard.cookies["nuvom_csrf"]}
    answer = dashboard.request("POST", "/queues/mail/pause", data=form, headers=headers)
    assert answer.status_code == 403
    assert audited(dashboard) == []
    assert (
        dashboard.request("POST", "/queues/mail/pause", data=form, headers=GENUINE).status_code
        == 303
    )


@pytest.mark.parametrize("csrf", [None, "", "x" * 43])
def test_a_form_has_to_send_the_token_of_its_page(dashboard: Dashboard, csrf: str | None) -> None:
    for visits in range(2):
        form = {"a": "b"} if csrf is None else {"csrf": csrf}
        answer = dashboard.request("POST", "/queues/mail/pause", data=form, headers=GENUINE)
        assert answer.status_code == 403, visits
        dashboard.get("/queues")
    assert audited(dashboard) == []


@pytest.mark.parametrize("headers", [one for one in FORGED if one])
def test_a_program_in_a_page_of_another_site_is_refused(
    dashboard: Dashboard, headers: dict[str, str]
) -> None:
    given = {"content": "{}", "headers": {**PROGRAM, **headers}}
    assert dashboard.request("POST", "/api/v1/queues/mail/pause", **given).status_code == 403
    assert dashboard.get("/events", headers=headers).status_code == 403
    assert audited(dashboard) == []


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_the_api_takes_nothing_that_a_form_could_send(dashboard: Dashboard, kind: str) -> None:
    path, headers = "/api/v1/queues/mail/pause", {"Content-Type": kind}
    assert dashboard.request("POST", path, content="{}", headers=headers).status_code == 415
    assert dashboard.request("POST", path, content="{}", headers=PROGRAM).status_code == 200


def test_nothing_is_changed_by_get_and_no_other_method_is_known(dashboard: Dashboard) -> None:
    for method, pattern, path in every_route(dashboard):
        for other in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            kind = PROGRAM if path.startswith("/api/") else {}
            status = dashboard.request(other, path, headers={**GENUINE, **kind}).status_code
            assert status in {404, 405, 415}, (other, path)
        if method == "POST":
            assert dashboard.get(path).status_code in {200, 404, 405}, pattern
    assert audited(dashboard) == []


# ---- headers, sizes and errors ------------------------------------------------------------------


def test_every_answer_has_the_headers_that_protect_it(dashboard: Dashboard) -> None:
    asked = [("GET", path) for path in ("/queues", "/nowhere", "/api/v1/jobs", "/api/v1/jobs/x")]
    asked += [("GET", f"/static/{dashboard.site.stamp}/nuvom.css"), ("POST", "/queues/mail/pause")]
    for method, path in asked:
        headers = dashboard.request(method, path, headers={"Origin": "http://evil.example"}).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer, same-origin"  # the last that is known
        is_static = path.startswith("/static/")
        assert ("immutable" if is_static else "no-store") in headers["cache-control"]
        assert not [name for name in headers if name.startswith("access-control")]
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none';")


def test_cookies_are_for_this_dashboard_alone(dashboard: Dashboard) -> None:
    (cookie,) = dashboard.get("/queues").headers.get_list("set-cookie")
    assert cookie.startswith("nuvom_csrf=")
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert "set-cookie" not in dashboard.get("/queues").headers


def test_more_than_may_be_sent_is_refused(dashboard: Dashboard) -> None:
    assert dashboard.post("/queues/mail/pause", {"more": "x" * 70_000}).status_code == 413
    body = '{"task": "%s"}' % ("x" * 1_100_000)
    assert (
        dashboard.request("POST", "/api/v1/jobs", content=body, headers=PROGRAM).status_code == 413
    )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/queues?path=1&self=1&query=1&changes=1", 200),
        (f"/jobs?size={'9' * 5000}", 200),
        (f"/schedules?from={'9' * 5000}", 200),
        (f"/jobs?q=args.0.{'9' * 5000}:1", 200),
        (f"/jobs?q=before:{'9' * 400}d", 200),
        ("/jobs?q=before:9000000d", 200),
        (f"/api/v1/jobs?limit={'9' * 5000}", 422),
        ("/jobs/%00", 400),
        ("/audit?before=%00", 400),
        ("/api/v1/jobs?before=a%00", 400),
    ],
)
def test_whatever_an_address_says_is_no_fault_of_the_dashboard(
    dashboard: Dashboard, path: str, status: int
) -> None:
    dashboard.add("shop.mail", [1])
    assert dashboard.get(path).status_code == status


@pytest.mark.parametrize(
    ("form", "status"),
    [({"id": f"x.{'9' * 5000}"}, 422), ({"id": "x.²"}, 422), ({"q": "", "upto": "\0"}, 400)],
)
def test_whatever_a_form_says_is_no_fault_of_the_dashboard(
    dashboard: Dashboard, form: dict[str, str], status: int
) -> None:
    assert dashboard.post("/jobs/act", {"do": "retry", **form}).status_code == status


def test_half_of_a_surrogate_pair_is_told_as_what_it_is_not(dashboard: Dashboard) -> None:
    body = '{"task": "\\ud800"}'
    answer = dashboard.request("POST", "/api/v1/jobs", content=body, headers=PROGRAM)
    assert (answer.status_code, answer.json()["code"]) == (404, "TaskNotFound")


def test_who_leaves_in_the_middle_of_a_request_leaves_no_error_behind(
    dashboard: Dashboard, caplog: pytest.LogCaptureFixture
) -> None:
    async def outer(scope: Any, receive: Any, send: Any) -> None:
        async def gone() -> dict[str, str]:
            return {"type": "http.disconnect"}

        await dashboard.app(scope, gone, send)

    path = "/api/v1/queues/mail/pause"
    Browser(outer).request("POST", path, content="{}", headers=PROGRAM)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert audited(dashboard) == []


def test_an_error_says_nothing_of_the_code(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("of a secret number")

    for name in ("stats", "backlog"):
        monkeypatch.setattr(type(dashboard.inspector), name, fail)
    page, data = dashboard.get("/queues"), dashboard.get("/api/v1/queues")
    for answer in (page, data):
        assert answer.status_code == 500
        assert not {"secret", "ZeroDivision", "Traceback"} & set(answer.text.split())
    assert data.json()["code"] == "Unexpected"
    assert "of a secret number" in caplog.text


def test_a_lost_store_is_told_clearly(dashboard: Dashboard) -> None:
    dashboard.runtime.stop()
    dashboard.runtime.settings.db_path.unlink()
    dashboard.runtime.settings.db_path.mkdir()
    page, data = dashboard.get("/queues"), dashboard.get("/api/v1/queues")
    assert (page.status_code, data.status_code) == (503, 503)
    assert "The store cannot be reached" in page.text
    assert {"code", "message", "hint"} == set(data.json())
    assert dashboard.get("/readyz").text == "not ok\n"
    assert dashboard.get("/healthz").text == "ok\n"


# ---- mounted in an application ------------------------------------------------------------------


def test_it_works_below_the_place_where_it_is_mounted(dashboard: Dashboard) -> None:
    outer = FastAPI()
    outer.mount("/nuvom", dashboard.app)
    browser = Browser(outer)
    page = browser.get("/nuvom/queues")
    places = set(re.findall(r'(?:href|action|src)="(/[^"]*)"', page.text))
    assert places
    assert all(place.startswith("/nuvom/") for place in places)
    (cookie,) = page.headers.get_list("set-cookie")
    assert "Path=/nuvom" in cookie.split("; ")
    form = {"csrf": browser.cookies["nuvom_csrf"], "next": "/nuvom/queues"}
    answer = browser.request("POST", "/nuvom/queues/mail/pause", data=form, headers=GENUINE)
    assert answer.headers["location"] == "/nuvom/queues"
    assert "is paused:" in browser.get("/nuvom/queues").text
    elsewhere = {**form, "next": "/admin"}
    answer = browser.request("POST", "/nuvom/queues/mail/resume", data=elsewhere, headers=GENUINE)
    assert answer.headers["location"] == "/nuvom/"
    assert browser.get("/nuvom/nowhere").status_code == 404
    assert browser.get("/nuvom/openapi.json").json()["servers"] == [{"url": "/nuvom"}]


def test_the_project_is_found_with_the_first_request(dashboard: Dashboard) -> None:
    before = use_runtime(None)
    try:
        browser = Browser(
            nuvom.dashboard.asgi(access=lambda _: "read_only", hosts=["Shop.example"])
        )
        use_runtime(dashboard.runtime)
        assert browser.get("/queues", headers={"Host": "shop.example"}).status_code == 200
        assert browser.get("/queues", headers={"Host": "shop.test"}).status_code == 421
    finally:
        use_runtime(before)


def test_the_user_of_the_application_is_in_the_record(dashboard: Dashboard) -> None:
    class User:
        is_authenticated, display_name = True, "ann"

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await dashboard.app({**scope, "user": User()}, receive, send)

    Browser(outer).post("/queues/mail/pause")
    assert [one.actor for one in audited(dashboard)] == ["ann"]


# ---- what templates may not do ------------------------------------------------------------------


def test_nothing_from_the_store_is_taken_for_html() -> None:
    folder = Path(app.__file__).parent
    files = [*folder.rglob("*.py"), *folder.rglob("*.html")]
    assert len(files) > 20
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe\b|Markup\(|autoescape\s*(=\s*)?(false|False)", text), path
        if path.suffix == ".html":  # the policy would forbid them, and a browser test would fail
            assert not re.search(r'<script(?![^>]* src=)|<style|\son[a-z]+="|\sstyle=', text), path
