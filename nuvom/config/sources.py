"""Loads the settings from their sources, and explains which source wins.

Highest first: ``configure()`` in the program, a flag, the environment, ``.env``,
the settings of a framework, ``nuvom.toml`` or ``[tool.nuvom]``, the default. Every given value is
checked, even if it does not win.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.config.project import CONFIG_FILE, PYPROJECT, ROOT_VARIABLE, has_section
from nuvom.config.settings import ALIASES, MASK, SETTINGS, Settings
from nuvom.errors import ConfigError, InvalidConfigFile, InvalidSetting, UnknownSetting, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from nuvom.config.settings import Setting

PROGRAM = "configure()"
FLAG = "flag"
ENVIRONMENT = "environment"
DOTENV = ".env"
DEFAULT = "default"
PREFIX = "NUVOM_"
_NO_SETTINGS = (ROOT_VARIABLE, "NUVOM_DASHBOARD_TOKEN")  # the second is an option of commands

_framework: _Framework | None = None
_NAMES = {f"{PREFIX}{name.upper()}": name for name in (*SETTINGS, *ALIASES)}


class Origin(NamedTuple):
    """One place that sets a setting.

    Attributes:
        source: ``configure()``, ``flag``, ``environment``, ``.env``, a framework's file,
            ``nuvom.toml``, ``pyproject.toml`` or ``default``.
        raw: The value as written there; ``***`` if it is secret.
        location: The variable or the line (``line 7``), or empty.
        name: The name that is used there, which may be an alias of the setting's.
    """

    source: str
    raw: object
    location: str
    name: str


class Loaded(NamedTuple):
    """The result of ``load``.

    Attributes:
        settings: The winning values.
        origins: For each setting, all places that set it, the winner first, the default last.
        warnings: Human-readable sentences, for example about an unknown variable.
    """

    settings: Settings
    origins: dict[str, list[Origin]]
    warnings: list[str]


class ExplainedSource(NamedTuple):
    """One source in an ``Explanation``; ``text`` is ``-`` if it does not set the setting."""

    source: str
    text: str
    is_used: bool


class Explanation(NamedTuple):
    """Why a setting has its value. Secrets are masked.

    Attributes:
        name: Name of the setting.
        value: Its value as text.
        rows: One per source, highest first. ``configure()`` appears only if it was used.
        meaning: What the setting is for, in one line without a full stop.
        note: The type, the range, and when the setting is read.
    """

    name: str
    value: str
    rows: list[ExplainedSource]
    meaning: str
    note: str


class _Given(NamedTuple):
    """One value from a source.

    Attributes:
        name: The setting's name, or whatever the source has in its place.
        location: As in ``Origin``.
        place: The full place, for errors.
    """

    source: str
    name: str
    value: object
    location: str
    place: str


class _Framework(NamedTuple):
    """What ``use_program_settings`` was given."""

    source: str
    read: Callable[[], Mapping[str, object]]
    defaults: Mapping[str, object]


def use_program_settings(
    source: str,
    read: Callable[[], Mapping[str, object]] | None,
    *,
    defaults: Mapping[str, object] | None = None,
) -> None:
    """Take settings from a framework as well, such as from Django's ``settings.py``.

    Args:
        source: The file's name, for people.
        read: Returns values by setting name, each time that settings are loaded; None ends it.
        defaults: Values that no other source sets.
    """
    global _framework  # noqa: PLW0603  # a process belongs to one project of a framework
    _framework = None if read is None else _Framework(source, read, defaults or {})


def load(
    root: Path,
    *,
    overrides: Mapping[str, object] | None = None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """Return the settings of the project at ``root``.

    Args:
        root: The project root; it may not exist yet.
        overrides: Values that the program passed to ``configure()``.
        flags: Values from the command line, by setting name; None means not given.
        environ: The environment; an empty variable means not given.

    Raises:
        UnknownSetting: a name in a file, a flag or ``configure()`` is not one of ours.
        InvalidSetting: a value has the wrong type or is out of range, even if it does not win.
        InvalidConfigFile: a file cannot be read or parsed, or two files contain settings.
    """
    loading = _Loading(root)
    loaded = loading.load(overrides or {}, flags or {}, environ)
    if loading.errors:
        raise loading.errors[0]
    return loaded


def problems(
    root: Path,
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[list[ConfigError], list[str]]:
    """Return all errors, of which ``load`` raises only the first, and the warnings."""
    loading = _Loading(root)
    loaded = loading.load({}, flags or {}, environ)
    return loading.errors, loaded.warnings


class _Loading:
    """One pass over all sources."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.errors: list[ConfigError] = []
        self._warnings: list[str] = []
        self._values: dict[str, Any] = {}
        self._origins: dict[str, list[Origin]] = {name: [] for name in SETTINGS}

    def load(
        self,
        overrides: Mapping[str, object],
        flags: Mapping[str, object],
        environ: Mapping[str, str],
    ) -> Loaded:
        """Read the sources, highest first."""
        self._take(_Given(PROGRAM, *one, "", PROGRAM) for one in overrides.items())
        given = ((name, value) for name, value in flags.items() if value is not None)
        self._take(_Given(FLAG, *one, "", "command line") for one in given)
        self._take(_from_environment(environ))
        self._take(_from_dotenv(self._root))
        framework = _framework or _Framework("", dict, {})
        values = framework.read()
        self._take(_from_framework(framework.source, values))
        self._take(_from_toml(self._root))
        rest = {name: one for name, one in framework.defaults.items() if name not in values}
        self._take(_from_framework(framework.source, rest))
        for name, setting in SETTINGS.items():
            self._origins[name].append(Origin(DEFAULT, setting.masked(setting.default), "", name))
        settings = Settings(root=self._root.absolute(), **self._values)
        return Loaded(settings, self._origins, self._warnings)

    def _take(self, source: Iterable[_Given]) -> None:
        try:
            for given in source:
                self._take_one(given)
        except ConfigError as error:  # the file as a whole
            self.errors.append(error)

    def _take_one(self, given: _Given) -> None:
        name = ALIASES.get(given.name, given.name)
        setting = SETTINGS.get(name)
        if setting is None:
            self._refuse_unknown(given)
            return
        try:
            if isinstance(given.value, str) and given.source in (FLAG, ENVIRONMENT, DOTENV):
                value = setting.parse(given.value, given.place)
            else:
                value = setting.check(given.value, given.place)
        except ConfigError as error:
            self.errors.append(error)
            return
        raw = setting.masked(given.value)
        other = next((one.name for one in self._origins[name] if one.source == given.source), None)
        if other is not None:
            expected = f"only one of {other} and {given.name} here, which are one setting"
            self.errors.append(InvalidSetting(given.name, raw, expected, origin=given.place))
            return
        self._origins[name].append(Origin(given.source, raw, given.location, given.name))
        self._values.setdefault(name, value)

    def _refuse_unknown(self, given: _Given) -> None:
        if given.source in (ENVIRONMENT, DOTENV):
            # Not an error: another version may know it. Compare names without the prefix, which
            # would make all of them look similar.
            close = suggest(given.name.removeprefix(PREFIX), (*SETTINGS, *ALIASES))
            known = [f"{PREFIX}{name.upper()}" for name in close]
            self._warnings.append(UnknownSetting(given.name, known, origin=given.place).what)
        else:
            names = (*SETTINGS, *ALIASES)
            self.errors.append(UnknownSetting(given.name, names, origin=given.place))


