"""Loggers of tasks, as in ``celery.utils.log``."""

from __future__ import annotations

import logging

task_logger = logging.getLogger("nuvom.celery.task")


def get_task_logger(name: str) -> logging.Logger:
    """Return a logger for the tasks of a module; Nuvom adds the job to each line by itself."""
    return logging.getLogger(name)


get_logger = get_task_logger
