"""The module of hooks of a project: it writes down what is called, and where."""

from __future__ import annotations

import os

import nuvom
from tests.acceptance.task_needs import HOOKS_WRITE_TO, TENANT, note


def _tell(text: str) -> None:
    if path := os.environ.get(HOOKS_WRITE_TO):
        note(path, text)


@nuvom.on_worker_start
def start() -> None:
    _tell(f"start {os.getpid()}")


@nuvom.on_worker_stop
def stop() -> None:
    _tell("stop")
    raise ValueError("which must not keep the worker from ending")


@nuvom.before_each_job
def before() -> None:
    TENANT.set(nuvom.current_job().task)
    _tell(f"before {os.getpid()}")


@nuvom.after_each_job
def after(result: object) -> None:
    _tell(f"after {result} for {TENANT.get()}")
    raise ValueError("which must not change the outcome")


@nuvom.on_each_error
def error(exception: BaseException) -> None:
    _tell(f"error {exception!r} for {TENANT.get()}")