# ---- the sources ------------------------------------------------------------------------


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Given]:
    for variable in sorted(environ):
        value = environ[variable]
        is_ours = variable.startswith(PREFIX) and variable not in _NO_SETTINGS
        if is_ours and value.strip():
            place = f"environment variable {variable}"
            yield _Given(ENVIRONMENT, _NAMES.get(variable, variable), value, variable, place)


def _from_dotenv(root: Path) -> Iterator[_Given]:
    """Yield the ``NUVOM_*`` lines of the root's ``.env``; the last line for a variable wins."""
    path = root / DOTENV
    content = _read(path)
    if content is None:
        return
    entries = {variable: (value, line) for variable, value, line in _entries(content, path)}
    for variable, (value, line) in entries.items():
        if value.strip():
            name, location = _NAMES.get(variable, variable), f"line {line}"
            yield _Given(DOTENV, name, value, location, f"{path}, {location}")


def _entries(content: bytes, path: Path) -> Iterator[tuple[str, str, int]]:
    """Yield variable, value and line (from 1) of each ``NUVOM_*`` line.

    The file is only data: no variable is expanded or set. Errors never quote a line, since it may
    hold a secret.
    """
    from io import StringIO  # noqa: PLC0415  # most projects have no such file

    from dotenv.parser import parse_stream  # noqa: PLC0415  # as above

    for found in parse_stream(StringIO(_decode(content, path))):
        text = found.original.string
        # The parser counts the blank lines above a statement as part of it.
        line = found.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        if found.error:
            reason = f"line {line}: it is not of the form NAME=value, or a quote is not closed"
            raise InvalidConfigFile(path, reason)
        if found.key is None or not found.key.startswith(PREFIX):
            continue
        if found.value is None:
            raise InvalidConfigFile(path, f"line {line}: {found.key} has no '='")
        yield found.key, found.value, line


def _from_framework(source: str, values: Mapping[str, object]) -> Iterator[_Given]:
    for name, value in values.items():
        yield _Given(source, name, value, "", source)


