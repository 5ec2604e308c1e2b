"""The attempts that a worker has in hand."""

from __future__ import annotations

import threading

from nuvom.core.record import JobStatus
from nuvom.execution.running import InHand, KeptElsewhere, RunningJob
from nuvom.testing import make_job


def make_running() -> RunningJob:
    return RunningJob(make_job(), "worker", None, 5.0)


def test_attempt_begins_unstarted_and_without_a_deadline() -> None:
    running = make_running()
    assert ("thread", 0.0, float("inf"), False, None, None) == (
        running.lane,
        running.started_at,
        running.deadline,
        running.is_cancelled,
        running.children,
        running.kept,
    )
    assert (5.0, "worker") == (running.leased_at, running.worker)


def test_attempt_is_taken_once() -> None:
    in_hand, running = InHand(), make_running()
    in_hand.add(running)
    assert running in in_hand
    assert [True, False] == [in_hand.take(running), in_hand.take(running)]
    assert running not in in_hand


def test_attempts_of_one_job_are_told_apart() -> None:
    in_hand, first = InHand(), make_running()
    second = RunningJob(first.record, "worker", None, 5.0)
    in_hand.add(first)
    assert not in_hand.take(second)
    assert 1 == len(in_hand)


def test_one_of_many_threads_takes_an_attempt() -> None:
    in_hand = InHand()
    attempts = [make_running() for _ in range(500)]
    for running in attempts:
        in_hand.add(running)
    taken: list[list[RunningJob]] = [[], [], [], []]
    together = threading.Barrier(4)

    def take(mine: list[RunningJob]) -> None:
        together.wait()
        mine.extend(one for one in attempts if in_hand.take(one))

    threads = [threading.Thread(target=take, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 500 == sum(map(len, taken))
    assert [] == list(in_hand)


def test_attempts_may_be_taken_while_they_are_listed() -> None:
    in_hand = InHand()
    for _ in range(3):
        in_hand.add(make_running())
    for running in in_hand:
        in_hand.take(running)
    assert 0 == len(in_hand)


def test_what_is_kept_elsewhere_hears_of_the_commit() -> None:
    heard: list[JobStatus] = []
    KeptElsewhere(heard.append).settled(JobStatus.SUCCESS)
    assert [JobStatus.SUCCESS] == heard
