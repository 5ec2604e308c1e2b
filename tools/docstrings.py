"""The package's docstrings, as the site shows them: an extension of Griffe, which parses them.

They are written for readers of the source, with sections of one line: ``Raises: JobNotFound: there
is no such job.`` Griffe knows Google's style, in which a section is a title and an indented block.
Its parameters and attributes are that; the other sections become Markdown, with links to errors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nuvom.errors import __all__ as errors

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    from griffe import Extension
except ImportError:  # only the environment that builds the site has it
    Extension = object

SECTION = re.compile(r"^(Returns|Raises|Yields|Source): ?(.*)$")
WITHIN = re.compile(r"(?<=[.)]) (?=(?:Returns|Raises): )")  # "Read it again. Raises: JobNotFound."
NAMES = r"[A-Z]\w+(?:, [A-Z]\w+)*(?: \(an? \w+\))?"
NEXT_ERROR = re.compile(rf"; (?={NAMES}(?::|;|\.?$))|(?<=\.) (?={NAMES}:)")
ERROR = re.compile(rf"^({NAMES})(?::|\.?$)")
SEVERAL = re.compile(r"^ {4}(\w+(?:, \w+)+)(:.*(?:\n {5,}.*)*)", re.MULTILINE)


class HouseStyle(Extension):  # type: ignore[misc]  # see above
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: Any, **_: Any) -> None:  # noqa: ANN401  # griffe.Object
        """Rewrite one. It is called by Griffe."""
        if obj.docstring is None:
            return
        if obj.is_module:  # it tells readers of the source where they are
            obj.docstring = None
            return
        text = as_google(obj.docstring.value)
        if obj.is_class and "Attributes:" not in text:
            text += _fields(obj)
        obj.docstring.value = text


def as_google(text: str) -> str:
    """Return a docstring of this package in a form that Griffe and Markdown understand."""
    alone = SEVERAL.sub(_each_alone, WITHIN.sub("\n", text))
    lines = iter([*alone.splitlines(), ""])
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_rewritten(lines))).strip()


def _fields(cls: Any) -> str:  # noqa: ANN401  # griffe.Class
    """Return a line about the fields of a class that its docstring leaves to their names."""
    fields = [
        f"`{name}: {member.annotation}`"
        for name, member in cls.members.items()
        if member.kind.value == "attribute" and not name.startswith("_")
        if member.annotation and not member.docstring and not member.labels & {"property"}
    ]
    return f"\n\n**Fields:** {', '.join(fields)}." if fields else ""


def _rewritten(lines: Iterator[str]) -> Iterator[str]:
    line = next(lines, None)
    while line is not None:
        found = SECTION.match(line)
        if found is None:
            yield line
            line = next(lines, None)
            continue
        body = [found[2]] if found[2] else []
        while (line := next(lines, None)) and not SECTION.match(line) and line != "Args:":
            body.append(line)
        yield from ["", *_section(found[1], body), ""]


def _each_alone(several: re.Match[str]) -> str:
    """Return what is said of ``a, b: ...`` for each of the names."""
    return "\n".join(f"    {name}{several[2]}" for name in several[1].split(", "))


def _section(title: str, body: list[str]) -> Iterator[str]:
    if title != "Raises":
        yield f"**{title}:** {' '.join(line.strip() for line in body)}"
        return
    items: list[str] = []
    for line in body:
        plain = line.strip()
        if not items or (ERROR.match(plain) and re.match(r" {4}\S", line)):
            items.append(plain)
        else:
            items[-1] += f" {plain}"
    parts = [part for item in items for part in NEXT_ERROR.split(item)]
    yield "**Raises:**"
    yield ""
    yield from (f"- {_with_links(part.rstrip(';'))}" for part in parts)


def _with_links(text: str) -> str:
    """Return a part of a section with code, and links, for the errors that it begins with."""
    found = ERROR.match(text)
    if found is None:
        return text
    linked = re.sub(r"[A-Z]\w+", _link, found[1])
    return linked + text[found.end(1) :]


def _link(found: re.Match[str]) -> str:
    code = f"`{found[0]}`"
    return f"[{code}][{found[0].lower()}]" if found[0] in errors else code
