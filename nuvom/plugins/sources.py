"""Which plugins there are: named by installed packages, or by the project's plugin file.

Reads names only and imports nothing of theirs; importing is the loader's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.errors import InvalidConfigFile, did_you_mean
from nuvom.plugins.installed import may_have_entry_points
from nuvom.plugins.trust import read_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLUGIN_FILE = ".nuvom_plugins.toml"
GROUP = "nuvom"

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class PluginEntry(NamedTuple):
    """A plugin as somebody named it; nothing is known yet of what it is.

    Attributes:
        name: The entry point's name; in the plugin file the class's name in lower case.
        target: ``module:Class``.
        key: The file's key that it is listed under (``queue_backend``), or nothing.
        source: Who named it: the file's path, or the package with its entry point.
        version: Of the package, where one named it.
    """

    name: str
    target: str
    key: str
    source: str
    version: str = ""

    @property
    def is_project(self) -> bool:
        """Whether the project's file named it, and no installed package."""
        return bool(self.key)

    def answers_to(self, name: str) -> bool:
        """Return whether somebody who says ``name`` may mean this entry."""
        return name in (self.name, self.target, *self.target.split(":"))


def installed_entries() -> list[PluginEntry]:
    """Return what installed packages name in the entry-point group ``nuvom``, by name."""
    if not may_have_entry_points(GROUP):
        return []
    from importlib.metadata import entry_points  # noqa: PLC0415  # slow, and rarely needed

    found = [_from_entry_point(point) for point in entry_points(group=GROUP)]
    return sorted(dict.fromkeys(found))


def _from_entry_point(point: Any) -> PluginEntry:  # noqa: ANN401  # its class is not imported here
    package = point.dist.name if point.dist else "an unknown package"
    return PluginEntry(
        name=point.name,
        target=point.value.partition("[")[0].replace(" ", ""),
        key="",
        source=f"entry point {point.name} of {package}",
        version=point.dist.version if point.dist else "",
    )


def project_entries(root: Path) -> list[PluginEntry]:
    """Return what the project's plugin file names, in its order; empty without a file.

    Raises:
        PluginNotTrusted: somebody else could have written the file.
        InvalidConfigFile: it cannot be read, or is not what a plugin file looks like.
    """
    path = root / PLUGIN_FILE
    content = read_trusted(path)
    return [] if content is None else list(_parse(content, path))


def _parse(content: bytes, path: Path) -> Iterator[PluginEntry]:
    import tomllib  # noqa: PLC0415  # most projects have no such file

    try:
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfigFile(path, f"it is not valid TOML: {error}") from error
    for name, table in tables.items():
        if name != "plugins":
            hint = did_you_mean(name, ["plugins"])
            raise InvalidConfigFile(path, f'"{name}" is not known here, only [plugins].{hint}')
        if not isinstance(table, dict):
            raise InvalidConfigFile(path, "plugins has to be a table: [plugins]")
        for key, targets in table.items():
            yield from _of_key(key, targets, path)


def _of_key(key: str, targets: object, path: Path) -> Iterator[PluginEntry]:
    if not isinstance(targets, list):
        raise InvalidConfigFile(path, f'{key} has to be a list: {key} = ["module:Class"]')
    for target in dict.fromkeys(map(str, targets)):
        if _TARGET.fullmatch(target) is None:
            raise InvalidConfigFile(path, f'{key}: "{target}" has to be "module:Class"')
        name = target.rpartition(":")[2].rpartition(".")[2].lower()
        yield PluginEntry(name, target, key, str(path))
