"""Runs Django's own tests of its tasks with Nuvom in place of the immediate and the dummy backend.

``python -m tests.integration.django_kit.suite FOLDER`` prints what failed and the counts as JSON.
``FOLDER`` is an unpacked source distribution of Django: its code is used, and its tests are run.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

SUPPORTED = "Nuvom supports this; the test expects that it is refused"
IN_MEMORY = "the test changes the dummy backend's list in memory, which is its store"
NOT_APPLICABLE = {
    "ImmediateBackendTestCase.test_cannot_get_result": SUPPORTED,
    "ImmediateBackendTestCase.test_cannot_refresh_result": SUPPORTED,
    "ImmediateBackendTestCase.test_cannot_pass_run_after": SUPPORTED,
    "ImmediateBackendTestCase.test_throws_keyboard_interrupt": (
        "a task that raises KeyboardInterrupt fails; it does not end the worker"
    ),
    "DummyBackendTestCase.test_refresh_result": IN_MEMORY,
    "DummyBackendTestCase.test_refresh_result_async": IN_MEMORY,
}


def main(folder: Path) -> int:
    """Run the tests in this process; return the exit code."""
    sys.path[:0] = [str(folder), str(folder / "tests")]
    warnings.simplefilter("ignore", RuntimeWarning)  # enqueued inside a transaction: so they do
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="tests",
        USE_TZ=True,
        TIME_ZONE="America/Chicago",  # as in Django's own settings for tests
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["nuvom.contrib.django"],
    )
    django.setup()
    assert Path(django.__file__).is_relative_to(folder), django.__file__
    _replace_backends()
    from django.test.runner import DiscoverRunner
    from django.test.utils import get_runner

    runner = get_runner(settings, "django.test.runner.DiscoverRunner")(verbosity=0)
    assert isinstance(runner, DiscoverRunner)
    runner.setup_test_environment()
    suite = runner.build_suite(["tasks"])
    databases = runner.setup_databases()
    result = runner.run_suite(suite)
    runner.teardown_databases(databases)
    failed = {_name(one) for one, _ in result.failures + result.errors}
    found: dict[str, Any] = {
        "django": django.__version__,
        "passed": result.testsRun - len(failed),
        "failed": sorted(failed - NOT_APPLICABLE.keys()),
        "passed_although_listed": sorted(NOT_APPLICABLE.keys() - failed),
        "not_applicable": sorted(failed & NOT_APPLICABLE.keys()),
    }
    print(json.dumps(found))
    return 0


def _name(test: Any) -> str:
    test = getattr(test, "test_case", test)  # a subtest
    return f"{type(test).__name__}.{test._testMethodName}"


def _replace_backends() -> None:
    from django.tasks.backends import dummy, immediate
    from django.tasks.backends.base import BaseTaskBackend

    from nuvom.contrib.django import NuvomBackend
    from nuvom.runtime import current_runtime
    from nuvom.worker import Worker

    class SynchronousBackend(NuvomBackend):
        """Calls ``enqueue()`` for ``aenqueue()`` too, as backends of Django do."""

        aenqueue = BaseTaskBackend.aenqueue

    class ImmediateBackend(SynchronousBackend):
        """Has a worker run each task before ``enqueue()`` returns."""

        def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
            result = super().enqueue(task, args, kwargs)
            Worker(current_runtime(), threads=1, burst=True).run()
            result.refresh()
            return result

    class DummyBackend(SynchronousBackend):
        """Keeps a list of the results, besides."""

        def __init__(self, alias: str, params: Any) -> None:
            super().__init__(alias, params)
            self.results: list[Any] = []

        def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
            self.results.append(super().enqueue(task, args, kwargs))
            return self.results[-1]

        def clear(self) -> None:
            self.results.clear()
            current_runtime().control.purge("default")

    immediate.ImmediateBackend = ImmediateBackend
    dummy.DummyBackend = DummyBackend


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
