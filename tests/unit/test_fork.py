"""Objects told by a forked child to let go."""

from __future__ import annotations

import os
import sys

import pytest

from nuvom.host.fork import drop_at_fork, rest_at_fork

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


class Thing:
    def __init__(self) -> None:
        self.dropped_by = 0
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        self.dropped_by = os.getpid()


def test_a_forked_child_drops_and_the_parent_does_not() -> None:
    things = [Thing(), Thing()]
    pid = os.fork()
    if pid == 0:
        os._exit(7 if [thing.dropped_by for thing in things] == [os.getpid()] * 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert [thing.dropped_by for thing in things] == [0, 0]


class Restless:
    def __init__(self) -> None:
        self.told: list[str] = []
        rest_at_fork(self)

    def hold_for_fork(self) -> None:
        self.told.append("hold")

    def go_on_after_fork(self) -> None:
        self.told.append("go on")


def test_what_must_rest_is_held_during_a_fork_and_goes_on_in_the_parent_alone() -> None:
    thing = Restless()
    pid = os.fork()
    if pid == 0:
        os._exit(7 if thing.told == ["hold"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert thing.told == ["hold", "go on"]


def test_a_child_can_fork_again() -> None:
    thing = Restless()
    pid = os.fork()
    if pid == 0:
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(7 if thing.told == ["hold", "hold"] else 1)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
