"""Makes untrusted text safe to show: no control characters, no secrets.

Job ids, task names, exception texts and log calls may contain anything. Log formats and
everything else that prints them use this module first.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from math import isfinite

MASK = "***"
MAX_CHARS = 65_536

# C0 and C1 controls (including the terminal escape character), line and paragraph separators,
# marks that reorder text on the screen, and lone surrogates, which no encoding can write.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_SECRET_NAME = re.compile(
    r"pass|secret|token|api_?key|authorization|cookie|private_key", re.IGNORECASE
)
# ``password=x``, ``'api_key': 'x'``, ``Authorization: Bearer x``. Lengths are bounded, so that
# matching a hostile text takes linear time.
_SECRET_PAIR = re.compile(
    r"(?<![\w-])"
    r"([\w-]{0,40}(?:pass|secret|token|api[_-]?key|authorization|cookie|private_key)[\w-]{0,40}"
    r"[\"']?\s{0,3}[=:]\s{0,3})"
    r"((?:bearer|basic|token)\s{1,3})?"
    r"(\"[^\"]*\"|'[^']*'|[^\s,;&)}\]]+)",
    re.IGNORECASE,
)
_SECRET_ADDRESS = re.compile(r"(\w{1,20}://[^\s:/@]{0,256}:)[^\s/@]{1,256}@")
_DEEPEST = 6


def one_line(text: str) -> str:
    """Return ``text`` with everything that could break or forge a line escaped."""
    if _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    return _SHORT.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")  # noqa: PLR2004  # one byte


def clip(text: str, limit: int = MAX_CHARS) -> str:
    """Return at most ``limit`` characters of ``text``, and how many more there were."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... ({len(text) - limit} more characters)"


def is_secret(name: str) -> bool:
    """Return whether a value called ``name`` must not be shown."""
    return _SECRET_NAME.search(name) is not None


def mask_text(text: str) -> str:
    """Return ``text`` with values after secret-sounding names and passwords in URLs masked."""
    if "://" in text:
        text = _SECRET_ADDRESS.sub(rf"\1{MASK}@", text)
    if is_secret(text) or "api-key" in text.lower():
        text = _SECRET_PAIR.sub(rf"\1{MASK}", text)
    return text


def mask_value(
    name: str, value: object, depth: int = 0, hidden: Container[str] = frozenset()
) -> object:
    """Return ``value``, or ``***`` if ``name`` is secret; also inside mappings and lists.

    Very deeply nested values are cut off.

    Args:
        hidden: Other secret names, in lower case.
    """
    if is_secret(name) or name.lower() in hidden:
        return MASK
    if not isinstance(value, Mapping | list | tuple):
        is_plain = not isinstance(value, float) or isfinite(value)
        return value if is_plain else str(value)  # JSON has no infinity
    if depth >= _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        named = {str(key): one for key, one in value.items()}
        return {key: mask_value(key, one, depth + 1, hidden) for key, one in named.items()}
    return [mask_value("", one, depth + 1, hidden) for one in value]
