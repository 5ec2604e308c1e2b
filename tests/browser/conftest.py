"""A real browser over a real dashboard: server, worker and store are processes and a file.

A page fails its test on any request that leaves the machine, any message on the console, any
uncaught error, any breach of the content security policy and any answer of 500 and above.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.browser.serving import Serving, serve
from tests.conftest import UNPROVED

if TYPE_CHECKING:
    from playwright.sync_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Page,
        Request,
        Response,
    )

    Visitor = Callable[..., BrowserContext]

FLAGS = (
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str:
    """Return the system's browser, or skip loudly."""
    given = os.environ.get("NUVOM_CHROMIUM")
    found = given or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"{UNPROVED}there is no Chromium on PATH: no page of the dashboard is seen")
    return found


@dataclass
class Watch:
    """What pages of one test did that they must not do.

    Attributes:
        allowed: Parts of messages that browsers write when what the test is about happens, such as
            an answer of 403.
    """

    found: list[str] = field(default_factory=list)
    allowed: tuple[str, ...] = ()

    def over(self, context: BrowserContext) -> None:
        """Watch all pages of a context."""
        context.on("console", self._console)
        context.on("weberror", lambda error: self.found.append(f"uncaught: {error.error}"))
        context.on("request", self._request)
        context.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        is_allowed = any(part in message.text for part in self.allowed)
        if message.type in {"error", "warning"} and not is_allowed:
            self.found.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in {"data", "blob"} and address.hostname != "127.0.0.1":
            self.found.append(f"left the machine: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 500:
            self.found.append(f"{response.status} for {response.url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    reason = f"{UNPROVED}Playwright is not installed: no page of the dashboard is seen in Chromium"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    path = chromium()
    # Within a module only: Playwright keeps an event loop of its own in this thread meanwhile.
    with sync_api.sync_playwright() as playwright:
        is_seen = "NUVOM_HEADED" in os.environ
        launched = playwright.chromium.launch(
            executable_path=path, args=list(FLAGS), headless=not is_seen, slow_mo=500 * is_seen
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A project with a dashboard that allows actions, and a worker."""
    with serve(tmp_path_factory.mktemp("site")) as serving:
        yield serving


@pytest.fixture
def watch() -> Iterator[Watch]:
    watching = Watch()
    yield watching
    assert not watching.found, watching.found


@pytest.fixture
def visitor(browser: Browser, site: Serving, watch: Watch) -> Iterator[Visitor]:
    """Make contexts of browsers: each is somebody else, who has not signed in."""
    made: list[BrowserContext] = []

    def visit(**options: Any) -> BrowserContext:
        context = browser.new_context(**{"base_url": site.address, **options})
        context.set_default_timeout(20_000)
        watch.over(context)
        made.append(context)
        return context

    yield visit
    for context in made:
        context.close()


@pytest.fixture
def context(visitor: Visitor, site: Serving, request: Any) -> BrowserContext:
    """Somebody who has signed in."""
    signed_in = visitor(**getattr(request, "param", {}))
    signed_in.add_cookies(site.cookies)
    return signed_in


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test a limit for a browser that hangs."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(180))
