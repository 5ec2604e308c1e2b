"""Where the settings come from, which source wins, and how to tell.

Highest first: ``configure()`` in the program, a flag, the environment, ``.env``,
``nuvom.toml`` or ``[tool.nuvom]``, the default. Every given value is checked, also one that
does not win. ``runtime.py`` and the command line call this; ``_sources.py`` does the reading.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.config import readers as _sources
from nuvom.config.project import CONFIG_FILE, PYPROJECT
from nuvom.config.readers import DOTENV, ENVIRONMENT, FLAG, PROGRAM, VARIABLES
from nuvom.config.setting import MASK
from nuvom.config.settings import SETTINGS, Settings
from nuvom.errors import ConfigError, UnknownSetting, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nuvom.config.readers import Given
    from nuvom.config.setting import Setting

DEFAULT = "default"


class Origin(NamedTuple):
    """One place that gives a setting.

    Attributes:
        source: ``configure()``, ``flag``, ``environment``, ``.env``, ``nuvom.toml``,
            ``pyproject.toml`` or ``default``.
        raw: The value as given there; ``***`` where it is secret.
        location: The variable or the line (``line 7``), or nothing.
    """

    source: str
    raw: object
    location: str


class Loaded(NamedTuple):
    """What ``load`` found.

    Attributes:
        settings: The values that win.
        origins: For each setting all places that give it, the winner first, the default last.
        warnings: Sentences for a person, such as on an unknown variable.
    """

    settings: Settings
    origins: dict[str, list[Origin]]
    warnings: list[str]


class Row(NamedTuple):
    """One source in an ``Explanation``; ``text`` is ``-`` where it does not give the setting."""

    source: str
    text: str
    is_used: bool


class Explanation(NamedTuple):
    """Why a setting has its value. Secrets are masked.

    Attributes:
        name: Name of the setting.
        value: Its value as text.
        rows: One for each source, highest first. ``configure()`` only where it was used.
        note: Type, range, when it is read.
    """

    name: str
    value: str
    rows: list[Row]
    note: str


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
        overrides: What the program gave to ``configure()``.
        flags: What the command line gave, by name of the setting; None means not given.
        environ: The environment; an empty variable means not given.

    Raises:
        UnknownSetting: a name in a file, a flag or ``configure()`` is not one of ours.
        InvalidSetting: a value has the wrong type or is out of range, whether it wins or not.
        InvalidConfigFile: a file cannot be read or parsed, or two files hold settings.
    """
    return _Loading(root, _raise).load(overrides or {}, flags or {}, environ)


def problems(
    root: Path,
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[list[ConfigError], list[str]]:
    """Return all errors of which ``load`` would raise the first, and its warnings."""
    errors: list[ConfigError] = []
    loaded = _Loading(root, errors.append).load({}, flags or {}, environ)
    return errors, loaded.warnings


def _raise(error: ConfigError) -> None:
    raise error


class _Loading:
    """One reading of all sources; ``report`` is told of each error."""

    def __init__(self, root: Path, report: Callable[[ConfigError], None]) -> None:
        self._root = root
        self._report = report
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
        self._take(_sources.from_program(overrides))
        self._take(_sources.from_flags(flags))
        self._take(_sources.from_environment(environ))
        self._take(_sources.from_dotenv(self._root, self._warnings))
        self._take(_sources.from_toml(self._root))
        for name, setting in SETTINGS.items():
            self._origins[name].append(Origin(DEFAULT, setting.masked(setting.default), ""))
        settings = Settings(root=self._root.absolute(), **self._values)
        return Loaded(settings, self._origins, self._warnings)

    def _take(self, source: Iterator[Given]) -> None:
        try:
            for given in source:
                self._take_one(given)
        except ConfigError as error:  # the file as a whole
            self._report(error)

    def _take_one(self, given: Given) -> None:
        setting = SETTINGS.get(given.name)
        if setting is None:
            self._refuse_unknown(given)
            return
        try:
            if given.is_text:
                value = setting.parse(str(given.value), given.place)
            else:
                value = setting.check(given.value, given.place)
        except ConfigError as error:
            self._report(error)
            return
        raw = setting.masked(given.value)
        self._origins[given.name].append(Origin(given.source, raw, given.location))
        self._values.setdefault(given.name, value)

    def _refuse_unknown(self, given: Given) -> None:
        if given.source in (ENVIRONMENT, DOTENV):
            # No error: another version may know it. Names are compared without the prefix,
            # which would make all of them look alike.
            close = suggest(given.name.removeprefix("NUVOM_"), SETTINGS)
            known = [SETTINGS[name].variable for name in close]
            self._warnings.append(UnknownSetting(given.name, known, origin=given.place).what)
        else:
            self._report(UnknownSetting(given.name, SETTINGS, origin=given.place))


def explain(loaded: Loaded, key: str) -> Explanation:
    """Return why the setting ``key`` (or ``NUVOM_KEY``) has its value.

    Raises: UnknownSetting: there is no such setting.
    """
    name = VARIABLES[key].name if key in VARIABLES else key
    if name not in SETTINGS:
        raise UnknownSetting(key, SETTINGS, origin="config explain")
    setting = SETTINGS[name]
    origins = {origin.source: origin for origin in loaded.origins[name]}
    sources = [FLAG, ENVIRONMENT, DOTENV, CONFIG_FILE, DEFAULT]
    if PYPROJECT in origins:
        sources[3] = PYPROJECT
    if PROGRAM in origins:
        sources.insert(0, PROGRAM)
    winner = loaded.origins[name][0].source
    rows = [
        Row(source, _text(setting, origins.get(source)), source == winner) for source in sources
    ]
    value = setting.masked(getattr(loaded.settings, name))
    return Explanation(name, setting.show(value), rows, setting.note)


def _text(setting: Setting, origin: Origin | None) -> str:
    if origin is None:
        return "-"
    value = setting.show(origin.raw)
    if origin.source in (ENVIRONMENT, DOTENV):
        return f"{setting.variable}={value}"
    if origin.source in (CONFIG_FILE, PYPROJECT):
        if isinstance(origin.raw, str) and origin.raw != MASK:
            value = f'"{value}"'
        line = f"{setting.name} = {value}"
        return f"{origin.location}: {line}" if origin.location else line
    return value
