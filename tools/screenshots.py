"""Takes the pictures of README and docs: of the dashboard, and of ``nuvom top``.

``python -m tools.screenshots`` makes the shop of ``tools/showcase``, serves it, and takes the
pictures with the system's Chromium. Give names to take only those, ``--into FOLDER`` to put them
elsewhere than ``docs/images``, or ``--all`` to see every page in light and dark, at 1440, 1024 and
360 pixels.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import struct
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from playwright._impl._api_structures import SetCookieParam
from playwright.sync_api import sync_playwright

from nuvom.config.sources import load
from nuvom.contrib.dashboard.server import DashboardServer
from nuvom.contrib.top.app import TopApp
from nuvom.contrib.top.sources import StoreSource
from nuvom.inspection.inspector import Inspector
from nuvom.queue_backends.sqlite.queue import SQLiteJobQueue
from nuvom.runtime import build_runtime
from tools.run import ROOT
from tools.showcase.store import showcase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from nuvom.runtime import Runtime
    from tools.showcase.store import Showcase

FOLDER = ROOT / "docs" / "images"
MOST_BYTES = 300_000
ZONE = "Europe/Berlin"
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
_COLORS, _FREQUENT = 256, 160
Color = tuple[int, int, int]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SCHEMES = ("light", "dark")
_WIDTHS = (1440, 1024, 360)
_TOP_SIZE = 132, 34
_TOP_FILTER = "queue:billing -status:SUCCESS"
_TOP_KEYS = ("slash", *_TOP_FILTER, "enter", *["down"] * 10)
_SIZE = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
_WEB_FONTS = re.compile(r"@font-face\s*\{[^}]*\}\s*")


class Picture(NamedTuple):
    """A picture of a page.

    Attributes:
        path: With ``{job}`` and ``{group}`` for what ``Showcase`` names so.
        height: Of what is seen; None for the whole page.
    """

    name: str
    path: str
    scheme: str = "light"
    width: int = 1440
    height: int | None = None


PICTURES = (
    Picture("overview", "/"),
    Picture("overview-dark", "/", "dark"),
    Picture("overview-phone", "/", width=390, height=844),
    Picture("jobs", "/jobs?q=status:FAILED,DEAD+after:24h+-task:images.make_thumbnails&size=25"),
    Picture("job", "/jobs/{job}"),
    Picture("job-dark", "/jobs/{job}", "dark"),
    Picture("errors", "/errors?show={group}"),
    Picture("schedules", "/schedules"),
    Picture("workers", "/workers"),
    Picture("queues", "/queues/images"),
    Picture("task", "/tasks/billing.capture_payment"),
)
_OTHERS = (
    *("/jobs", "/tasks", "/queues", "/audit", "/system"),
    *("/schedules/close-day", "/jobs?q=status:RUNNING", "/?window=24h", "/?window=7d"),
)


def every_page() -> Iterator[Picture]:
    """Yield each page in all widths and colours."""
    paths = dict.fromkeys([*(one.path for one in PICTURES), *_OTHERS])
    for path in paths:
        name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")[:40] or "overview"
        for width in _WIDTHS:
            for scheme in _SCHEMES:
                yield Picture(f"{name}-{width}-{scheme}", path, scheme, width)


def main(arguments: list[str]) -> int:
    """Take the pictures; return 1 if one is too large."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument("names", nargs="*", help="such as overview or top; without any, all")
    parser.add_argument("--into", type=Path, default=FOLDER, metavar="FOLDER")
    parser.add_argument("--all", action="store_true", help="every page, in all sizes and colours")
    given = parser.parse_args(arguments)
    given.into.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as place, showcase(Path(place) / "shop") as shop:
        runtime = build_runtime(load(shop.settings.root), clock=shop.clock)
        try:
            if isinstance(runtime.queue, SQLiteJobQueue):
                runtime.queue.store.clock = shop.clock
            pictures = tuple(every_page()) if given.all else PICTURES
            wanted = [one for one in pictures if not given.names or one.name in given.names]
            written = list(_dashboard(runtime, shop, wanted, given.into)) if wanted else []
            if not given.names or "top" in given.names:
                written.append(given.into / "top.svg")
                written[-1].write_text(asyncio.run(_top(runtime)), encoding="utf-8")
        finally:
            runtime.stop()
    too_large = [one for one in written if one.stat().st_size > MOST_BYTES and not given.all]
    for one in too_large:
        print(f"{one.name} has {one.stat().st_size:,} bytes, of {MOST_BYTES:,} at most")
    return int(bool(too_large))


