"""Reads each source of settings into one list: who gives which setting what value, and where.

Nothing is checked here but the form of the files; ``config_sources.py`` calls these readers,
checks the values and decides which one wins.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.config import dotenv as _dotenv
from nuvom.config.project import CONFIG_FILE, PYPROJECT, has_section
from nuvom.config.settings import SETTINGS
from nuvom.errors import InvalidConfigFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PROGRAM = "configure()"
FLAG = "flag"
ENVIRONMENT = "environment"
DOTENV = ".env"

VARIABLES = {setting.variable: setting for setting in SETTINGS.values()}
# Ours, but no settings: they steer tests of the product, not the product.
_OTHER_VARIABLES = frozenset({"NUVOM_CRASHPOINT"})

_MAX_FILE_BYTES = 4 << 20  # no such file is longer; a wrong one must not fill the memory
# Each exists only on some systems. Not blocking: a pipe of such a name would hold us up for ever.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_HEADER = re.compile(r"\s*\[\s*(?P<table>[^\[\]]+?)\s*\]\s*(?:#.*)?")
_KEY = re.compile(r"""\s*(?P<quote>["']?)(?P<key>[\w-]+)(?P=quote)\s*[=.]""")


class Given(NamedTuple):
    """One value that a source gives.

    Attributes:
        source: Name of the source, as ``nuvom config explain`` prints it.
        name: The setting's name, or what stands in its place and is none.
        value: As given.
        location: The variable or ``line 7``, or nothing.
        place: The whole place, for an error.
        is_text: Whether the value is text that may stand for a number or a flag.
    """

    source: str
    name: str
    value: object
    location: str
    place: str
    is_text: bool


def from_program(overrides: Mapping[str, object]) -> Iterator[Given]:
    """Yield what ``configure()`` was given."""
    for name, value in overrides.items():
        yield Given(PROGRAM, name, value, "", PROGRAM, is_text=False)


def from_flags(flags: Mapping[str, object]) -> Iterator[Given]:
    """Yield what the command line gave. None means not given."""
    for name, value in flags.items():
        if value is not None:
            is_text = isinstance(value, str)
            yield Given(FLAG, name, value, "", "command line", is_text=is_text)


def from_environment(environ: Mapping[str, str]) -> Iterator[Given]:
    """Yield the ``NUVOM_*`` variables in the order of the alphabet. Empty means not given."""
    for variable in sorted(environ):
        if variable.startswith(_dotenv.PREFIX):
            place = f"environment variable {variable}"
            yield from _from_variable(ENVIRONMENT, variable, environ[variable], (variable, place))


def from_dotenv(root: Path, warnings: list[str]) -> Iterator[Given]:
    """Yield the ``NUVOM_*`` lines of the root's ``.env``; a later line replaces an earlier one.

    Raises: InvalidConfigFile: the file cannot be read, or a line is broken.
    """
    path = root / DOTENV
    content = read_config_file(path)
    if content is None:
        if path.exists() and not path.is_dir():  # a folder is somebody's virtual environment
            warnings.append(f"{path} is not a regular file and was not read.")
        return
    entries = {entry.variable: entry for entry in _dotenv.parse(_decode(content, path), path)}
    for variable, value, line in entries.values():
        where = (f"line {line}", f"{path}, line {line}")
        yield from _from_variable(DOTENV, variable, value, where)


def _from_variable(
    source: str, variable: str, value: str, where: tuple[str, str]
) -> Iterator[Given]:
    if not value.strip() or variable in _OTHER_VARIABLES:
        return
    name = VARIABLES[variable].name if variable in VARIABLES else variable
    location, place = where
    yield Given(source, name, value, location, place, is_text=True)


def from_toml(root: Path) -> Iterator[Given]:
    """Yield the keys of ``nuvom.toml``, or of ``[tool.nuvom]`` in ``pyproject.toml``.

    Raises: InvalidConfigFile: both are there, or one cannot be read or parsed.
    """
    own, shared = root / CONFIG_FILE, root / PYPROJECT
    content, pyproject = read_config_file(own), read_config_file(shared)
    is_shared = pyproject is not None and has_section(pyproject)
    if content is not None and is_shared:
        reason = f"{shared} has a table [tool.nuvom] too; keep the settings in one of the two"
        raise InvalidConfigFile(own, reason)
    if content is not None:
        text = _decode(content, own)
        yield from _from_table(own, text, "", _parse(text, own))
    elif is_shared and pyproject is not None:
        text = _decode(pyproject, shared)
        table = _parse(text, shared).get("tool", {}).get("nuvom", {})
        yield from _from_table(shared, text, "tool.nuvom", table)


def _from_table(path: Path, text: str, table: str, keys: dict[str, Any]) -> Iterator[Given]:
    for key, value in keys.items():
        line = _line_of(text, table, key)
        location = f"line {line}" if line else ""
        place = f"{path}, {location}" if line else str(path)
        yield Given(path.name, key, value, location, place, is_text=False)


def _parse(text: str, path: Path) -> dict[str, Any]:
    if not text.strip():
        return {}
    import tomllib  # noqa: PLC0415  # most projects have no such file

    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and plain ValueError for a number too long
        reason = str(error)
        raise InvalidConfigFile(path, reason[:1].lower() + reason[1:]) from error
    except RecursionError:
        raise InvalidConfigFile(path, "it is nested too deeply") from None


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"line {line} is not UTF-8; save the file in that encoding"
        raise InvalidConfigFile(path, reason) from None


def _line_of(text: str, table: str, key: str) -> int | None:
    """Return the line that gives ``key``; None for spellings that are valid but rare."""
    current = ""
    for number, line in enumerate(text.split("\n"), start=1):
        header = _HEADER.fullmatch(line.rstrip("\r"))
        if header is not None:
            current = re.sub(r"""["'\s]""", "", header["table"])
            if current == f"{table}.{key}".lstrip("."):
                return number
        match = _KEY.match(line)
        if match is not None and current == table and match["key"] == key:
            return number
    return None


def read_config_file(path: Path) -> bytes | None:
    """Return the content of a configuration file, or None where there is no regular file.

    Raises: InvalidConfigFile: it cannot be read, is longer than 4 MiB, or belongs to neither
        the current user, nor root, nor the owner of its folder. (In a folder like ``/tmp``
        anybody could have put it there to send your jobs elsewhere.)
    """
    try:
        descriptor = os.open(path, _READ)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if path.is_dir():  # Windows refuses to open one
            return None
        raise InvalidConfigFile(path, _reason(error)) from error
    try:
        return _read_trusted(descriptor, path)
    except OSError as error:
        raise InvalidConfigFile(path, _reason(error)) from error
    finally:
        os.close(descriptor)


def _read_trusted(descriptor: int, path: Path) -> bytes | None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return None
    if sys.platform != "win32":
        owners = {os.geteuid(), 0, path.parent.stat().st_uid}
        if found.st_uid not in owners:
            raise InvalidConfigFile(path, "it belongs to another user than its folder and you")
    with open(descriptor, "rb", closefd=False) as stream:
        content = stream.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise InvalidConfigFile(path, f"it is longer than {_MAX_FILE_BYTES} bytes")
    return content


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
