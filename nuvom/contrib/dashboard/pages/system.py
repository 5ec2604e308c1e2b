"""System: the settings and where they come from, the store, plugins, and checks."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, NamedTuple

from nuvom._version import __version__
from nuvom.cli.doctor import diagnose
from nuvom.config.settings import SETTINGS
from nuvom.contrib.dashboard import readings
from nuvom.contrib.dashboard.pages.overview import NONE, Figure
from nuvom.contrib.dashboard.visit import Page
from nuvom.errors import NuvomError, plural
from nuvom.inspection.overview import Check, store_place
from nuvom.plugins.loader import find_entries

if TYPE_CHECKING:
    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.plugins.lifecycle import PluginEntry

_CHECKS_SECS = 30.0  # checks read the whole store, so tabs share them
_SIZE_SECS = 10.0
_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000


class Value(NamedTuple):
    """A setting: its value as people write it, what set it, and what it means."""

    name: str
    text: str
    source: str
    meaning: str

    @property
    def is_default(self) -> bool:
        """Whether nothing sets it."""
        return self.source == "default"


def system(visit: Visit) -> Page:
    """Show the settings, the store, plugins, and the checks of ``nuvom doctor`` if asked for."""
    runtime = visit.runtime
    values = _values(visit)
    checks = None
    if visit.asked("checks"):
        checks = visit.site.kept(
            "checks", _CHECKS_SECS, lambda: list(diagnose(runtime.settings.root))
        )
    context = {
        "figures": _figures(visit),
        "values": [one for one in values if not one.is_default],
        "defaults": [one for one in values if one.is_default],
        "warnings": runtime.loaded.warnings,
        "root": runtime.settings.root,
        "plugins": _plugins(visit),
        "failures": runtime.plugin_errors,
        "checks": checks,
        "summary": "" if checks is None else _counted(checks),
        "concerns": len(readings.concerns(visit)),
    }
    return Page("system.html", context)


def _values(visit: Visit) -> list[Value]:
    loaded = visit.runtime.loaded
    found = []
    for name, setting in SETTINGS.items():
        shown = setting.show(setting.masked(getattr(loaded.settings, name)))
        origin = loaded.origins[name][0]
        source = f"{origin.source}, {origin.location}" if origin.location else origin.source
        found.append(Value(name, shown, source, setting.meaning))
    return found


def _plugins(visit: Visit) -> list[PluginEntry] | str:
    """Return what is listed, or why that cannot be told."""
    try:
        return find_entries(visit.runtime.settings)
    except NuvomError as error:
        return error.what


def _size(count: int) -> tuple[str, str]:
    """Return bytes as a number and its unit: ``("8.6", "MB")``."""
    number, unit = float(count), 0
    while number >= _THOUSAND and unit < len(_UNITS) - 1:
        number, unit = number / _THOUSAND, unit + 1
    return f"{number:.3g}", _UNITS[unit]


def _figures(visit: Visit) -> list[Figure]:
    runtime = visit.runtime
    settings, path = runtime.settings, store_place(runtime.settings)
    size = visit.site.kept("size", _SIZE_SECS, visit.inspector.store_size)
    workers = {one.version for one in visit.inspector.workers() if one.version} - {__version__}
    others = f"workers also run {', '.join(sorted(workers))}" if workers else platform.system()
    used, free = (NONE, ""), "unknown"
    if size is not None:
        used = _size(size.used)
        free = f"{' '.join(_size(size.free))} free on its disk" if size.disk else ""
    return [
        Figure("Store", settings.queue_backend, "", "on a server" if path is None else path.name),
        Figure("Size", *used, free),
        Figure("Environment", settings.environment, "", f"durability {settings.durability}"),
        Figure("Nuvom", __version__, "", others),
        Figure("Python", platform.python_version(), "", platform.machine()),
    ]


def _counted(checks: list[Check]) -> str:
    """Return how many checks there were, and how many were not well."""
    failed = sum(one.level == "fail" for one in checks)
    warned = sum(one.level == "warn" for one in checks)
    return f"{plural(len(checks), 'check')}: {failed} failed, {plural(warned, 'warning')}"
