"""Stands in for the database and for the services that the shop calls."""

from __future__ import annotations

import hashlib
from pathlib import Path

ORDERS = {n: {"customer": f"customer{n % 3}@example.org", "items": [n, n + 1]} for n in range(1, 7)}
PRICES = {n: 100 * n for n in range(1, 9)}
STOCK = {n: 5 for n in range(1, 9)}
OUTBOX = Path("outbox.txt")


class PaymentDeclined(Exception):
    """The customer's bank says no."""


def deliver(to: str, text: str) -> None:
    with OUTBOX.open("a", encoding="utf-8") as outbox:
        outbox.write(f"{to}: {text}\n")


def charge(order_id: int, cents: int, attempt: int) -> str:
    if order_id == 4:
        raise PaymentDeclined(f"order {order_id}")
    if order_id == 2 and attempt < 2:
        raise ConnectionError("the bank does not answer")
    return hashlib.sha256(f"{order_id} {cents}".encode()).hexdigest()[:12]
