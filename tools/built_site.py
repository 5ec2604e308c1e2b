"""What is wrong with a built site: links that lead nowhere, files of other hosts, raw Markdown.

It reads the HTML as a browser would, and so sees what was generated too: the navigation, the
reference made of docstrings, and the theme.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOADED = {  # attributes whose address a browser loads by itself
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "object": ("data",),
    "video": ("src", "poster"),
    "audio": ("src",),
}
LINK_TYPES = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "modulepreload"}
STYLE = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")
RAW = re.compile(
    r"```|\n *([-*] |1\. |\|.*\|$|#{1,6} )"
)  # in a paragraph: Markdown is stricter than GitHub
FETCHED_CLASSES = {"mermaid", "pyodide"}  # the theme would fetch their programs elsewhere


class Page(HTMLParser):
    """One page: its anchors, the links that it has, and the files that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.raw: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element says. It is called by ``feed``."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and LINK_TYPES & set(given.get("rel", "").split()):
            self.loaded.append(given["href"])
        self.loaded += [given[name] for name in LOADED.get(tag, ()) if given.get(name)]
        fetched = FETCHED_CLASSES & set(given.get("class", "").split())
        self.loaded += [f"//the program for {name}" for name in fetched]
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note that an element ends. It is called by ``feed``."""
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Note text that looks like Markdown nobody rendered. It is called by ``feed``."""
        if self._open and self._open[-1] in ("p", "li", "td") and RAW.search(data):
            self.raw.append(" ".join(data.split())[:60])


def findings(folder: Path) -> Iterator[str]:
    """Yield a line for each thing that is wrong with the site in a folder."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(folder).as_posix()
        for address in page.loaded:
            if _is_foreign(address):
                yield f"{where}: {address} would be loaded from another host"
        for link in dict.fromkeys([*page.links, *page.loaded]):
            if (reason := _broken(folder, pages, path, link)) is not None:
                yield f"{where}: {link}: {reason}"
        for text in page.raw:
            yield f"{where}: this Markdown was not rendered: {text}"
    for path in sorted(folder.rglob("*.css")):
        for found in STYLE.finditer(path.read_text("utf-8")):
            if _is_foreign(found[1] or found[2]):
                yield f"{path.relative_to(folder).as_posix()}: {found[0]} is on another host"


def _is_foreign(address: str) -> bool:
    return address.startswith("//") or urlsplit(address).scheme in ("http", "https")


def _broken(folder: Path, pages: dict[Path, Page], path: Path, link: str) -> str | None:
    """Return why a link leads nowhere, or None. Addresses of other hosts are not asked."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = path
    if parts.path:
        start = folder if parts.path.startswith("/") else path.parent
        target = (start / unquote(parts.path).lstrip("/")).resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "there is no such page"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "there is no such anchor"
    return None
