from __future__ import annotations

import os
import sqlite3
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.testing import IsolatedStore, StoreTime, assert_enqueued, refute_enqueued

from .tasks import OutOfStockError, charge, send_receipt

if TYPE_CHECKING:
    from pathlib import Path

orders: Any = import_module(f".{os.environ['SHOP']}", __package__)


def test_wrong_arguments(nuvom_inline: IsolatedStore) -> None:
    assert orders.confirm(7).get() == "receipt of 7 to owner@shop.example"


def test_argument_that_cannot_be_stored(nuvom_inline: IsolatedStore) -> None:
    assert orders.report({1, 2}).get() == 3


def test_forgotten_delay(nuvom: IsolatedStore) -> None:
    orders.welcome("ann@mail.example")
    assert_enqueued(send_receipt, (0, "ann@mail.example"))


def test_wrong_queue(nuvom: IsolatedStore) -> None:
    orders.remind(7, "ann@mail.example")
    assert_enqueued(send_receipt, (7, "ann@mail.example"), queue="mail")


def test_job_left_behind(nuvom: IsolatedStore) -> None:
    orders.cancel(7, "ann@mail.example")
    assert_enqueued(send_receipt)


def test_rolled_back_unit_of_work(nuvom: IsolatedStore, tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "shop.db")
    database.execute("CREATE TABLE orders (id INTEGER)")
    with pytest.raises(OutOfStockError):
        orders.check_out(database, 7, in_stock=0)
    assert database.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    database.close()
    refute_enqueued(charge)


def test_endless_retry(nuvom_inline: IsolatedStore, nuvom_clock: StoreTime) -> None:
    job = orders.await_payment.delay(7)
    nuvom_clock.advance(timedelta(days=30))
    assert job.status == "FAILED"
