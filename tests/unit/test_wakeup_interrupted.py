"""An exception may come at any point: places are given back, and bells ring on."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

import pytest

from nuvom.host import wakeup
from nuvom.host.wakeup import Listener, Wakeup
from tests.lab.points import Interruption
from tests.unit.queue_backends.interrupting import in_thread, interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nuvom.host.wakeup import Transport

    Case = tuple[Callable[[], object], Callable[[bool], object]]

# Sockets that were just made when the exception came are closed when they are forgotten.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
LIMIT_SECS = 30.0


def rings(bell: Wakeup, kind: str = "work") -> bool:
    """Whether one can listen at the first place and be woken, with nobody else asleep."""
    listener = bell.listen(kind)
    listener.arm()
    is_woken = bell.notify_one(kind) and listener.wait(LIMIT_SECS)
    is_alone = bell.notify_one(kind) == (kind == "result")  # which is armed again by itself
    listener.close()
    return is_woken and is_alone


@pytest.fixture
def one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup, "LISTENERS", 1)


@pytest.mark.usefixtures("one_place")
def test_an_interrupted_listener_leaves_its_place_free(
    tmp_path: Path, transport: Callable[[], Transport]
) -> None:
    def prepare(number: int) -> Case:
        bell = Wakeup(tmp_path / str(number), transport=transport())
        made: list[Listener] = []

        def check(_: bool) -> None:  # noqa: FBT001  # it is told this alone
            for listener in made:
                listener.close()
            assert in_thread(lambda: rings(bell))
            bell.close()

        return lambda: made.append(bell.listen("work")), check

    assert interrupt_everywhere(prepare) > 30


@pytest.mark.usefixtures("one_place")
def test_an_interrupted_close_of_a_listener_can_be_completed(
    tmp_path: Path, transport: Callable[[], Transport]
) -> None:
    def prepare(number: int) -> Case:
        bell = Wakeup(tmp_path / str(number), transport=transport())
        listener = bell.listen("work")
        listener.arm()

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            in_thread(listener.close)
            assert in_thread(lambda: rings(bell))
            bell.close()

        return listener.close, check

    assert interrupt_everywhere(prepare) > 10


@pytest.mark.usefixtures("one_place")
def test_an_interrupted_wait_for_a_result_leaves_its_place_to_the_next(
    tmp_path: Path, transport: Callable[[], Transport]
) -> None:
    def prepare(number: int) -> Case:
        bell = Wakeup(tmp_path / str(number), transport=transport())

        def wait() -> None:
            # Suppressed, and its traceback forgotten with it: the waiter lives as long as that.
            with suppress(Interruption), bell.waiter() as waiter:
                waiter.wait(0)

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            bell.close()
            again = Wakeup(tmp_path / str(number), transport=transport())
            assert in_thread(lambda: rings(again, "result"))
            again.close()

        return wait, check

    assert interrupt_everywhere(prepare) > 30


def test_an_interrupted_ring_rings_again(
    tmp_path: Path, transport: Callable[[], Transport]
) -> None:
    def prepare(number: int) -> Case:
        bell = Wakeup(tmp_path / str(number), transport=transport())
        listener = bell.listen("work")
        listener.arm()

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            listener.arm()
            in_thread(bell.notify_one)
            assert listener.wait(LIMIT_SECS)
            listener.close()
            bell.close()

        return bell.notify_one, check

    assert interrupt_everywhere(prepare) > 5


def test_an_interrupted_opening_can_be_repeated(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        folder = tmp_path / str(number)
        made: list[Wakeup] = []

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            for bell in made:
                bell.close()
            made.clear()
            again = in_thread(lambda: Wakeup(folder))
            assert rings(again)
            again.close()

        return lambda: made.append(Wakeup(folder)), check

    assert interrupt_everywhere(prepare) > 30


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_child_forked_while_a_thread_rings_can_ring_too(
    tmp_path: Path, transport: Callable[[], Transport]
) -> None:
    made = transport()
    bell = Wakeup(tmp_path, transport=made)
    listener = bell.listen("work")
    listener.arm()
    sender = made
    assert isinstance(sender._mutex, type(Lock()))
    with sender._mutex:  # as another thread has it, which the child does not have
        pid = os.fork()
        if pid == 0:
            os._exit(0 if bell.notify_one() else 1)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert listener.wait(LIMIT_SECS)
    listener.close()
    bell.close()
