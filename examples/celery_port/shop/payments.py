"""Payments: retried for as long as the bank is out of reach, and not when it says no."""

from __future__ import annotations

from nuvom.compat.celery.exceptions import MaxRetriesExceededError, Reject

from shop import world
from shop.celeryapp import ShopTask, app
from shop.mail import receipt, send


@app.task(bind=True, base=ShopTask, acks_late=True)
def charge(self, order_id, cents):
    return world.charge(order_id, cents, self.request.retries)


@app.task(bind=True, max_retries=2, default_retry_delay=0, throws=(world.PaymentDeclined,))
def charge_and_tell(self, order_id, cents):
    try:
        payment = world.charge(order_id, cents, self.request.retries)
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=0)
    receipt.delay(payment, world.ORDERS[order_id]["customer"], order_id)
    return payment


@app.task(bind=True, max_retries=1)
def wait_for_the_bank(self, polls):
    try:
        if self.request.retries < polls:
            raise self.retry(countdown=0, max_retries=5)
    except MaxRetriesExceededError:
        return "the bank has not answered"
    return f"answered at poll {self.request.retries}"


@app.task(base=ShopTask, autoretry_for=(), name="shop.payments.refund")
def refund(order_id, cents):
    if cents <= 0:
        raise Reject(f"nothing to refund for order {order_id}")
    return -cents


@app.task
def declined(order_id):
    send.apply_async((world.ORDERS[order_id]["customer"], "your payment was declined"), priority=0)


@app.task
def total(order_id):
    return sum(world.PRICES[item] for item in world.ORDERS[order_id]["items"])


@app.task
def convert(cents, *, rate=1.0):
    return round(cents * rate)


@app.task(retry_backoff=2, autoretry_for=(TimeoutError,), retry_jitter=False)
def exchange_rate(currency):
    return {"eur": 1.0, "usd": 1.1}[currency]
