"""An order from its arrival to its parcel."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from nuvom.compat.celery import current_task, shared_task

from shop import mail, world
from shop.celeryapp import app
from shop.payments import charge_and_tell, declined, total


@app.task(bind=True)
def place(self, order_id):
    """Start the payment; its success leads to the parcel."""
    cents = total(order_id)  # a call of a task runs it here
    result = charge_and_tell.apply_async(
        (order_id, cents), link=[pack.si(order_id), note.s(order_id=order_id)]
    )
    return result.id


@app.task
def pack(order_id):
    for item in world.ORDERS[order_id]["items"]:
        reserve.delay(item)
    return ship.apply_async((order_id,), task_id=f"parcel of order {order_id}").id


@app.task(ignore_result=True)
def note(payment, order_id):
    mail.send.delay("books@example.org", f"order {order_id} paid by {payment}")


@app.task
def reserve(item):
    world.STOCK[item] -= 1
    return world.STOCK[item]


@app.task
def ship(order_id):
    return f"parcel {order_id} of {current_task.request.id}"


@app.task
def cancel(order_id):
    declined.delay(order_id)
    return order_id


@shared_task
def remind(order_id):
    return f"reminder for {order_id}"


def remind_tomorrow(order_id):
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    return remind.apply_async((order_id,), eta=tomorrow, expires=tomorrow + timedelta(days=1))


@shared_task
def audit(order_ids):
    return sorted(set(order_ids) - world.ORDERS.keys())


@shared_task
def archive(order_id, *, reason="old"):
    return f"{order_id} ({reason})"
