"""How people get in: with the address that was printed, once, or with a token."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.contrib.dashboard.access import SignIn
from nuvom.contrib.dashboard.app import build
from nuvom.testing.clock import FakeClock
from tests.unit.contrib.dashboard.conftest import ORIGIN, Browser, Dashboard

TOKEN = "0123456789abcdef"


def served(dashboard: Dashboard, sign_in: SignIn) -> Browser:
    return Browser(build(dashboard.site, sign_in, sign_in=sign_in))


def test_the_printed_address_lets_one_person_in_once(dashboard: Dashboard) -> None:
    sign_in = SignIn("read_only", port=8321)
    first, second = served(dashboard, sign_in), served(dashboard, sign_in)
    path = f"/signin?token={sign_in.once}"
    answer = first.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    (cookie,) = answer.headers.get_list("set-cookie")
    assert cookie.startswith("nuvom_session_8321=")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert first.get("/queues").status_code == 200

    answer = second.get(path)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, True)
    assert "nuvom_session" not in str(answer.headers)
    assert "used before" in answer.text
    assert second.get("/queues").status_code == 303
    assert first.get(path).status_code == 303  # who is signed in may use it again


def test_who_is_not_signed_in_is_sent_there_and_back(dashboard: Dashboard) -> None:
    sign_in = SignIn("all", TOKEN)
    browser = served(dashboard, sign_in)
    answer = browser.get("/queues?window=1h")
    assert answer.status_code == 303
    to = answer.headers["location"]
    assert to == "/signin?next=%2Fqueues%3Fwindow%3D1h"
    page = browser.get(to)
    assert 'value="/queues?window=1h"' in page.text
    form = {"csrf": browser.cookies["nuvom_csrf"], "next": "/queues?window=1h", "token": TOKEN}
    headers = {"Origin": ORIGIN}
    answer = browser.request("POST", "/signin", data=form, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "/queues?window=1h")
    assert browser.get("/queues").status_code == 200
    for path in ("/api/v1/queues", "/events", "/metrics", "/healthz", "/openapi.json"):
        answer = served(dashboard, sign_in).get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert served(dashboard, sign_in).post("/queues/mail/pause").status_code == 401


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        (f"Bearer {TOKEN}0", 401),
        ("Bearer ", 401),
        ("Bearer \xe9", 401),
    ],
)
def test_a_program_sends_the_token_each_time(dashboard: Dashboard, given: str, status: int) -> None:
    browser = served(dashboard, SignIn("all", TOKEN))
    headers = {"Authorization": given.encode("latin-1")}
    assert browser.request("GET", "/api/v1/queues", headers=headers).status_code == status
    assert browser.get("/api/v1/queues").status_code == 401


def test_the_address_that_works_once_is_no_token_for_programs(dashboard: Dashboard) -> None:
    sign_in = SignIn("all")
    headers = {"Authorization": f"Bearer {sign_in.once}"}
    assert served(dashboard, sign_in).get("/api/v1/queues", headers=headers).status_code == 401


def test_who_guesses_has_to_wait(dashboard: Dashboard) -> None:
    clock = FakeClock()
    sign_in = SignIn("all", TOKEN, clock=clock)
    browser = served(dashboard, sign_in)
    for _ in range(5):
        assert browser.get("/signin?token=wrong").status_code == 403
    assert browser.get(f"/signin?token={TOKEN}").status_code == 429
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert browser.get("/api/v1/queues", headers=right).status_code == 429
    clock.advance(61)
    assert browser.get("/api/v1/queues", headers=right).status_code == 200
    assert browser.get(f"/signin?token={TOKEN}").status_code == 303


def test_who_guesses_under_many_addresses_has_to_wait_as_well(dashboard: Dashboard) -> None:
    clock = FakeClock()
    sign_in = SignIn("all", TOKEN, clock=clock)
    app = build(dashboard.site, sign_in, sign_in=sign_in)
    guesses = 0

    async def forwarded(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "client": (f"10.0.0.{guesses}", 1)}, receive, send)

    browser = Browser(forwarded)
    while browser.get("/signin?token=wrong").status_code == 403:
        guesses += 1
        assert guesses <= 50
    assert guesses == 50
    assert browser.get(f"/signin?token={TOKEN}").status_code == 429
    clock.advance(61)
    assert browser.get(f"/signin?token={TOKEN}").status_code == 303


def test_a_reader_who_signed_in_sees_no_buttons_and_may_do_nothing(dashboard: Dashboard) -> None:
    sign_in = SignIn("read_only")
    browser = served(dashboard, sign_in)
    browser.get(f"/signin?token={sign_in.once}")
    assert "Read only" in browser.get("/queues").text
    assert browser.post("/queues/mail/pause").status_code == 403
