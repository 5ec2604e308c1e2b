"""Locates a project: its root, its ``.nuvom`` folder, and the module names of its files.

The search for the root goes up from the working directory. It never passes a place where another
user could have planted a marker. All code that writes into ``.nuvom`` calls this module first.
"""

from __future__ import annotations

import keyword
import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nuvom.errors import BackendUnavailable, ProjectNotFound
from nuvom.host.files import (
    check_private,
    make_private_folders,
    storage_error,
    storage_errors,
    sync_directory,
    write_durably,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuvom.errors import QueueError

STATE_DIR = ".nuvom"
CONFIG_FILE = "nuvom.toml"
PYPROJECT = "pyproject.toml"
ROOT_VARIABLE = "NUVOM_ROOT"

_SECTION = re.compile(rb"^[ \t]*\[[ \t]*tool[ \t]*\.[ \t]*nuvom[ \t]*[\].]", re.MULTILINE)
_GONE = "a working directory that no longer exists"
_start: Path | None = None


# ---- the root -------------------------------------------------------------------------


def search_from(folder: Path | None) -> None:
    """Search from ``folder`` where no other start is given; None: from the working directory.

    For frameworks, which know where their project is whatever the working directory is. Without a
    marker, ``folder`` itself is the root.
    """
    global _start  # noqa: PLW0603  # a process belongs to one project of a framework
    _start = folder


def find_root(start: Path | None = None) -> Path | None:
    """Return the absolute root of the project around ``start``, or None.

    Without ``start`` it is the folder in the environment variable ``NUVOM_ROOT``, if that is set.
    Else it is the nearest folder, from ``start`` (default: see ``search_from``) upwards, with
    ``.nuvom/``, ``nuvom.toml`` or ``[tool.nuvom]`` in ``pyproject.toml``. The search always
    includes ``start``, since the user chose to work there. The user did not choose the folders
    above, so the search stops before the home folder, another file system, a folder of another
    user (root is trusted), and a world-writable folder.
    """
    found, _ = _search(start)
    return found


def require_root(start: Path | None = None) -> Path:
    """Return what ``find_root`` finds.

    Raises: ProjectNotFound: there is none; the error lists the folders searched.
    """
    found, tried = _search(start)
    if found is None:
        raise ProjectNotFound(tried or [_GONE])
    return found


def root_or_here() -> Path:
    """Return the project's root or, if there is none, the working directory.

    Raises: ProjectNotFound: the working directory has been removed.
    """
    return find_root() or here()


def here() -> Path:
    """Return the working directory, or what ``search_from`` was given in its place.

    Raises: ProjectNotFound: it has been removed.
    """
    if _start is not None:
        return _start
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ProjectNotFound([_GONE]) from None


def _search(start: Path | None) -> tuple[Path | None, list[Path]]:
    given = os.environ.get(ROOT_VARIABLE, "").strip() if start is None else ""
    if given:
        chosen = Path(os.path.realpath(given))
        return (chosen, []) if chosen.is_dir() else (None, [chosen])
    try:
        first = Path(os.path.realpath(start or _start or Path.cwd()))
        device = first.stat().st_dev
    except OSError:  # the working directory was removed, or ``start`` does not exist
        return None, [] if start is None else [start]
    tried = []
    for folder in (first, *first.parents):
        if folder != first and _is_border(folder, device):
            break
        tried.append(folder)
        if _has_marker(folder):
            return folder, tried
    return (_start if start is None else None), tried


def _has_marker(folder: Path) -> bool:
    if os.path.isdir(folder / STATE_DIR) or os.path.isfile(folder / CONFIG_FILE):
        return True
    try:
        return has_section((folder / PYPROJECT).read_bytes())
    except OSError:  # missing or unreadable: no marker
        return False


def has_section(pyproject: bytes) -> bool:
    """Return whether a ``pyproject.toml`` has a ``[tool.nuvom]`` header, without parsing it."""
    return b"nuvom" in pyproject and _SECTION.search(pyproject) is not None


def _is_border(folder: Path, device: int) -> bool:
    home = os.path.realpath(os.path.expanduser("~"))
    if os.path.normcase(folder) == os.path.normcase(home):
        return True
    try:
        found = folder.stat()
    except OSError:
        return True
    return found.st_dev != device or not _is_trusted(found)


def _is_trusted(folder: os.stat_result) -> bool:
    if sys.platform == "win32":  # stat results have no owner or mode there
        return True
    if folder.st_mode & stat.S_IWOTH:
        return False
    if folder.st_uid == os.geteuid():
        return True
    return folder.st_uid == 0 and not folder.st_mode & stat.S_IWGRP


# ---- the .nuvom folder and its content ------------------------------------------------


def ensure_state_dir(root: Path, *, setting: str = "sqlite_path") -> Path:
    """Create ``root/.nuvom`` if missing (mode 0700, ignored by Git), and return it.

    Args:
        root: The project root.
        setting: For the error, the setting that moves the data to be written there.

    Raises:
        BackendUnavailable: it cannot be created, or is not safe; see ``check_state_dir``.
        StorageFull: the disk is full.
    """
    folder, ignore = root / STATE_DIR, root / STATE_DIR / ".gitignore"
    _make_folder(folder, setting)
    check_state_dir(root)
    if not os.path.lexists(ignore):
        write_durably(ignore, b"*\n", flush=False)
    return folder


def _make_folder(folder: Path, setting: str) -> None:
    try:
        make_private_folders(os.path.abspath(folder))
    except OSError as error:
        raise cannot_write(folder, error, setting) from error


def check_state_dir(root: Path) -> bool:
    """Return whether ``root/.nuvom`` exists, and check that no other user can tamper with it.

    Raises: BackendUnavailable: it is a symbolic link, is not a folder, belongs to another user,
        or others can write to it. The error says how to fix that.
    """
    try:
        check_private(root / STATE_DIR)
    except FileNotFoundError:
        return False
    return True


def ensure_folder_for(path: Path, *, root: Path, setting: str) -> None:
    """Create the folder of ``path`` with mode 0700 if it is missing.

    Args:
        path: Absolute path of a file to be written, in ``.nuvom`` or anywhere else.
        root: The project root.
        setting: For the error, the setting that moves the file.

    Raises: as ``ensure_state_dir``.
    """
    if path.is_relative_to(root / STATE_DIR):
        ensure_state_dir(root, setting=setting)
    _make_folder(path.parent, setting)


def ensure_lasting_folder_for(path: Path, *, root: Path, setting: str) -> None:
    """Do the same as ``ensure_folder_for``, and make the folder survive a power cut.

    Folder entries inside the project are flushed on every call, since another process may have
    just created them.

    Raises: as ``ensure_state_dir``.
    """
    ensure_folder_for(path, root=root, setting=setting)
    inside = [folder for folder in path.parents if root in folder.parents]
    with storage_errors(path.parent):
        for folder in inside:
            with suppress(PermissionError):  # an unreadable folder cannot be flushed
                sync_directory(folder.parent)


def create_private_file(path: Path, *, setting: str) -> bool:
    """Create ``path`` as an empty file with mode 0600; return False if it already exists.

    SQLite gives the files beside a database the database's mode. A database file that is created
    here first keeps all of them private.

    Raises:
        BackendUnavailable: it cannot be created, is a symbolic link, or is not a regular file.
        StorageFull: the disk is full.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        mode = os.lstat(path).st_mode
    except OSError as error:
        raise cannot_write(path, error, setting) from error
    else:
        return True
    if stat.S_ISLNK(mode):
        repair = f"Remove the link, or name the real file with the setting {setting}."
        raise BackendUnavailable(path, "it is a symbolic link", repair)
    if not stat.S_ISREG(mode):
        raise BackendUnavailable(path, "it is not a regular file", "Move it away.")
    return False


def cannot_write(path: Path, error: OSError, setting: str) -> QueueError:
    """Return the error that says what could not be written and which setting moves it."""
    repair = f"Make it writable, or move it with the setting {setting} (NUVOM_{setting.upper()})."
    return storage_error(path, error, repair)


# ---- module names ---------------------------------------------------------------------


def import_roots(root: Path, source_roots: Iterable[str] = ()) -> list[Path]:
    """Return the import roots: ``root``, then ``src`` unless that is a package, then others.

    Args:
        source_roots: The setting, folders relative to ``root``.
    """
    source = root / "src"
    is_root = source.is_dir() and not (source / "__init__.py").exists()
    others = [root / one for one in source_roots]
    return list(dict.fromkeys([root, *([source] if is_root else ()), *others]))


def module_path(path: Path, root: Path, source_roots: Iterable[str] = ()) -> Path | None:
    """Return the file ``path`` relative to the import root that contains it, or None."""
    # Try the path as given: a link within the project goes by the name of the link. Then resolve
    # it, since two paths may lead to the same project (on macOS, /tmp is /private/tmp).
    for plain in (os.path.abspath, os.path.realpath):
        file, top = Path(plain(path)), Path(plain(root))
        if file.is_relative_to(top):
            roots = import_roots(top, source_roots)
            bases = [one for one in roots if file.is_relative_to(one)]
            return file.relative_to(max(bases, key=lambda one: len(one.parts)))
    return None


def module_name_for(path: Path, root: Path, source_roots: Iterable[str] = ()) -> str | None:
    """Return the module name that imports the file ``path`` from the project, or None.

    It is None if the file is outside ``root``, is not Python, or is the ``__init__.py`` of
    ``root`` itself, or if a part of the name is not an identifier (``my-tasks.py``).
    """
    relative = module_path(path, root, source_roots)
    if relative is None or relative.suffix != ".py":
        return None
    parts = relative.with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    is_importable = all(part.isidentifier() and not keyword.iskeyword(part) for part in parts)
    return ".".join(parts) if parts and is_importable else None


def module_of_program(path: str) -> str:
    """Return the module name of a program, whether or not it is in a project."""
    root = find_root(Path(path).parent)
    inside = None if root is None else module_path(Path(path), root)
    name = os.path.basename(path) if inside is None else os.fspath(inside)
    return name.removesuffix(".py").replace(os.sep, ".")
