"""One setting: its form, its range, what it means, and how a given value is checked.

This module knows what a setting is, not which settings there are (``config.py``) nor where
their values come from (``config_sources.py``).
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

from nuvom.core.ids import valid_name
from nuvom.errors import InvalidId, InvalidSetting

MASK = "***"
NONE = "none"  # how text says that an optional setting is not set
PROGRAM_START = "when a program or a command first uses Nuvom"
WORKER_START = "at worker start"

_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # the last: bytes that are not UTF-8
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


def flag(meaning: str) -> About:
    """Describe a setting that is true or false."""
    return About(meaning, "flag")


def whole(
    meaning: str, low: int, high: int, *, absent: str = "", read: str = PROGRAM_START
) -> About:
    """Describe a setting that is a whole number from ``low`` to ``high``."""
    return About(meaning, "whole", low, high, absent=absent, read=read)


def size(
    meaning: str, low: int, high: int, *, absent: str = "", read: str = PROGRAM_START
) -> About:
    """Describe a setting that is a number of bytes."""
    return About(meaning, "whole", low, high, unit="bytes", absent=absent, read=read)


def secs(
    meaning: str, low: float, high: float, *, absent: str = "", read: str = PROGRAM_START
) -> About:
    """Describe a setting that is a time in seconds."""
    return About(meaning, "number", low, high, unit="seconds", absent=absent, read=read)


def choice(meaning: str, *choices: str, absent: str = "", read: str = PROGRAM_START) -> About:
    """Describe a setting that is one of ``choices``, in any case of letters."""
    return About(meaning, "choice", choices=choices, absent=absent, read=read)


def backend(meaning: str) -> About:
    """Describe a setting that names a backend; whether there is one, its user finds out."""
    return About(meaning, "name")


def place(meaning: str, *, absent: str = "") -> About:
    """Describe a setting that is a path, relative to the project root."""
    return About(meaning, "path", absent=absent)


def free_text(meaning: str, *, read: str = PROGRAM_START) -> About:
    """Describe a setting that is any text."""
    return About(meaning, "text", read=read)


def secret(meaning: str, *, absent: str) -> About:
    """Describe a setting that is a text which is never shown."""
    return About(meaning, "text", absent=absent, secret=True)


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
            return f"{kind}{unit} from {show(about.low)} to {show(about.high)}"
        if about.form == "choice":
            return f"one of {', '.join(about.choices)}"
        return _EXPECTED[about.form]

    @property
    def note(self) -> str:
        """Its type, range and when it is read, in one line."""
        note = f"type {self._type()}; read {self.about.read}"
        return f"{note}; changing needs a restart" if self.about.read == WORKER_START else note

    def _type(self) -> str:
        about = self.about
        if about.form in ("whole", "number"):
            unit = f" of {about.unit}" if about.unit else ""
            kind = "int" if about.form == "whole" else "float"
            return f"{kind}{unit}, {show(about.low)}..{show(about.high)}"
        return " | ".join(about.choices) if about.form == "choice" else _TYPES[about.form]

    def parse(self, text: str, origin: str) -> object:
        """Return the value that ``text`` stands for, checked.

        Raises: InvalidSetting: it stands for none.
        """
        return self.check(self._from_text(text), origin)

    def check(self, value: object, origin: str) -> object:
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

    def show(self, value: object) -> str:
        """Return a value as text; what its absence means stands in brackets."""
        text = show(value)
        return f"{text} ({self.about.absent})" if value is None else text

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


def show(value: object) -> str:
    """Return a value of a setting as text, as one would write it into ``.env``."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _is_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() == NONE)


def _flag(_: About, value: object) -> bool | None:
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


def _name(_: About, value: object) -> str | None:
    try:
        return valid_name("backend", value)
    except InvalidId:
        return None


def _text(_: About, value: object) -> str | None:
    if not isinstance(value, str) or not value or _CONTROL.search(value):
        return None
    return value


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
_TYPES = {"flag": "bool", "name": "name", "path": "path", "text": "text"}
_CHECKS = {
    "flag": _flag,
    "whole": _whole,
    "number": _number,
    "choice": _choice,
    "name": _name,
    "path": _path,
    "text": _text,
}
