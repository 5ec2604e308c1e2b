"""What Nuvom takes from a Django project: its settings, its root, and which database it uses."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils.module_loading import autodiscover_modules

from nuvom.config.project import search_from
from nuvom.config.sources import use_program_settings
from nuvom.hooks import default_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuvom.config.settings import Settings
    from nuvom.config.sources import Loaded

HOOKS = "nuvom.contrib.django.hooks"
_PORT = "5432"
_SOURCE = "settings.py"
_DEFAULTS = {"task_decorators": ["django.tasks.task"]}
_IN_TESTS = {"queue_backend": "memory", "result_backend": "memory"}


def set_up() -> None:
    """Make this process use the settings and the root of the Django project. Idempotent."""
    use_program_settings(_SOURCE, given_settings, defaults=_DEFAULTS)
    root = _own().get("root") or getattr(django_settings, "BASE_DIR", None)
    if root is not None:
        search_from(Path(root))
    default_hooks.on_commit = _on_commit


def given_settings() -> dict[str, Any]:
    """Return the settings of Nuvom in ``settings.NUVOM``, and what Django needs beyond.

    While Django runs tests, jobs stay in memory unless ``environment`` is ``test``: no worker must
    get them. They are rolled back with the transactions of tests.
    """
    given = {name: value for name, value in _own().items() if name != "root"}
    if _is_in_test_run() and given.get("environment") != "test":
        given.update(_IN_TESTS)
        import_module("nuvom.contrib.django.rollback").follow_tests()  # which imports django.test
    return {**given, "hooks": HOOKS}


def unread_settings(loaded: Loaded) -> list[str]:
    """Return the names that ``settings.NUVOM`` sets and that were not read with these settings."""
    origins = [one for some in loaded.origins.values() for one in some]
    read = {one.name for one in origins if one.source == _SOURCE}
    return sorted(given_settings().keys() - read - {"hooks"})


def users_hooks() -> str | None:
    """Return the project's own module of hooks."""
    name: str | None = _own().get("hooks")
    return name


def _own() -> dict[str, Any]:
    return getattr(django_settings, "NUVOM", {})


def _is_in_test_run() -> bool:
    utils = sys.modules.get("django.test.utils")  # loaded, if Django runs tests
    return utils is not None and hasattr(utils._TestState, "saved_data")  # noqa: SLF001  # the only trace of setup_test_environment()


def _on_commit(action: Callable[[], None]) -> None:
    """Call ``action`` when the current transaction commits; at once if there is none."""
    if connections[DEFAULT_DB_ALIAS].in_atomic_block:
        transaction.on_commit(action)
    else:
        action()


def import_tasks(modules: Iterable[str]) -> None:
    """Import these modules of all apps that have them, which registers the tasks in them."""
    autodiscover_modules(*modules)


# ---- databases --------------------------------------------------------------------------


def same_database(connection: Any, settings: Settings) -> bool:
    """Return whether a connection of Django leads to the database that holds the jobs.

    False if that is not certain, such as when a server is named in two ways. A SQLite file of Nuvom
    is one of its own.
    """
    if settings.queue_backend != "postgres" or connection.vendor != "postgresql":
        return False
    from psycopg import Connection  # noqa: PLC0415  # whoever has such a queue has the driver
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415  # as above

    connection.ensure_connection()
    if not isinstance(connection.connection, Connection):  # psycopg2
        return False
    theirs, ours = connection.settings_dict, conninfo_to_dict(settings.postgres_dsn or "")
    there = (theirs["NAME"], theirs["HOST"], str(theirs["PORT"] or _PORT))
    here = (ours.get("dbname"), ours.get("host") or "", str(ours.get("port") or _PORT))
    return there == here
