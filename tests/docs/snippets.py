"""The snippets of a page: what stands in its fences, and what a comment before one says of it.

A comment directly before a fence is not shown to readers:

``<!-- not run: REASON -->``  the snippet cannot run here
``<!-- background -->``       the command runs until the page ends
``<!-- exit N -->``           the last command ends with this code instead of 0
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(?P<indent> *)(?P<mark>```+|~~~+)(?P<language>\w*)\s*$")
COMMENT = re.compile(r"^ *<!-- (?P<text>.*?) -->\s*$")
FILE_NAME = re.compile(r"# (?P<name>[\w./-]+\.\w+)$")


@dataclass(frozen=True)
class Snippet:
    """One fence.

    Attributes:
        line: Of its first line of text, from 1.
        remarks: The comments before it.
    """

    language: str
    text: str
    line: int
    remarks: tuple[str, ...] = field(default=())

    @property
    def file_name(self) -> str | None:
        """The file that the snippet is, when its first line is a comment that names one."""
        match = FILE_NAME.match(self.text.partition("\n")[0])
        return match["name"] if match else None

    @property
    def is_background(self) -> bool:
        return "background" in self.remarks

    @property
    def reason_not_to_run(self) -> str | None:
        return self._remark("not run: ")

    @property
    def exit_code(self) -> int:
        return int(self._remark("exit ") or 0)

    def _remark(self, start: str) -> str | None:
        found = [remark[len(start) :] for remark in self.remarks if remark.startswith(start)]
        return found[0] if found else None


def snippets(text: str) -> Iterator[Snippet]:
    """Yield the snippets of a page, in order."""
    lines = enumerate(text.splitlines(), 1)
    remarks: list[str] = []
    for _, line in lines:
        comment, fence = COMMENT.match(line), FENCE.match(line)
        if comment:
            remarks.append(comment["text"])
        elif fence:
            inside: list[str] = []
            first = 0
            for number, inner in lines:
                first = first or number
                if inner.strip() == fence["mark"]:
                    break
                inside.append(inner.removeprefix(fence["indent"]))
            else:
                raise ValueError(f"a fence is not closed: {line}")
            yield Snippet(fence["language"], "\n".join(inside) + "\n", first, tuple(remarks))
            remarks = []
        elif line.strip():
            remarks = []


def pages() -> list[Path]:
    """Return the pages that readers try things from."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted(path for path in found if path.exists())
