"""The documentation as a site: its pages put together, built by Zensical, and checked.

The pages are those of ``docs/``, and the files of the repository that these link to: READMEs and
the like as pages, source files as listings. ``python -m tools.site [--serve]`` needs
``requirements/docs.txt``; ``dev.py docs`` installs it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.architecture.pages import ADDRESS, FENCED, INLINE, LINK, blanked
from tools import built_site
from tools.run import ROOT, run, say

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = ROOT / "zensical.toml"
RESTAGE_SECS = 0.5  # while it is served: how often the pages are looked at
CODE = re.compile(f"{FENCED.pattern}|{INLINE.pattern}", re.DOTALL | re.MULTILINE)
SHALLOW = re.compile(r"\n\n {1,3}(?=\S)")
LISTING = """\
---
search:
  exclude: true
---

# {name}

{fence}{language} linenums="1"
{text}
{fence}
"""
LANGUAGES = {".py": "python", ".toml": "toml", ".sql": "sql", ".json": "json", ".yml": "yaml"}


def main(arguments: list[str]) -> int:
    """Build the site, or serve it with ``--serve``; return 0 if nothing is wrong with it."""
    project = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]
    staged, built = ROOT / project["docs_dir"], ROOT / project["site_dir"]
    pages = Pages(ROOT, staged)
    pages.stage(project)
    if "--serve" in arguments:
        return _serve(pages, project)
    found = [f"docs/{page}: not in the nav of {CONFIG.name}" for page in left_out(ROOT, project)]
    found += shallow(ROOT)
    shutil.rmtree(built, ignore_errors=True)
    code = run(sys.executable, "-m", "zensical", "build", "--clean", "--strict", cwd=ROOT)
    found += built_site.findings(built) if code == 0 else []
    for finding in found:
        say(finding)
    if code == 0 and not found:
        say(f"the site is in {built.relative_to(ROOT)}; python3 dev.py docs --serve shows it")
    return code or int(bool(found))


def named_pages(nav: list[Any] | dict[str, Any]) -> Iterator[str]:
    """Yield the pages that a navigation names, in order; a folder stands for all in it."""
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from named_pages(entry)


def left_out(root: Path, project: dict[str, Any]) -> list[str]:
    """Return the pages of ``docs/`` that the navigation does not lead to."""
    named = list(named_pages(project["nav"]))
    folders = tuple(name for name in named if name.endswith("/"))
    docs = root / "docs"
    pages = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    return [page for page in pages if page not in named and not page.startswith(folders)]


def shallow(root: Path) -> list[str]:
    """Return a line for each part of a list item that GitHub takes as one and Zensical does not."""
    found = []
    for page in sorted((root / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        prose = FENCED.sub(lambda one: one[0].split("\n")[0] + "\n" * one[0].count("\n"), text)
        for match in SHALLOW.finditer(prose):
            where = (
                f"{page.relative_to(root).as_posix()}:{prose.count(chr(10), 0, match.end()) + 1}"
            )
            found.append(f"{where}: what belongs to a list item is indented by four spaces")
    return found


class Pages:
    """The pages of the site, written to a folder as Zensical is to find them.

    Args:
        root: The checkout.
        folder: Where they are written. What else is in it is removed.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder
        self._waiting: list[Path] = []
        self._written: set[Path] = set()

    def stage(self, project: dict[str, Any]) -> None:
        """Write the pages that have changed since they were last written."""
        docs = self.root / "docs"
        self._written = set()
        self._waiting = [path for path in docs.rglob("*") if path.is_file()]
        beside = (name for name in named_pages(project["nav"]) if not (docs / name).exists())
        self._waiting += [self._source(name) for name in beside]
        seen: set[Path] = set()
        while self._waiting:
            path = self._waiting.pop()
            if path not in seen:
                seen.add(path)
                self._stage_file(path)
        for path in list(self.folder.rglob("*")):
            if path.is_file() and path not in self._written:
                path.unlink()

    def _stage_file(self, path: Path) -> None:
        place = self.folder / self._place(path)
        if path.is_dir():
            self._write(place, self._contents(path).encode())
        elif path.suffix == ".md":
            self._write(place, self._with_links(path).encode())
        elif path.is_relative_to(self.root / "docs"):
            self._write(place, path.read_bytes())
        else:
            self._write(place, self._listing(path).encode())

    def _write(self, place: Path, data: bytes) -> None:
        self._written.add(place)
        if not place.exists() or place.read_bytes() != data:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)

    def _place(self, path: Path) -> Path:
        """Return where a file of the repository is in the site."""
        relative = path.relative_to(self.root)
        if path.is_dir():
            relative /= "README.md"
        if relative.parts[0] == "docs":
            return Path(*relative.parts[1:-1], relative.name.replace("README", "index"))
        if relative.suffix != ".md":
            return relative.with_name(f"{relative.name}.md")
        return relative.with_name("index.md") if relative.name == "README.md" else relative

    def _source(self, name: str) -> Path:
        """Return the file of the repository that is at a place of the site. See ``_place``."""
        path = self.root / name
        return path.with_name("README.md") if path.name == "index.md" else path

    def _contents(self, folder: Path) -> str:
        """Return a page for a folder that has none of its own."""
        pages = sorted(folder.glob("*.md"))
        titles = [page.read_text("utf-8").partition("\n")[0].lstrip("# ") for page in pages]
        lines = [f"- [{title}]({page.name})" for title, page in zip(titles, pages, strict=True)]
        lines = lines or [f"- `{path.name}`" for path in sorted(folder.glob("[!_.]*"))]
        return "\n".join([f"# {folder.name.capitalize()}", "", *lines, ""])

    def _listing(self, path: Path) -> str:
        text = path.read_text(encoding="utf-8").rstrip("\n")
        longest = max((len(mark) for mark in re.findall(r"`+", text)), default=0)
        return LISTING.format(
            name=path.relative_to(self.root).as_posix(),
            fence="`" * max(3, longest + 1),
            language=LANGUAGES.get(path.suffix, "text"),
            text=text,
        )

    def _with_links(self, page: Path) -> str:
        """Return the text of a page, with its links as they are in the site."""
        text = page.read_text(encoding="utf-8")
        prose = blanked(INLINE, blanked(FENCED, text))
        parts, end = [], 0
        for match in LINK.finditer(prose):
            group = 1 if match.group(1) else 2
            start = match.start(group)
            parts += [text[end:start], self._link(page, match.group(group), text[: match.end()])]
            end = match.end(group)
        return _pipes_as_is("".join([*parts, text[end:]]))

    def _link(self, page: Path, link: str, text: str) -> str:
        """Return a link of a page as it is in the site; ``text`` is the page's up to its end."""
        if ADDRESS.match(link) or link.startswith("#"):
            return link
        path, mark, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve()
        own = [page for page in (target / "README.md", target / "index.md") if page.exists()]
        target = own[0] if own else target
        self._waiting += [target] if target.exists() else []
        name = re.search(r"\[`(\w+)`\]\([^()]*\)$", text)
        if target.is_file() and target.suffix in LANGUAGES and name:
            mark, anchor = "#", self._line_anchor(target, name[1])
        place = self._place(target)
        up = "../" * len(self._place(page).parent.parts)
        return f"{up}{place.as_posix()}{mark}{anchor}"

    def _line_anchor(self, path: Path, name: str) -> str:
        """Return the anchor of the line of a listing that defines a name, else of its first."""
        text = path.read_text("utf-8")
        found = re.search(rf"^ *(?:(?:async )?def|class) {name}\b", text, re.MULTILINE)
        line = text.count("\n", 0, found.start()) + 1 if found else 1
        return f"__codelineno-0-{line}"


def _pipes_as_is(text: str) -> str:
    """Return a page without the backslashes that tables need before a pipe in code on GitHub."""
    return CODE.sub(lambda one: one[0] if one[1] else one[0].replace(r"\|", "|"), text)


def _serve(pages: Pages, project: dict[str, Any]) -> int:
    """Serve the site until Ctrl-C; a page that changes is built again."""
    command = [sys.executable, "-m", "zensical", "serve"]
    with subprocess.Popen(command, cwd=ROOT) as server:
        ended = threading.Event()
        try:
            while server.poll() is None:
                ended.wait(RESTAGE_SECS)
                pages.stage(project)
        except KeyboardInterrupt:
            server.terminate()
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
