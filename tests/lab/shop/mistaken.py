from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom import Snooze, task

from .tasks import OutOfStockError, build_report, charge, send_receipt

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from nuvom import Job

untyped: Any = send_receipt  # a type checker would find the first mistake


def confirm(order_id: int) -> Job[str]:
    job: Job[str] = untyped.delay(order_id)
    return job


def report(rows: Iterable[int]) -> Job[int]:
    return build_report.delay(iter(rows))  # type: ignore[arg-type]  # the mistake


def welcome(address: str) -> None:
    send_receipt(0, address)


def remind(order_id: int, address: str) -> None:
    send_receipt.delay(order_id, address)


def cancel(order_id: int, address: str) -> None:
    send_receipt.delay(order_id, address)
    charge.delay(order_id)


def check_out(database: sqlite3.Connection, order_id: int, *, in_stock: int) -> None:
    with database:
        database.execute("INSERT INTO orders VALUES (?)", (order_id,))
        charge.delay(order_id)
        if not in_stock:
            raise OutOfStockError


@task(name="shop.await_payment")
def await_payment(order_id: int) -> None:
    raise Snooze(30)
