"""The files of a new project, and how they are written without harming what is there."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from nuvom.config.project import CONFIG_FILE, PYPROJECT, ensure_state_dir, has_section
from nuvom.discovery.manifest import write_manifest
from nuvom.discovery.scan import scan
from nuvom.errors import BackendUnavailable, StorageFull

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = '''\
"""Tasks of this project: plain functions that can also run later, in a worker."""

from nuvom import task


@task
def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


@task(retries=3, retry_delay_secs=2)
def greet(name: str = "world") -> str:
    """Say hello. Were it to fail, it would be tried again three times."""
    return f"Hello, {name}!"
'''
CONFIG = """\
# Settings of this Nuvom project. All that there are: nuvom config
# Why one has its value: nuvom config explain KEY

# environment = "prod"      # dev (default), test or prod
# max_workers = 8           # threads of a worker; default 4
# job_timeout_secs = 300    # for tasks that give no timeout_secs
"""
IGNORE = """\
# What `nuvom discover tasks` leaves out; the rules are those of .gitignore.
tests/
docs/
"""
GITIGNORE = ".gitignore"
_STATE_LINES = frozenset({".nuvom", ".nuvom/", "/.nuvom", "/.nuvom/"})


class Written(NamedTuple):
    """What became of one file: ``written``, ``extended`` or ``kept``."""

    file: str
    change: str


def write_project(root: Path, *, force: bool) -> Iterator[Written]:
    """Make ``root`` a project; yield each file and what became of it. Twice is safe.

    Args:
        force: Overwrite the files that ``init`` writes. ``.gitignore`` is only ever extended.

    Raises: BackendUnavailable, StorageFull: a file cannot be written.
    """
    _make_folder(root)
    for file, text in (("tasks.py", TASKS), (CONFIG_FILE, CONFIG), (".nuvomignore", IGNORE)):
        if file == CONFIG_FILE and _is_configured_elsewhere(root):
            yield Written(PYPROJECT, "kept")
        else:
            yield _write(root / file, text, force=force)
    yield _extend_gitignore(root / GITIGNORE)
    ensure_state_dir(root)
    found = scan(root)
    write_manifest(root / ".nuvom" / "manifest.json", found.tasks, root=root)


def _make_folder(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(root, error) from error


def _is_configured_elsewhere(root: Path) -> bool:
    try:
        return has_section((root / PYPROJECT).read_bytes())
    except OSError:  # there is none
        return False


def _write(path: Path, text: str, *, force: bool) -> Written:
    try:
        # ``x`` refuses what is there already, without a moment in between.
        with open(path, "w" if force else "x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except FileExistsError:
        return Written(path.name, "kept")
    except OSError as error:
        raise _cannot_write(path, error) from error
    return Written(path.name, "written")


def _extend_gitignore(path: Path) -> Written:
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if _STATE_LINES.intersection(line.strip() for line in before.splitlines()):
            return Written(path.name, "kept")
        lead = "\n" if before and not before.endswith("\n") else ""
        with open(path, "a", encoding="utf-8", newline="") as stream:
            stream.write(f"{lead}.nuvom/\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot_write(path, error) from error
    return Written(path.name, "extended" if before else "written")


def _cannot_write(
    path: Path, error: OSError | UnicodeDecodeError
) -> BackendUnavailable | StorageFull:
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    if getattr(error, "errno", None) == errno.ENOSPC:
        return StorageFull(path, reason)
    return BackendUnavailable(path, reason, "Make it writable, or name another: nuvom init DIR")
