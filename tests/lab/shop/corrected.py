from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom import Retry, task

from .tasks import OutOfStockError, build_report, charge, send_receipt

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from nuvom import Job


def confirm(order_id: int) -> Job[str]:
    return send_receipt.delay(order_id, "owner@shop.example")


def report(rows: Iterable[int]) -> Job[int]:
    return build_report.delay(list(rows))


def welcome(address: str) -> None:
    send_receipt.delay(0, address)


def remind(order_id: int, address: str) -> None:
    send_receipt.options(queue="mail").delay(order_id, address)


def cancel(order_id: int, address: str) -> None:
    send_receipt.delay(order_id, address)


def check_out(database: sqlite3.Connection, order_id: int, *, in_stock: int) -> None:
    with database:
        database.execute("INSERT INTO orders VALUES (?)", (order_id,))
        if not in_stock:
            raise OutOfStockError
    charge.delay(order_id)


@task(name="shop.await_payment", retries=20)
def await_payment(order_id: int) -> None:
    raise Retry(in_secs=30)
