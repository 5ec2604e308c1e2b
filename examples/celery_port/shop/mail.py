"""Messages to customers."""

from __future__ import annotations

from nuvom.compat.celery import shared_task
from nuvom.compat.celery.utils.log import get_task_logger

from shop.world import deliver

logger = get_task_logger(__name__)


@shared_task
def send(to, subject, body=""):
    logger.info("to %s: %s", to, subject)
    deliver(to, subject)
    return subject


@shared_task(ignore_result=True)
def receipt(payment, to, order_id):
    send(to, f"receipt {payment} for order {order_id}")


@shared_task(name="shop.mail.welcome", expires=3600)
def welcome(to):
    send(to, "welcome")


@shared_task(bind=True, max_retries=3)
def newsletter(self, recipients):
    """Send in portions; what is left goes into another task."""
    now, later = recipients[:2], recipients[2:]
    for to in now:
        send(to, "news")
    if later:
        self.apply_async((later,), headers={"part_of": self.request.root_id})
    return len(now)


@shared_task
def digest(to, *lines, title="digest"):
    send(to, f"{title}: {len(lines)} lines")


@shared_task(bind=True)
def which_tenant(self):
    return self.request.tenant


@shared_task
def unsubscribe(to):
    return f"{to} is gone"
