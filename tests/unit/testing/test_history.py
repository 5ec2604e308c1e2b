"""The checker of histories is fed bad ones: each must be found, and a good one must pass."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from nuvom.testing import history
from nuvom.testing.history import (
    HistoryLog,
    Repeats,
    check,
    count_repeats,
    read_history,
)

A, B, DRIVER = 11, 12, 1  # pids
JOB = "job-1"
EPOCHS = {A: 1, B: 2}
DONE = {JOB: "SUCCESS"}


def told(*events: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return events, given as (word, pid) with details, a second apart."""
    seconds = count(1.0)
    return [
        {
            "event": word,
            "pid": pid,
            "job": JOB,
            "epoch": EPOCHS.get(pid),
            "at": next(seconds),
            **(more[0] if more else {}),
        }
        for word, pid, *more in events
    ]


ACCEPTED = (history.ENQUEUE_OK, DRIVER)
START_A, END_A = (history.START, A), (history.END, A)
START_B, END_B = (history.START, B), (history.END, B)
FINISH_A, FINISH_B = (history.FINISH_OK, A), (history.FINISH_OK, B)
KILL_A = (history.KILL, A)
RETRY_A, RETRY_B = (history.RETRYING, A), (history.RETRYING, B)


def found(*events: tuple[Any, ...], final: dict[str, str] | None = None) -> dict[str, int]:
    """Return what the checker finds, without the kinds of which it finds nothing."""
    findings = check(told(*events), DONE if final is None else final)
    return {name: number for name, number in findings.counts().items() if number}


GOOD = {
    "a job that runs once": (ACCEPTED, START_A, END_A, FINISH_A),
    "a kill, and the job runs again": (ACCEPTED, START_A, KILL_A, START_B, END_B, FINISH_B),
    "a kill whose signal came before the start and whose death after it": (
        ACCEPTED,
        (history.KILL, A, {"over": 3.5}),
        START_A,
        START_B,
        END_B,
        FINISH_B,
    ),
    "a freeze whose signal came before the start and whose stop after it": (
        ACCEPTED,
        (history.FREEZE, A, {"over": 5.5}),
        START_A,
        START_B,
        (history.THAW, A),
        END_A,
        END_B,
        FINISH_B,
    ),
    "a freeze past the lease": (
        ACCEPTED,
        START_A,
        (history.FREEZE, A),
        START_B,
        END_B,
        FINISH_B,
        (history.THAW, A),
        END_A,
        (history.FENCED, A),
    ),
    "a start that was decided on just before a freeze": (
        ACCEPTED,
        (history.FREEZE, A),
        START_B,
        END_B,
        FINISH_B,
        (history.THAW, A),
        (history.START, A, {"at": 6.1}),
    ),
    "a stop that hands the job back": (
        ACCEPTED,
        START_A,
        (history.TERM, A),
        START_B,
        END_B,
        FINISH_B,
    ),
    "a release": (ACCEPTED, START_A, END_A, (history.RELEASED, A), START_B, END_B, FINISH_B),
    "a retry": (ACCEPTED, START_A, END_A, RETRY_A, START_B, END_B, FINISH_B),
    "a retry that starts before its commit is recorded": (
        ACCEPTED,
        START_A,
        END_A,
        START_B,
        RETRY_A,
        END_B,
        FINISH_B,
    ),
    "a producer that died before it could say that its job was accepted": (
        (history.ENQUEUE_INVOKE, DRIVER),
        START_A,
        END_A,
        FINISH_A,
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name: str) -> None:
    assert found(*GOOD[name]) == {}


BAD = {
    "lost": found(ACCEPTED, final={}),
    "unexpected": found(START_A, END_A, FINISH_A),
    "double_finalised": found(ACCEPTED, START_A, KILL_A, START_B, FINISH_A, FINISH_B),
    "started_after_final": found(ACCEPTED, START_A, END_A, FINISH_A, KILL_A, START_B, END_B),
    "overlapping_live_leases": found(ACCEPTED, START_A, RETRY_A, START_B, END_A, END_B, FINISH_B),
    "unexplained_starts": found(ACCEPTED, START_A, END_A, START_B, END_B, FINISH_B),
    "stuck": found(ACCEPTED, final={JOB: "RUNNING"}),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_history_is_found_out_and_for_nothing_else(kind: str) -> None:
    assert BAD[kind] == {kind: 1}


def test_more_starts_than_allowed_are_found_whatever_explains_them() -> None:
    events = told(ACCEPTED, START_A, KILL_A, START_B, END_B, FINISH_B)
    assert check(events, DONE, most_starts=2).is_valid
    assert check(events, DONE, most_starts=1).attempts_over_limit == [JOB]


def test_a_kill_of_another_process_excuses_nothing() -> None:
    events = (ACCEPTED, START_A, END_A, (history.KILL, DRIVER), START_B, END_B, FINISH_B)
    assert found(*events) == {"unexplained_starts": 1}


def test_a_retry_excuses_only_the_start_that_follows_its_own_attempt() -> None:
    assert found(ACCEPTED, START_A, END_A, START_B, END_B, RETRY_B, FINISH_B) == {
        "unexplained_starts": 1
    }
    assert found(ACCEPTED, START_A, END_A, RETRY_A, START_A, END_A, FINISH_A) == {
        "unexplained_starts": 1
    }


def test_a_kill_before_the_start_excuses_nothing() -> None:
    assert found(ACCEPTED, KILL_A, START_A, END_A, START_B, END_B, FINISH_B) == {
        "unexplained_starts": 1
    }


def test_a_thaw_excuses_no_start_long_after_it() -> None:
    events = (ACCEPTED, START_B, END_B, FINISH_B, (history.THAW, A), START_A)
    assert found(*events) == {"started_after_final": 1, "unexplained_starts": 1}


REPEATS = {
    "its code was running": (Repeats(cut_short=1), (START_A, KILL_A, START_B)),
    "it had ended": (Repeats(uncommitted=1), (START_A, END_A, KILL_A, START_B)),
    "it was decided on before a freeze": (
        Repeats(thawed=1),
        ((history.FREEZE, A), START_B, (history.THAW, A, {"at": 3.9}), START_A),
    ),
    "nobody killed it": (Repeats(), (START_A, END_A, START_B)),
}


@pytest.mark.parametrize("case", REPEATS)
def test_a_start_that_a_fault_repeated_is_counted(case: str) -> None:
    expected, events = REPEATS[case]
    assert count_repeats(told(*events)) == expected


def test_events_are_read_in_the_order_of_their_time_whoever_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "history.ndjson"
    logs = [HistoryLog(path), HistoryLog(path)]
    logs[0].write(history.START, job=JOB, at=2.0)
    logs[1].write(history.ENQUEUE_OK, job=JOB, at=1.0, pid=A)
    for log in logs:
        log.close()
    events = read_history(path)
    assert [(one["event"], one["at"]) for one in events] == [("enqueue-ok", 1.0), ("start", 2.0)]
    assert events[0]["pid"] == A
    assert events[1]["pid"] not in (A, None)


def test_a_line_that_a_kill_has_torn_costs_no_other_event(tmp_path: Path) -> None:
    path = tmp_path / "history.ndjson"
    log = HistoryLog(path)
    log.write(history.START, job=JOB)
    with open(path, "ab") as stream:
        stream.write(b'\n{"at": 3.0, "event": "sta')
    log.write(history.END, job=JOB)
    log.close()
    assert [one["event"] for one in read_history(path)] == [history.START, history.END]
