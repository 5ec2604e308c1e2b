"""Has the shop do a day's work: enqueues calls, runs a worker, and prints what came of them."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings

from shop import mail, orders, payments, reports
from shop.celeryapp import app

from nuvom.compat.celery.result import AsyncResult

WAIT = 60


def parcel_of(payment: AsyncResult) -> AsyncResult:
    """Wait until the payment has led to a parcel."""
    payment.get(WAIT)
    warnings.simplefilter("ignore")  # until the parcel is there, its id is unknown
    parcel = AsyncResult("parcel of order 1")
    while not parcel.ready():
        time.sleep(0.01)
    return parcel


def main() -> None:
    """Enqueue, run, and print what came of it."""
    placed = {n: orders.place.delay(n) for n in (1, 2, 4)}
    bank = payments.wait_for_the_bank.delay(4), payments.wait_for_the_bank.delay(9)
    unreachable = payments.charge.delay(2, 500)
    news = mail.newsletter.delay([f"reader{n}@example.org" for n in range(5)])
    tenants = mail.which_tenant.delay(), mail.which_tenant.apply_async(headers={"tenant": "two"})
    sales = app.send_task("shop.reports.sales", [[1, 2, 3]])
    ignored, partial = reports.if_needed.delay("sunday"), reports.endless.delay()
    rates, refund = reports.exchange_rates.delay("eur"), payments.refund.delay(1, 0)
    revoked = reports.cleanup.apply_async(countdown=3600)
    revoked.revoke()
    reminder = orders.remind.apply_async((1,), countdown=24 * 3600)

    with subprocess.Popen([sys.executable, "-m", "nuvom", "runworker", "--quiet"]) as worker:
        paid = {n: AsyncResult(one.get(WAIT)) for n, one in placed.items()}
        print("charged  ", unreachable.get(WAIT), "after", unreachable.retries, "retries")
        print("parcel   ", parcel_of(paid[1]).get(WAIT))
        print("bank     ", [one.get(WAIT) for one in bank])
        for one in (*paid.values(), *tenants, news, sales, ignored, partial, rates, refund):
            one.get(WAIT, propagate=False)
        worker.terminate()
    print("paid     ", {n: one.state for n, one in paid.items()})
    print("declined ", paid[4].result.text, paid[4].failed())
    print("news     ", news.get(), [one.get() for one in tenants])
    print("reports  ", sales.get(), partial.get(), ignored.state, rates.get(), refund.state)
    print("waiting  ", reminder.state, revoked.state, reminder.queue, sales.queue)


if __name__ == "__main__":
    main()