def _dashboard(
    runtime: Runtime, shop: Showcase, pictures: list[Picture], folder: Path
) -> Iterator[Path]:
    server = DashboardServer(runtime, port=0, answer="all")
    server.start()
    try:
        with sync_playwright() as playwright:
            path = os.environ.get("NUVOM_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)))
            browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
            cookies = _signed_in(browser, server)
            for one in pictures:
                file = folder / f"dashboard-{one.name}.png"
                address = server.url + one.path.format(job=shop.job, group=shop.group)
                _take(browser, cookies, address, picture=one, file=file)
                yield file
            browser.close()
    finally:
        server.stop()


def _signed_in(browser: Browser, server: DashboardServer) -> list[SetCookieParam]:
    """Return the cookies of somebody who has signed in, and whose zone is known."""
    with browser.new_context() as context:
        context.new_page().goto(server.sign_in_url)
        session = [one for one in context.cookies() if one["name"] != "nuvom_zone"]
    values = [(one["name"], one["value"]) for one in session] + [("nuvom_zone", ZONE)]
    return [SetCookieParam(name=name, value=value, url=server.url) for name, value in values]


def _take(
    browser: Browser, cookies: list[SetCookieParam], address: str, *, picture: Picture, file: Path
) -> None:
    """Take one picture; tell what the browser has to say, and whether the page is too wide."""
    with browser.new_context(
        viewport={"width": picture.width, "height": picture.height or 900},
        color_scheme="dark" if picture.scheme == "dark" else "light",
        timezone_id=ZONE,
    ) as context:
        context.add_cookies(cookies)
        page = context.new_page()
        page.on("console", lambda message: print(f"{picture.name}: {message.text}"))
        page.goto(address)
        page.evaluate("document.fonts.ready")
        width, height = page.evaluate(_SIZE)
        if width > picture.width:
            print(f"{picture.name}: it scrolls sideways")
        if picture.height is None:  # as tall as the page, so that the navigation ends where it does
            page.set_viewport_size({"width": picture.width, "height": height})
        page.screenshot(path=file)
    _reduce(file)


def _reduce(file: Path) -> None:
    """Keep 256 colours, where Pillow is installed: that leaves a third of the bytes.

    Those of marks are few and far from others: a palette of the most frequent ones, or of means,
    would turn the green ones grey.
    """
    if find_spec("PIL") is None:
        return
    images = import_module("PIL.Image")
    seen = images.open(file).convert("RGB")
    counts = sorted(seen.getcolors(1 << 24), reverse=True)
    kept = [color for _, color in counts[:_FREQUENT]]
    rest = {color: min(map(_distance(color), kept)) for _, color in counts[_FREQUENT:]}
    while rest and len(kept) < _COLORS:
        kept.append(max(rest, key=lambda color: rest[color]))
        del rest[kept[-1]]
        far = _distance(kept[-1])
        rest = {color: min(least, far(color)) for color, least in rest.items()}
    places = {color: place for place, color in enumerate(kept)}
    for color in rest:
        apart = [*map(_distance(color), kept)]
        places[color] = apart.index(min(apart))
    reduced = images.new("P", seen.size)
    reduced.putpalette([part for color in kept for part in color])
    pixels = struct.iter_unpack("3B", seen.tobytes())
    reduced.putdata([places[color] for color in pixels])
    reduced.save(file, optimize=True)


def _distance(one: Color) -> Callable[[Color], int]:
    return lambda other: sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


async def _top(runtime: Runtime) -> str:
    """Return a picture of ``nuvom top`` as SVG."""
    app = TopApp(StoreSource(runtime, Inspector(runtime)), every=None, clock=runtime.clock)
    async with app.run_test(size=_TOP_SIZE) as pilot:
        await pilot.press(*_TOP_KEYS)
        await app.workers.wait_for_complete()
        await pilot.pause(0.5)
        drawn = app.export_screenshot(title="nuvom top")
    # The fonts would be fetched from elsewhere; those of the reader's machine do.
    return _WEB_FONTS.sub("", drawn)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
