"""The application: settings, base class and signals that all tasks share."""

from __future__ import annotations

import logging
from collections import Counter

from nuvom.compat.celery import Celery, Task
from nuvom.compat.celery.signals import (
    before_task_publish,
    task_failure,
    task_prerun,
    task_retry,
    task_success,
    worker_ready,
    worker_shutdown,
)

logger = logging.getLogger(__name__)
counts: Counter[str] = Counter()
"""What the signals have told; a real project would send it to its metrics."""


class ShopTask(Task):
    """The base of tasks that talk to other services: patient, and loud when they give up."""

    autoretry_for = (ConnectionError,)
    max_retries = 4
    retry_backoff = True
    retry_backoff_max = 1
    alerts: list[str] = []

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        self.alerts.append(f"{self.name} {args}: {exc!r}")

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        logger.info("%s is tried again: %r", self.name, exc)


class ShopCelery(Celery):
    """Our own application class."""


app = ShopCelery("shop", broker="redis://localhost:6379/0")
app.config_from_object("shop.celeryconfig")
app.autodiscover_tasks()


@before_task_publish.connect
def pass_on_the_request(sender=None, headers=None, **kwargs):
    headers.setdefault("tenant", "default")


@task_prerun.connect
def count_start(task_id=None, task=None, **kwargs):
    counts["started"] += 1


@task_success.connect
def count_success(sender=None, result=None, **kwargs):
    counts["succeeded"] += 1


@task_retry.connect
def count_retry(sender=None, reason=None, **kwargs):
    counts["retried"] += 1


@task_failure.connect
def count_failure(sender=None, task_id=None, exception=None, **kwargs):
    counts["failed"] += 1


@worker_ready.connect
def connect_to_the_warehouse(sender=None, **kwargs):
    counts["workers"] += 1
    print("the worker is ready")


@worker_shutdown.connect
def say_what_was_done(sender=None, **kwargs):
    print(
        "started {started}, succeeded {succeeded}, retried {retried}, failed {failed}".format_map(
            counts
        )
    )
