"""Jobs of Django's tests are rolled back as the rows of their database are.

Django has no signal for it, so the methods of its test classes that begin a test's transaction,
roll it back, or empty the database do the same with the store. This module is imported only while
Django runs tests, and affects only the store in memory that jobs are kept in meanwhile.
"""

from __future__ import annotations

from typing import Any

from django.test.testcases import TestCase, TransactionTestCase

from nuvom.runtime import built_runtime

_begin = TestCase._enter_atomics.__func__  # noqa: SLF001  # there is no public name for it
_roll_back = TestCase._rollback_atomics.__func__  # noqa: SLF001  # as above
_flush = TransactionTestCase._fixture_teardown  # noqa: SLF001  # as above
_savepoints: list[list[Any]] = []  # of the class that runs, and of its test


def follow_tests() -> None:
    """Roll the store back with each test from now on. Idempotent."""
    TestCase._enter_atomics = classmethod(_enter_atomics)  # noqa: SLF001  # as above
    TestCase._rollback_atomics = classmethod(_rollback_atomics)  # noqa: SLF001  # as above
    TransactionTestCase._fixture_teardown = _fixture_teardown  # noqa: SLF001  # as above


def _enter_atomics(cls: type[TestCase]) -> Any:
    atomics = _begin(cls)
    store = _store()
    _savepoints.append([] if store is None else store.savepoint())
    return atomics


def _rollback_atomics(cls: type[TestCase], atomics: Any) -> None:
    try:
        _roll_back(cls, atomics)
    finally:
        # A transaction that began before the first job has no savepoint: there were no jobs.
        _restore(_savepoints.pop() if _savepoints else [])


def _fixture_teardown(self: TransactionTestCase) -> None:
    try:
        _flush(self)
    finally:
        _restore([])


def _restore(savepoint: list[Any]) -> None:
    store = _store()
    if store is not None:
        store.rollback(savepoint)


def _store() -> Any:
    """Return the queue in memory, or None: it is not used yet, or the tests have another store."""
    runtime = built_runtime()
    if runtime is None or runtime.settings.environment == "test":
        return None
    return runtime.queue if runtime.settings.queue_backend == "memory" else None
