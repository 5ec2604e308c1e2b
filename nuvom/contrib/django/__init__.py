"""Nuvom as the task backend of Django 6.0 and newer. Needs ``pip install 'nuvom[django]'``.

``TASKS = {"default": {"BACKEND": "nuvom.contrib.django.NuvomBackend"}}`` makes it the backend;
``"nuvom.contrib.django"`` in ``INSTALLED_APPS`` adds ``manage.py nuvom``.
"""

from nuvom.errors import JobCancelled, MissingExtra

try:
    from nuvom.contrib.django.backend import NuvomBackend, NuvomTask
    from nuvom.contrib.django.results import JobDead
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "django":
        raise
    raise MissingExtra("nuvom.contrib.django", "django") from error

__all__ = ["JobCancelled", "JobDead", "NuvomBackend", "NuvomTask"]