def _from_toml(root: Path) -> Iterator[_Given]:
    """Yield the keys of ``nuvom.toml``, or of ``[tool.nuvom]`` in ``pyproject.toml``."""
    own, shared = root / CONFIG_FILE, root / PYPROJECT
    content, pyproject = _read(own), _read(shared)
    if pyproject is not None and has_section(pyproject):
        if content is not None:
            reason = f"{shared} has a table [tool.nuvom] too; keep the settings in one of the two"
            raise InvalidConfigFile(own, reason)
        text = _decode(pyproject, shared)
        table = _parse(text, shared).get("tool", {}).get("nuvom", {})
        yield from _from_table(shared, text, "tool.nuvom", table)
    elif content is not None:
        text = _decode(content, own)
        yield from _from_table(own, text, "", _parse(text, own))


def project_name(settings: Settings) -> str:
    """Return the setting ``project_name``, the name in ``pyproject.toml``, or the root's name."""
    if settings.project_name is not None:
        return settings.project_name
    path = settings.root / PYPROJECT
    try:
        content = _read(path)
        found = {} if content is None else _parse(_decode(content, path), path)
    except InvalidConfigFile:  # it may be for another program alone
        found = {}
    project = found.get("project")
    name = project.get("name") if isinstance(project, dict) else None
    return name if isinstance(name, str) and name else settings.root.name


def _from_table(path: Path, text: str, table: str, keys: dict[str, Any]) -> Iterator[_Given]:
    for key, value in keys.items():
        line = _line_of(text, table, key)
        location = f"line {line}" if line else ""
        place = f"{path}, {location}" if line else str(path)
        yield _Given(path.name, key, value, location, place)


def _parse(text: str, path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415  # most projects have no such file

    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or plain ValueError for a number too long
        reason = str(error)
        raise InvalidConfigFile(path, reason[:1].lower() + reason[1:]) from error


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"line {line} is not UTF-8; save the file in that encoding"
        raise InvalidConfigFile(path, reason) from None


def _line_of(text: str, table: str, key: str) -> int | None:
    """Return the number of the line that sets ``key``; None for valid but rare spellings."""
    header = re.search(rf"^[ \t]*\[[ \t]*{re.escape(table)}[ \t]*\]", text, re.MULTILINE)
    start = header.end() if table and header else 0
    name = rf"""(\[[ \t]*({re.escape(table)}\.)?)?["']?{re.escape(key)}["']?[ \t]*[=.\]]"""
    found = re.compile(rf"^[ \t]*{name}", re.MULTILINE).search(text, start)
    return text.count("\n", 0, found.start()) + 1 if found else None


def _read(path: Path) -> bytes | None:
    """Return the content of a configuration file, or None if there is no regular file.

    Raises: InvalidConfigFile: it cannot be read, or belongs to neither the current user, nor
        root, nor the owner of its folder. (In a folder like ``/tmp``, anybody could have put it
        there to redirect your jobs.)
    """
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as stream:
            _check_owner(path, os.fstat(stream.fileno()))
            return stream.read()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InvalidConfigFile(path, reason) from error


def _check_owner(path: Path, found: os.stat_result) -> None:
    if sys.platform == "win32":  # stat results have no owner there
        return
    if found.st_uid not in (os.geteuid(), 0, path.parent.stat().st_uid):
        raise InvalidConfigFile(path, "it belongs to another user than its folder and you")


# ---- explaining -------------------------------------------------------------------------


def explain(loaded: Loaded, key: str) -> Explanation:
    """Return why the setting ``key`` (or ``NUVOM_KEY``) has its value, under that name.

    Raises: UnknownSetting: there is no such setting.
    """
    asked = _NAMES.get(key, key)
    name = ALIASES.get(asked, asked)
    if name not in SETTINGS:
        raise UnknownSetting(key, SETTINGS, origin="config explain")
    setting = SETTINGS[name]._replace(name=asked)
    origins = {origin.source: origin for origin in loaded.origins[name]}
    toml = PYPROJECT if PYPROJECT in origins else CONFIG_FILE
    program = [PROGRAM] if PROGRAM in origins else []
    framework = [] if _framework is None else [_framework.source]
    winner = loaded.origins[name][0].source
    rows = [
        ExplainedSource(source, _text(setting, origins.get(source)), source == winner)
        for source in (*program, FLAG, ENVIRONMENT, DOTENV, *framework, toml, DEFAULT)
    ]
    value = setting.masked(getattr(loaded.settings, name))
    return Explanation(asked, setting.show(value), rows, setting.meaning, setting.note)


def _text(setting: Setting, origin: Origin | None) -> str:
    if origin is None:
        return "-"
    value = setting.show(origin.raw)
    if origin.source in (ENVIRONMENT, DOTENV):
        return f"{PREFIX}{origin.name.upper()}={value}"
    if origin.source in (CONFIG_FILE, PYPROJECT):
        if isinstance(origin.raw, str) and origin.raw != MASK:
            value = f'"{value}"'
        line = f"{origin.name} = {value}"
        return f"{origin.location}: {line}" if origin.location else line
    return value
