"""Pages and files of the repository: links that lead nowhere, files that do not belong.

``python -m tests.architecture.pages`` prints what is wrong and returns 1 if anything is. It
needs the standard library alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.architecture.source import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent.parent
MOST_BYTES = 512 * 1024
# [text](target "title") and [label]: target
LINK = re.compile(
    r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*<?(\S+?)>?\s*$",
    re.MULTILINE,
)
FENCED = re.compile(r"^ *(```|~~~).*?^ *\1[^\n]*$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`[^`\n]*`")
ADDRESS = re.compile(r"^[a-z][a-z+.-]*:", re.IGNORECASE)


def links(root: Path, files: Sequence[Path]) -> Iterator[Finding]:
    """Links of pages to files or headings that are not there. Web addresses are not asked."""
    for page in files:
        if page.suffix == ".md":
            prose = blanked(INLINE, blanked(FENCED, _read(page)))
            for match in LINK.finditer(prose):
                yield from _broken(root, page, match, prose)


def _broken(root: Path, page: Path, match: re.Match[str], prose: str) -> Iterator[Finding]:
    link = unquote(match.group(1) or match.group(2))
    if ADDRESS.match(link):
        return
    path, _, heading = link.partition("#")
    target = (page.parent / path) if path else page
    line = prose.count("\n", 0, match.start()) + 1
    where = page.relative_to(root).as_posix()
    if not target.exists():
        yield Finding("links", where, line, f"{link} does not exist")
    elif heading and target.suffix == ".md" and heading not in headings(target):
        yield Finding("links", where, line, f"{link}: there is no such heading")


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them, and its explicit ones."""
    text = blanked(FENCED, _read(page))
    found: set[str] = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for title in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = 0
        while (name := f"{anchor}-{count}" if count else anchor) in found:
            count += 1
        found.add(name)
    return found


def blanked(pattern: re.Pattern[str], text: str) -> str:
    """Return the text with spaces for what fits, so that line numbers stay right."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def _read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def sizes(root: Path, files: Sequence[Path]) -> Iterator[Finding]:
    """Files that are too large for a repository."""
    for path in files:
        if path.stat().st_size > MOST_BYTES:
            text = f"{path.stat().st_size} bytes, at most {MOST_BYTES}"
            yield Finding("large-files", path.relative_to(root).as_posix(), 1, text)


def indexes(root: Path, files: Sequence[Path]) -> Iterator[Finding]:
    """Requirements that name a package index: pip is to use the reader's own."""
    for path in files:
        if path.parent.name == "requirements" and path.suffix == ".txt":
            for number, line in enumerate(_read(path).splitlines(), 1):
                if "://" in line or line.startswith("--"):
                    yield Finding("indexes", path.relative_to(root).as_posix(), number, line)


def repository_files(root: Path) -> list[Path]:
    """Return the files that git knows or would add; without git, all that are not hidden."""
    command = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        names = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
        found = [root / name for name in names if name]
    except (OSError, subprocess.CalledProcessError):
        found = [
            path
            for path in root.rglob("*")
            if not any(p[0] == "." for p in path.relative_to(root).parts)
        ]
    return sorted(path for path in found if path.is_file())


def main() -> int:
    """Print every finding; return 1 if there is one."""
    files = repository_files(ROOT)
    found = [*links(ROOT, files), *sizes(ROOT, files), *indexes(ROOT, files)]
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
