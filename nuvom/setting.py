"""One setting: its form, its range, what it means, and how a given value is checked.

This module knows what a setting is, not which settings there are (``config.py``) nor where
their values come from (``config_sources.py``).
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from nuvom.errors import InvalidId, InvalidSetting
from nuvom.names import valid_name

MASK = "***"
NONE = "none"  # how text says that an optional setting is not set
PROGRAM_START = "when a program or a command first uses Nuvom"
WORKER_START = "at worker start"

_FLAGS = {
    **dict.fromkeys(("1", "true", "on", "yes"), True),
    **dict.fromkeys(("0", "false", "off", "no"), False),
}


class About(NamedTuple):
    """What a field of ``Settings`` says about itself, as metadata of its annotation.

    Attributes:
        meaning: One line, without a full stop.
        form: ``flag``, ``whole``, ``number``, ``choice``, ``name``, ``path`` or ``text``.
        low, high: Range of a ``whole`` or ``number``, both ends included.
        choices: What a ``choice`` can be.
        unit: ``seconds``, ``bytes`` or nothing.
        absent: What happens where an optional setting is not set.
        read: When the setting is read.
        secret: Whether its value may never be shown.
    """

    meaning: str
    form: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    unit: str = ""
    absent: str = ""
    read: str = PROGRAM_START
    secret: bool = False


class Setting(NamedTuple):
    """A setting: its name, what it says about itself, and its default."""

    name: str
    about: About
    optional: bool
    default: Any

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return f"NUVOM_{self.name.upper()}"

    @property
    def expected(self) -> str:
        """What a value has to be, as part of a sentence."""
        return self._expected_form() + (f', or "{NONE}"' if self.optional else "")

    def _expected_form(self) -> str:
        about = self.about
        if about.form in ("whole", "number"):
            kind = "a whole number" if about.form == "whole" else "a number"
            unit = f" of {about.unit}" if about.unit else ""
            return f"{kind}{unit} from {about.low:.12g} to {about.high:.12g}"
        if about.form == "choice":
            return f"one of {', '.join(about.choices)}"
        return _EXPECTED[about.form]

    def parse(self, text: str, origin: str) -> Any:
        """Return the value that ``text`` stands for, checked.

        Raises: InvalidSetting: it stands for none.
        """
        return self.check(self._from_text(text), origin)

    def check(self, value: object, origin: str) -> Any:
        """Return ``value`` in the form that ``Settings`` holds.

        Args:
            value: Of the setting's own type; text is not taken for a number here.
            origin: Where the value was given, for the error.

        Raises: InvalidSetting: the type or the range is wrong.
        """
        if self.optional and _is_none(value):
            return None
        checked = _CHECKS[self.about.form](self.about, value)
        if checked is None:
            raise InvalidSetting(self.name, self.masked(value), self.expected, origin=origin)
        return checked

    def masked(self, value: object) -> object:
        """Return ``value``, or ``***`` where it may not be shown."""
        return MASK if self.about.secret and value is not None else value

    def _from_text(self, text: str) -> object:
        # What cannot be converted stays text: ``check`` then refuses it with the one message.
        stripped = text.strip()
        try:
            if self.about.form == "whole":
                return int(stripped)
            if self.about.form == "number":
                return float(stripped)
        except ValueError:
            return text
        return _FLAGS.get(stripped.lower(), text) if self.about.form == "flag" else stripped


def _is_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() == NONE)


def _flag(about: About, value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _whole(about: About, value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if about.low <= value <= about.high else None


def _number(about: About, value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if about.low <= value <= about.high else None  # not true of NaN


def _choice(about: About, value: object) -> str | None:
    if isinstance(value, bool):  # TOML's ``plugins = false`` says what "off" says
        value = "on" if value else "off"
    if not isinstance(value, str):
        return None
    if "off" in about.choices and value.lower() in _FLAGS:
        value = "on" if _FLAGS[value.lower()] else "off"
    known = {choice.lower(): choice for choice in about.choices}
    return known.get(value.lower())


def _name(about: About, value: object) -> str | None:
    try:
        return valid_name("backend", value)
    except InvalidId:
        return None


def _text(about: About, value: object) -> str | None:
    return value if isinstance(value, str) and value and value.isprintable() else None


def _path(about: About, value: object) -> str | None:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    # SQLite would take these for something else than a file; a typed path never means them.
    if isinstance(value, str) and value.startswith((":memory:", "file:")):
        return None
    return _text(about, value)


_EXPECTED = {
    "flag": "true or false",
    "name": "the name of a backend: letters, digits, '_', '-' and '.'",
    "path": "the path of a file or folder",
    "text": "a text without control characters",
}
_CHECKS = {
    "flag": _flag,
    "whole": _whole,
    "number": _number,
    "choice": _choice,
    "name": _name,
    "path": _path,
    "text": _text,
}
