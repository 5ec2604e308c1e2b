"""Opens the runtime that a command reads or changes jobs with.

Commands that only read get a runtime that runs no code of the project; those that change
something get one that may load the plugin of the configured backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nuvom.cli.session import project_root, settings
from nuvom.events import default_bus
from nuvom.inspection import Inspector
from nuvom.log import configure_logging, get_logger, reset_logging
from nuvom.logs.events import subscribe_logging
from nuvom.runtime import Runtime, build_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.cli.invocation import Invocation

_LEVELS = ("WARNING", "INFO", "DEBUG")


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
    for loaded in runtime.plugins.started:  # code that ran: whose it is has to be seen
        invocation.out.say(f"Plugin: {loaded.describe()}")
    return runtime, Inspector(runtime)


def _open(invocation: Invocation, root: Path, *, allow_project_plugins: bool) -> Runtime:
    loaded = settings(invocation, root)
    _show_log(invocation)
    runtime = build_runtime(loaded, allow_project_plugins=allow_project_plugins)
    click.get_current_context().call_on_close(runtime.stop)
    return runtime


def _show_log(invocation: Invocation) -> None:
    """Show what the library logs while this command runs: warnings, and more with ``-v``."""
    out = invocation.out
    level = "ERROR" if out.quiet else _LEVELS[min(out.verbosity, len(_LEVELS) - 1)]
    configure_logging(level, "plain")
    context = click.get_current_context()
    context.call_on_close(reset_logging)
    if out.verbosity:
        context.call_on_close(subscribe_logging(default_bus, get_logger(), level))
