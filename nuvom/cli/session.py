"""Opens the project that a command works on: its root, its settings, its runtime.

Commands that only read get a runtime that runs no code of the project; those that change
something get one that may load the plugin of the configured backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nuvom.config_sources import Loaded, load
from nuvom.errors import ProjectNotFound
from nuvom.inspection import Inspector
from nuvom.project import find_root, require_root
from nuvom.runtime import Runtime, build_runtime

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
    """Return the project's root or, where there is none, the folder that would become one."""
    from pathlib import Path  # noqa: PLC0415  # only the type is needed elsewhere

    if invocation.project is not None:
        return invocation.project.resolve()
    return find_root() or Path.cwd()


def settings(
    invocation: Invocation, root: Path, flags: Mapping[str, object] | None = None
) -> Loaded:
    """Return the settings of the project at ``root``; what is odd about them is a warning."""
    loaded = load(root, flags=flags)
    for warning in loaded.warnings:
        invocation.out.warn(warning)
    return loaded


def reader(invocation: Invocation) -> tuple[Runtime, Inspector]:
    """Return a runtime for reading, which loads no code of the project.

    Raises: ProjectNotFound, ConfigError, PluginNotLoaded.
    """
    runtime = _open(invocation, project_root(invocation), allow_project_plugins=False)
    return runtime, Inspector(runtime)


def writer(invocation: Invocation, root: Path | None = None) -> tuple[Runtime, Inspector]:
    """Return a runtime for changing jobs, which may load the configured backend's plugin.

    Raises: ProjectNotFound, ConfigError, UnknownBackend, PluginError.
    """
    root = project_root(invocation) if root is None else root
    runtime = _open(invocation, root, allow_project_plugins=True)
    return runtime, Inspector(runtime)


def _open(invocation: Invocation, root: Path, *, allow_project_plugins: bool) -> Runtime:
    loaded = settings(invocation, root)
    runtime = build_runtime(loaded, allow_project_plugins=allow_project_plugins)
    click.get_current_context().call_on_close(runtime.stop)
    return runtime
