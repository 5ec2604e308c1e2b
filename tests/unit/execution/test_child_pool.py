"""Which children there are, and what each is about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nuvom.execution.child_pool import ChildPool
from tests.unit.execution.children import Nest, make_work, nest


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nest]:
    with nest(monkeypatch) as found:
        yield found


@pytest.mark.parametrize(
    ("waiting", "starting", "idle", "busy", "missing"),
    [
        (0, 0, 0, 0, 0),
        (1, 0, 0, 0, 1),
        (9, 0, 0, 0, 3),
        (1, 1, 0, 0, 0),
        (2, 1, 0, 0, 1),
        (1, 0, 1, 0, 0),
        (5, 1, 0, 1, 1),
        (5, 0, 0, 3, 0),
    ],
)
def test_as_many_children_are_missing_as_work_waits_for_and_places_allow(
    nursery: Nest, *, waiting: int, starting: int, idle: int, busy: int, missing: int
) -> None:
    pool = ChildPool(3)
    for number in range(starting + idle + busy):
        child = nursery.child()
        assert pool.add(child)
        if number >= starting:
            pool.ready(child)
    for number in range(busy):
        pool.assign(make_work(str(number)))
    assert missing == max(0, pool.missing(waiting))


def test_child_that_was_idle_last_works_first(nursery: Nest) -> None:
    pool = ChildPool(2)
    first, second = nursery.child(), nursery.child()
    for child in (first, second):
        pool.add(child)
        pool.ready(child)
    assert second is pool.assign(make_work())


def test_attempt_belongs_to_its_child_until_it_ends(nursery: Nest) -> None:
    pool, child, work = ChildPool(1), nursery.child(), make_work()
    pool.add(child)
    pool.ready(child)
    pool.assign(work)
    assert work is pool.runs(child, 1)
    assert pool.has(work)
    assert pool.ended(child, 1, is_worn=False) is work
    assert not pool.has(work)
    assert pool.ended(child, 1, is_worn=False) is None
    assert [child] == pool.idle


def test_end_of_an_earlier_attempt_is_not_that_of_the_next(nursery: Nest) -> None:
    pool, child = ChildPool(1), nursery.child()
    pool.add(child)
    pool.ready(child)
    pool.assign(make_work("1"))
    pool.ended(child, 1, is_worn=False)
    second = make_work("2")
    pool.assign(second)
    assert pool.runs(child, 1) is None
    assert pool.ended(child, 1, is_worn=False) is None
    assert second is child.running


def test_worn_child_leaves_and_takes_no_place(nursery: Nest) -> None:
    pool, child = ChildPool(1), nursery.child()
    pool.add(child)
    pool.ready(child)
    pool.assign(make_work())
    pool.ended(child, 1, is_worn=True)
    assert [child] == pool.unused()
    assert 1 == pool.missing(1)
    assert not pool.is_empty


def test_only_the_child_that_runs_an_attempt_is_let_go(nursery: Nest) -> None:
    pool, work = ChildPool(2), make_work()
    for _ in range(2):
        child = nursery.child()
        pool.add(child)
        pool.ready(child)
    busy = pool.assign(work)
    assert pool.let_go(make_work()) is None
    assert busy is pool.let_go(work)
    assert busy.running is None
    assert pool.let_go(work) is None
    assert {busy} == pool.leaving


@pytest.mark.parametrize("state", ["starting", "idle", "busy", "leaving"])
def test_child_that_has_ended_is_forgotten_from_any_state(nursery: Nest, state: str) -> None:
    pool, child, work = ChildPool(1), nursery.child(), make_work()
    pool.add(child)
    if state != "starting":
        pool.ready(child)
    if state in ("busy", "leaving"):
        pool.assign(work)
    if state == "leaving":
        pool.let_go(work)
    expected = (state == "starting", work if state == "busy" else None)
    assert expected == pool.forget(child)
    assert pool.is_empty


def test_closed_pool_wants_no_child(nursery: Nest) -> None:
    pool = ChildPool(3)
    starting, idle, late = nursery.child(), nursery.child(), nursery.child()
    pool.add(starting)
    pool.add(idle)
    pool.ready(idle)
    assert {starting, idle} == set(pool.close())
    assert 0 == pool.missing(5)
    assert not pool.add(late)
    pool.ready(starting)
    assert [] == pool.idle
    assert {starting, idle, late} == pool.leaving
