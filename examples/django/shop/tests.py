"""Tests of the shop, run by ``manage.py test``; their jobs never reach a worker."""

from types import SimpleNamespace

from django.tasks import default_task_backend
from django.tasks.exceptions import TaskResultDoesNotExist
from django.test import TestCase

from shop.models import Order
from shop.tasks import charge, send_receipt


class CheckOut(TestCase):
    """Of what a request leaves behind."""

    def test_the_jobs_come_with_the_commit(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            answer = self.client.post("/check-out/", {"email": "ann@example.com"}).json()
        assert charge.get_result(answer["charge"]).status == "READY"

    def test_without_a_commit_there_are_none(self) -> None:
        answer = self.client.post("/check-out/", {"email": "ann@example.com"}).json()
        with self.assertRaises(TaskResultDoesNotExist):
            default_task_backend.get_result(answer["charge"])

    def test_a_request_that_fails_leaves_nothing(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            answer = self.client.post("/check-out/", {"email": "nobody"})
        assert (answer.status_code, callbacks, Order.objects.count()) == (400, [], 0)

    def test_a_task_can_be_called(self) -> None:
        order = Order.objects.create(email="ann@example.com")
        context = SimpleNamespace(attempt=1)
        assert charge.func(context, order.pk) is True
        assert send_receipt(order.pk) == f"Receipt for order {order.pk} of ann@example.com"
