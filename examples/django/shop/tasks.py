"""What the shop does in the background: one task of Django's kind, one of Nuvom's own."""

from django.tasks import TaskContext, task

import nuvom
from shop.models import Order


@task(takes_context=True)
def charge(context: TaskContext, order_id: int) -> bool:
    """Take the money for an order. Settings give it three retries."""
    order = Order.objects.get(pk=order_id)
    if order.email.startswith("poor@") and context.attempt == 1:
        raise ConnectionError("the bank does not answer")
    order.is_paid = True
    order.save(update_fields=["is_paid"])
    return True


@nuvom.task(retries=3)
def send_receipt(order_id: int) -> str:
    """Write a receipt."""
    order = Order.objects.get(pk=order_id)
    receipt = f"Receipt for {order}"
    order.receipt = receipt
    order.save(update_fields=["receipt"])
    return receipt
