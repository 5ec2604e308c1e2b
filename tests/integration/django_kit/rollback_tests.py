"""Tests of a Django project whose jobs are gone when their test is over; run by ``manage.py test``.

``test_django_project.py`` copies it into a project. Tests run in alphabetical order: what one
leaves behind, the next would find.
"""

from importlib import import_module
from typing import Any

from django.db import transaction
from django.tasks import default_task_backend
from django.tasks.exceptions import TaskResultDoesNotExist
from django.test import TestCase, TransactionTestCase

import nuvom
from nuvom.runtime import current_runtime
from nuvom.worker import Worker

tasks: Any = import_module("trial.tasks")  # of the project that this file is copied into


def stored() -> list[tuple[str, str]]:
    """Return tasks and statuses of all jobs, newest first."""
    jobs = nuvom.sdk.list_jobs()
    return [(one.func_name.rpartition(".")[2], str(one.status)) for one in jobs]


class A1Plain(TestCase):
    """The transactions of its first test begin before there is a store."""

    def test_1_jobs_are_seen_in_their_test(self) -> None:
        result = tasks.query.enqueue(1)
        job = tasks.orders.delay()
        assert default_task_backend.get_result(result.id).status == "READY"
        assert nuvom.Job.load(job.id).status == "PENDING"
        assert stored() == [("orders", "PENDING"), ("query", "PENDING")]
        type(self).left = result.id

    def test_2_and_gone_in_the_next(self) -> None:
        assert stored() == []
        with self.assertRaises(TaskResultDoesNotExist):
            default_task_backend.get_result(self.left)

    def test_3_a_transaction_of_the_test_changes_nothing(self) -> None:
        with transaction.atomic():
            tasks.orders.delay()
            with transaction.atomic():
                tasks.orders.delay()
            transaction.set_rollback(True)  # they were stored at once, as in production
        assert stored() == [("orders", "PENDING")] * 2

    def test_4_what_waits_for_the_commit_is_stored_by_its_callback(self) -> None:
        assert stored() == []
        with self.captureOnCommitCallbacks() as callbacks:
            tasks.orders.delay_on_commit()
        assert stored() == []
        for one in callbacks:
            one()
        assert stored() == [("orders", "PENDING")]

    def test_5_and_gone_in_the_next(self) -> None:
        assert stored() == []


class A2ClassData(TestCase):
    """Jobs of ``setUpTestData`` are there in each test, as they were."""

    @classmethod
    def setUpTestData(cls) -> None:
        assert stored() == []
        cls.of_class = tasks.query.enqueue(7).id
        with cls.captureOnCommitCallbacks(execute=True):
            tasks.orders.delay_on_commit()

    def test_1_they_may_change(self) -> None:
        self.change()

    def test_2_and_are_as_they_were_in_the_next(self) -> None:
        self.change()

    def change(self) -> None:
        """Change what is there, and add to it."""
        assert stored() == [("orders", "PENDING"), ("query", "PENDING")]
        Worker(current_runtime(), threads=1, max_jobs=1).run()
        assert default_task_backend.get_result(self.of_class).return_value == 7
        nuvom.Job.load(tasks.orders.delay().id).cancel()
        assert {status for _, status in stored()} == {"SUCCESS", "PENDING", "CANCELLED"}


class A3Next(TestCase):
    """The class before has left nothing."""

    def test_nothing_is_left(self) -> None:
        assert stored() == []


class B1Flushed(TransactionTestCase):
    """Commits are real; after each test, the database is emptied."""

    def test_1_a_commit_stores_jobs(self) -> None:
        with transaction.atomic():
            tasks.orders.delay_on_commit()
            assert stored() == []
        assert stored() == [("orders", "PENDING")]

    def test_2_nothing_is_left(self) -> None:
        assert stored() == []
