"""Settings of the project. Everything that concerns tasks is at the end."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "for this example only"
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]
ROOT_URLCONF = "config.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["nuvom.contrib.django", "shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", BASE_DIR / "shop.sqlite3"),
        "ATOMIC_REQUESTS": True,  # a request that fails leaves nothing behind
    }
}

TASKS = {
    "default": {
        "BACKEND": "nuvom.contrib.django.NuvomBackend",
        "OPTIONS": {
            "enqueue_on_commit": True,  # nor does it leave a job behind
            "task_options": {"shop.tasks.charge": {"retries": 3, "retry_delay_secs": 1}},
        },
    }
}
NUVOM = {"job_timeout_secs": 60}
