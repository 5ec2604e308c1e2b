"""Conformance tests for task backends of Django: of any backend, run by Django's test runner.

Derive a class from ``TaskBackendCases`` and a class of Django's tests, name the backend, and say
how its tasks are run::

    class MyBackendTests(TaskBackendCases, TransactionTestCase):
        backend = "shop.tasks.MyBackend"

        def run_tasks(self):
            run_my_worker_until_it_is_idle()

What a backend says that it does not support is skipped, with the reason.
"""

from nuvom.contrib.django.conformance.cases import TaskBackendCases

__all__ = ["TaskBackendCases"]
