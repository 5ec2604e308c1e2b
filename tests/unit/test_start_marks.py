"""The slot file: what was booked and marked is read back, and doubt counts as started."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from nuvom.errors import StorageFull
from nuvom.host.start_marks import FREE, SLOT_BYTES, STARTED, STATE_AT, SlotFile, Slots, read_slots
from tests.unit.queue_backends.faults import Faults, fail
from tests.unit.queue_backends.interrupting import in_thread, interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "w.slots")


def proof(path: str) -> Slots:
    return read_slots(path)


def mark(slots: SlotFile, index: int) -> None:
    slots.map[index * SLOT_BYTES + STATE_AT] = STARTED


def test_a_booked_job_has_not_started_until_it_is_marked(path: str) -> None:
    slots = SlotFile(path, 8)
    mark(slots, slots.book([("a", 1), ("b", 7)])[1])
    assert not proof(path).started("a", 1)
    assert proof(path).started("b", 7)


def test_it_grows_and_old_maps_still_mark(path: str) -> None:
    slots = SlotFile(path, 2)
    old = slots.map
    indexes = slots.book([(f"j{n}", 1) for n in range(7)])
    assert len(set(indexes)) == 7
    more = slots.book([(f"k{n}", 1) for n in range(20)])
    assert not set(indexes) & set(more)
    old[0 * SLOT_BYTES + STATE_AT] = STARTED
    for index in more:
        mark(slots, index)
    started = proof(path)
    assert started.started("j0", 1) == (0 in indexes)
    assert all(started.started(f"k{n}", 1) for n in range(20))
    assert os.path.getsize(path) % SLOT_BYTES == 0


def test_every_flipped_bit_counts_as_started_or_changes_nothing(path: str) -> None:
    slots = SlotFile(path, 1)
    slots.book([("a", 1)])
    sound = bytearray(slots.map)
    for bit in range(SLOT_BYTES * 8):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        if damaged[STATE_AT] == FREE:
            continue  # the one state in which a record that death cut short is left
        padding = 60 <= bit // 8 < STATE_AT
        assert Slots(bytes(damaged)).started("a", 1) or padding


def test_a_file_cut_short_or_empty_counts_as_started(path: str) -> None:
    slots = SlotFile(path, 2)
    slots.book([("a", 1)])
    content = bytes(slots.map)
    assert Slots(content[:-1]).started("z", 1)
    assert not Slots(content[:-1]).started("a", 1), "its own record is sound"
    assert Slots(b"").started("a", 1)


def test_what_a_dead_predecessor_left_is_not_taken_over(path: str) -> None:
    old = SlotFile(path, 4)
    mark(old, *old.book([("a", 1)]))
    SlotFile(path, 4)
    assert not proof(path).started("a", 1)


def test_a_full_disk_while_growing_leaves_what_was_booked(path: str) -> None:
    slots = SlotFile(path, 2)
    mark(slots, slots.book([("a", 1), ("b", 1)])[0])
    with pytest.MonkeyPatch.context() as patch:
        Faults(0, fail(errno.ENOSPC)).install(patch)
        with pytest.raises(StorageFull):
            slots.book([("c", 1), ("d", 1), ("e", 1)])
    assert proof(path).started("a", 1)
    assert not proof(path).started("b", 1)
    assert len(slots.book([("c", 1), ("d", 1), ("e", 1)])) == 3


# ---- interrupted --------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 8])
def test_an_interrupted_booking_takes_no_slot_whether_the_file_grows_or_not(
    tmp_path: Path, slots: int
) -> None:
    jobs = [(name, 1) for name in "abc"]

    def prepare(number: int) -> tuple[Callable[[], object], Callable[[bool], object]]:
        path = str(tmp_path / f"{number}.slots")
        file = SlotFile(path, slots)

        def check(is_cut: bool) -> None:  # noqa: FBT001  # it is told this alone
            size = len(file.map)
            free = size // SLOT_BYTES - (0 if is_cut else len(jobs))
            indexes = in_thread(lambda: file.book([("x", 1)] * free))
            assert len(set(indexes)) == free, "one slot for two jobs"
            assert len(file.map) == size, "slots are lost"
            file.close()

        return lambda: file.book(jobs), check

    assert interrupt_everywhere(prepare) > 10
