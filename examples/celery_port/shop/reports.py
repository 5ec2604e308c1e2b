"""Long work that reports how far it is, and stops when it is told to."""

from __future__ import annotations

from nuvom.compat.celery import shared_task
from nuvom.compat.celery.exceptions import Ignore, SoftTimeLimitExceeded

from shop import world


@shared_task(bind=True)
def sales(self, order_ids):
    cents = 0
    for position, order_id in enumerate(order_ids):
        self.update_state(state="PROGRESS", meta={"current": position, "total": len(order_ids)})
        cents += sum(world.PRICES[item] for item in world.ORDERS[order_id]["items"])
    return cents


@shared_task(soft_time_limit=0.2, time_limit=30)
def endless():
    pages = 0
    try:
        while True:
            pages += 1
    except SoftTimeLimitExceeded:
        return "partial"


@shared_task
def if_needed(day):
    if day == "sunday":
        raise Ignore("nothing is sold on Sundays")
    return f"report of {day}"


@shared_task
def stock():
    return len(world.STOCK)


@shared_task
def by_customer(customer):
    return [n for n, order in world.ORDERS.items() if order["customer"] == customer]


@shared_task
async def exchange_rates(*currencies):
    return {currency: 1.0 for currency in currencies}


@shared_task
def publish(path, rows):
    return f"{rows} rows in {path}"


@shared_task
def cleanup(days=30):
    return days
