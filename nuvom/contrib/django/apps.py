"""The app ``nuvom.contrib.django``: settings, ``manage.py nuvom``, a check of the store."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks

from nuvom.contrib.django.project import set_up
from nuvom.core.guard import engine_call
from nuvom.errors import NuvomError
from nuvom.runtime import current_runtime


class NuvomConfig(AppConfig):
    """Connects Nuvom with the Django project that it is installed in."""

    name = "nuvom.contrib.django"
    label = "nuvom"
    verbose_name = "Nuvom"

    def ready(self) -> None:
        """Have Nuvom use the project's settings."""
        set_up()
        checks.register(check_store, checks.Tags.database)


@engine_call
def check_store(databases: Any = None, **kwargs: Any) -> list[Any]:
    """Check that the store can be read; only ``manage.py check --database ALIAS`` asks for it."""
    del kwargs
    if not databases:
        return []
    try:
        current_runtime().queue.qsize()
    except NuvomError as error:
        return [checks.Error(error.what, hint=error.fix, id="nuvom.E005")]
    return []
