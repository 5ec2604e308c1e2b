"""How far long work is, as people see it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from nuvom.log import configure_logging, get_logger, reset_logging
from nuvom.logs.progress import ProgressDisplay
from nuvom.testing import FakeClock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    yield
    reset_logging()


def test_without_a_terminal_it_is_a_line_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), FakeClock()
    with ProgressDisplay("Moving\x1b[2J", "jobs", 4000, stream=stream, clock=clock) as shown:
        for second in range(25):
            shown.tell(second * 100, "token=abc" if second < 15 else "")
            clock.advance(1)
    assert stream.getvalue().splitlines() == [
        "Moving\\x1b[2J: 1,000 of 4,000 jobs, token=***, about 30 s left (10 s so far)",
        "Moving\\x1b[2J: 2,000 of 4,000 jobs, about 20 s left (20 s so far)",
    ]


def test_on_a_terminal_it_is_a_bar_that_stays_below_the_log() -> None:
    stream, clock = Terminal(), FakeClock()
    configure_logging("INFO", "plain", stream=stream)
    with ProgressDisplay("Moving", "jobs", stream=stream, clock=clock, color=False) as shown:
        shown.tell(1, total=4)
        assert not stream.getvalue(), "short work shows no bar"
        clock.advance(2)
        shown.tell(1)
        clock.advance(0.05)
        shown.tell(2)  # too soon after
        get_logger().warning("odd")
        drawn, logged = stream.getvalue().rsplit("\r", 1)[0], stream.getvalue()
        assert "1 of 4 jobs, about 6 s left" in logged
        assert "2 of 4" not in logged
        assert drawn.endswith(" "), "the bar is wiped away first"
        line, _, below = logged.rpartition("\r")[2].partition("\n")
        assert "odd" in line
        assert below.startswith("Moving")
    get_logger().warning("over")
    assert "Moving" not in stream.getvalue().rpartition("odd")[2].rpartition("\r")[2]
