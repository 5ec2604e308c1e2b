"""Finds the project that a command works on: its root and its settings.

Commands that open no store need no more, and start the sooner for it; the others go on to
``nuvom.cli.opening``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.config.project import find_root, require_root, root_or_here
from nuvom.config.sources import Loaded, load
from nuvom.errors import ProjectNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nuvom.cli.invocation import Invocation


def project_root(invocation: Invocation) -> Path:
    """Return the root of the project around the working directory, or that of ``--project``.

    Raises: ProjectNotFound.
    """
    given = invocation.project
    if given is None:
        return require_root()
    root = find_root(given)
    if root is None or root != given.resolve():
        raise ProjectNotFound([given])
    return root


def folder_or_root(invocation: Invocation) -> Path:
    """Return the project's root or, where there is none, the folder that would become one.

    Raises: ProjectNotFound: somebody has removed the working directory.
    """
    return root_or_here() if invocation.project is None else invocation.project.resolve()


def project_or_here(invocation: Invocation) -> Path:
    """Return the project's root or, where there is none, the working directory.

    Raises: ProjectNotFound: what ``--project`` names is none.
    """
    return folder_or_root(invocation) if invocation.project is None else project_root(invocation)


def settings(
    invocation: Invocation, root: Path, flags: Mapping[str, object] | None = None
) -> Loaded:
    """Return the settings of the project at ``root``; what is odd about them is a warning."""
    loaded = load(root, flags=flags)
    for warning in loaded.warnings:
        invocation.out.warn(warning)
    return loaded
