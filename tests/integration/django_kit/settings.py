"""A Django project for the conformance kit: a SQLite file, no task backend of its own."""

from pathlib import Path

BASE_DIR = Path.cwd()
SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = ["nuvom.contrib.django"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(BASE_DIR / "db.sqlite3"),
        "TEST": {"NAME": str(BASE_DIR / "test.sqlite3")},
    }
}
LOGGING_CONFIG = None
