"""The tables of laws in ``docs/conformance.md``, made from the laws themselves.

``python -m tests.lab.page docs/conformance.md`` writes them anew.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nuvom.testing.conformance.law import laws_of
from nuvom.testing.conformance.laws.codec import CodecConformance
from nuvom.testing.conformance.laws.plugin import PluginConformance
from nuvom.testing.conformance.laws.queue import QueueConformance
from nuvom.testing.conformance.laws.results import ResultConformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.testing.conformance.law import Kit, Law

BEGIN = "<!-- What follows is made by: python -m tests.lab.page FILE -->\n"
_KITS: dict[str, type[Kit]] = {
    "Queues": QueueConformance,
    "Result backends": ResultConformance,
    "Codecs": CodecConformance,
    "Plugins": PluginConformance,
}


def tables() -> str:
    """Return the generated part of the page."""
    return "\n".join(line for title, kit in _KITS.items() for line in _kit_lines(title, kit))


def renewed(page: str) -> str:
    """Return the page with its generated part made anew."""
    written, begin, _ = page.partition(BEGIN)
    if not begin:
        raise ValueError(f"the page has no line {BEGIN.strip()}")
    return f"{written}{BEGIN}\n{tables()}"


def _kit_lines(title: str, kit: type[Kit]) -> Iterator[str]:
    laws = laws_of(kit)
    yield f"## {title}: {len(laws)} laws\n"
    for part in kit.__mro__:
        chapter = [law for law in laws if law.test in vars(part)]
        if not chapter:
            continue
        if len(chapter) < len(laws):
            yield f"### {chapter[0].group}\n"
            yield f"{(part.__doc__ or '').partition(chr(10))[0]}\n"
        yield from _table(chapter)
        yield ""


def _table(laws: list[Law]) -> Iterator[str]:
    rows = [("law", "promise", "needs"), ("---", "---", "---")]
    rows += [
        (f"`{law.name}`", law.promise.replace("``", "`"), ", ".join(law.needs)) for law in laws
    ]
    columns = 3 if any(law.needs for law in laws) else 2
    for row in rows:
        yield f"| {' | '.join(row[:columns])} |"


def main(path: str) -> None:
    """Write the tables into the page at ``path``."""
    page = Path(path)
    page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
