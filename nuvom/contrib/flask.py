"""Flask: jobs run in an application context. Needs ``pip install 'nuvom[flask]'``.

``Nuvom(app)``, or ``init_app(app)`` in an application factory, does two things. Jobs that this
process runs get an application context each, and ``flask nuvom ...`` runs Nuvom's command line.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from nuvom.cli import processes
from nuvom.errors import MissingExtra
from nuvom.events import default_bus

try:
    import click
    from flask import current_app, has_app_context
    from flask.cli import ScriptInfo
except ModuleNotFoundError as error:
    if error.name != "flask":
        raise
    raise MissingExtra("nuvom.contrib.flask", "flask") from error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from flask import Flask
    from flask.ctx import AppContext

    from nuvom.core.record import JobRecord

_HEADER = "flask-app"
_APP_VARIABLE = "FLASK_APP"


class Nuvom:
    """Connects Nuvom with Flask applications, as other extensions of Flask do.

    Args:
        app: The application; without it, call ``init_app``, for as many as there are.
    """

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Run jobs in contexts of ``app``, and add ``flask nuvom``. Idempotent.

        An application that is made again under the same ``app.name`` takes the place of the former.
        """
        app.extensions["nuvom"] = self
        app.cli.add_command(_command)
        contexts.add(app)


class AppContexts:
    """The middleware that enters an application context around each job that this process runs.

    A job that was sent in the context of an application carries its name, and runs in a context of
    that one. All others run in a context of the only application.
    """

    in_child = "nuvom.contrib.flask:contexts_in_child"

    def __init__(self) -> None:
        self._apps: dict[str, Flask] = {}

    def add(self, app: Flask) -> None:
        """Run the jobs of ``app``."""
        if not self._apps:
            default_bus.accompany(self)
        self._apps[app.name] = app

    @property
    def is_empty(self) -> bool:
        """Whether there is no application yet."""
        return not self._apps

    def sending(self, job: JobRecord) -> AbstractContextManager[Mapping[str, str]]:
        """Name the current application in the job's headers."""
        del job
        return nullcontext({_HEADER: current_app.name} if has_app_context() else {})

    def handing_over(self, job: JobRecord) -> Mapping[str, str]:
        """Add nothing: the job has its header."""
        del job
        return {}

    def running(self, job: JobRecord) -> AppContext:
        """Return the application context of a job. Raises: LookupError: see the text."""
        name = (job.headers or {}).get(_HEADER, "")
        if name in self._apps:
            return self._apps[name].app_context()
        if len(self._apps) > 1:
            sent = f"by the Flask application {name!r}" if name else "outside a Flask application"
            raise LookupError(
                f"job {job.id} was sent {sent}, and there are several here: {', '.join(self._apps)}"
            )
        (app,) = self._apps.values()
        return app.app_context()


contexts = AppContexts()
"""The one of this process: the applications that ``init_app`` was called with."""


def contexts_in_child() -> AppContexts:
    """Return the middleware for a child of the process lane, which has to create the application.

    The module that the setting ``hooks`` names may have done so; otherwise Flask looks for it.
    """
    if contexts.is_empty:
        ScriptInfo(os.environ.get(_APP_VARIABLE)).load_app()
    return contexts


@click.command(
    "nuvom",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Run a command of Nuvom: runworker, status, ...",
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def _command(info: ScriptInfo, args: tuple[str, ...]) -> None:
    """Pass all arguments on to Nuvom's command line, once the application is created.

    Worker processes that it starts are started in the same way, and children of the process lane
    find the same application.
    """
    from nuvom.cli.cli import main  # noqa: PLC0415  # most processes serve requests

    if info.app_import_path:
        os.environ[_APP_VARIABLE] = info.app_import_path
    processes.launcher = [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(args)]]
    main(args)
