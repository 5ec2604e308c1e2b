"""Callers that come at the same time share one commit, and none of them is forgotten."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from nuvom.queue_backends.sqlite import group_commit as commits
from nuvom.queue_backends.sqlite.group_commit import GroupCommit
from tests.engine import LIMIT_SECS, wait_until


class Store:
    """What is committed, and a gate that a commit waits at when it is told to."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.raises: dict[int, BaseException] = {}
        self.entered = threading.Semaphore(0)
        self.gate: threading.Event | None = None
        self.group: GroupCommit[int, int] = GroupCommit(self.commit)

    def commit(self, items: list[int]) -> list[int]:
        gate = self.gate
        self.entered.release()
        if gate is not None:
            assert gate.wait(LIMIT_SECS)
        for item in items:
            if item in self.raises:
                raise self.raises[item]
        self.groups.append(items)
        return [10 * item for item in items]

    @property
    def items(self) -> list[int]:
        return sorted(item for group in self.groups for item in group)


class Caller(threading.Thread):
    """A thread that submits one item."""

    def __init__(self, store: Store, item: int) -> None:
        super().__init__(daemon=True)
        self.store = store
        self.item = item
        self.result: int | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.store.group.submit(self.item)
        except BaseException as error:  # noqa: BLE001  # looked at by the test
            self.error = error

    def ends(self) -> None:
        self.join(LIMIT_SECS)
        assert not self.is_alive(), "a caller was forgotten"


@pytest.fixture
def store() -> Store:
    return Store()


def crowd(store: Store, count: int) -> tuple[threading.Event, list[Caller]]:
    """Let one caller commit, and as many queue up behind it."""
    gate = store.gate = threading.Event()
    callers = [Caller(store, 0)]
    assert store.entered.acquire(timeout=LIMIT_SECS)
    for number in range(1, count + 1):
        callers.append(Caller(store, number))
        wait_until(lambda number=number: len(store.group._waiting) == number)  # type: ignore[misc]
    return gate, callers


def all_end(callers: list[Caller]) -> None:
    for caller in callers:
        caller.ends()


def test_callers_that_queue_up_share_the_next_commit(store: Store) -> None:
    gate, callers = crowd(store, 7)
    gate.set()
    all_end(callers)
    assert [[0], [1, 2, 3, 4, 5, 6, 7]] == store.groups
    assert [10 * number for number in range(8)] == [caller.result for caller in callers]


def test_one_bad_item_harms_nobody(store: Store) -> None:
    store.raises[2] = ValueError("bad")
    gate, callers = crowd(store, 3)
    gate.set()
    all_end(callers)
    assert [0, 1, 3] == store.items
    assert ["bad"] == [str(caller.error) for caller in callers if caller.error]


def test_leader_that_is_interrupted_leaves_the_others_to_the_next(store: Store) -> None:
    gate, callers = crowd(store, 3)
    store.raises[1] = KeyboardInterrupt()
    gate.set()
    all_end(callers)
    assert [0, 2, 3] == store.items, "reported as stored, or lost"
    assert isinstance(callers[1].error, KeyboardInterrupt)
    assert [0, None, 20, 30] == [caller.result for caller in callers]
    store.gate = None
    assert 90 == store.group.submit(9)


class Bed:
    """The lock that a caller sleeps on; the caller gets a signal there once the event is set."""

    def __init__(self, lock: threading.Lock, event: threading.Event) -> None:
        self.lock = lock
        self.event = event

    def acquire(self, timeout: float) -> None:
        assert self.event.wait(LIMIT_SECS)
        raise KeyboardInterrupt

    def release(self) -> None:
        self.lock.release()


def interrupt(monkeypatch: pytest.MonkeyPatch, item: int) -> threading.Event:
    """Have the caller of ``item`` interrupted when the event is set, and not before."""
    event, original = threading.Event(), commits._Ticket

    def ticket(given: int) -> object:
        made: Any = original(given)
        if given == item:
            made.bed = Bed(made.bed, event)
        return made

    monkeypatch.setattr(commits, "_Ticket", ticket)
    return event


def test_caller_that_is_interrupted_while_it_waits_is_not_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = interrupt(monkeypatch, 2)
    gate, callers = crowd(store, 3)
    event.set()
    callers[2].ends()
    assert isinstance(callers[2].error, KeyboardInterrupt)
    gate.set()
    all_end(callers)
    store.gate = None
    assert 90 == store.group.submit(9)
    assert [0, 1, 3, 9] == store.items


def test_nobody_waits_for_a_wake_up_that_an_interruption_has_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.group, "_wake_next", lambda: None)
    gate, callers = crowd(store, 3)
    gate.set()
    all_end(callers)
    assert [0, 1, 2, 3] == store.items


def test_callers_that_find_their_outcome_by_themselves_disturb_no_leader(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hasty(commits._Ticket[int, int]):
        """Its caller leaves, and wakes the next, the moment it can."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "others" and value:
                commits._wake_one(self.others)  # type: ignore[arg-type]

    monkeypatch.setattr(commits, "_Ticket", Hasty)
    gate, callers = crowd(store, 3)
    gate.set()
    all_end(callers)
    assert [None] * 4 == [caller.error for caller in callers]
    assert [0, 10, 20, 30] == [caller.result for caller in callers]
