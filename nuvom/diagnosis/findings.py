"""What a check finds: a level, a sentence, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.config.settings import Settings
    from nuvom.errors import NuvomError

Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        name: The part that was checked, in one word.
        fix: What to do about it, or nothing.
        code: The class of the error behind it, or nothing.
    """

    name: str
    level: Level
    text: str
    fix: str = ""
    code: str = ""


def ok(name: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(name, "ok", text)


def warn(name: str, text: str, fix: str = "") -> Finding:
    """Return that something works, but perhaps not as meant."""
    return Finding(name, "warn", text, fix)


def fail(name: str, text: str, fix: str = "") -> Finding:
    """Return that something does not work."""
    return Finding(name, "fail", text, fix)


def failed(name: str, error: NuvomError) -> Finding:
    """Return that a check ended in an error."""
    return Finding(name, "fail", error.what, error.fix, type(error).__name__)


def store_place(settings: Settings) -> Path | None:
    """Return the file or folder that holds the queue, None where it is elsewhere."""
    return {"sqlite": settings.db_path, "file": settings.files_dir}.get(settings.queue_backend)
