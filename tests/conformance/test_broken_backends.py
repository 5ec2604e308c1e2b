"""Shows that the kit finds faults: for each broken thing the law that is meant for it fails.

A sample, and above all what needs threads or processes to be seen. That a law holds a store to
its promise is shown by the mutations of the stores themselves, in ``tests/mutations.toml``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.testing.conformance import PluginConformance, run
from nuvom.testing.conformance.targets import kit_for
from tests.conformance import broken_others as others
from tests.conformance import broken_queues as broken
from tests.lab.stores import LabLaws, StoreConformance

SLOW = pytest.mark.slow
QUEUES = [
    (broken.KeepsKeysOutsideTheLock, "threads_that_race_for_a_key_agree"),
    (broken.LooksBeforeItTakes, "threads_never_share_a_job"),
    (broken.StoresTwice, "enqueueing_twice_is_once"),
    (broken.WritesWhereTheNameSays, "hostile_names_stay_inside"),
    (broken.HandsOutTwice, "a_claimed_job_is_nobody_elses"),
    (broken.AcceptsStaleSettlements, "a_late_worker_cannot_settle_anothers_attempt"),
    (broken.DropsChildren, "children_come_with_the_settlement"),
    (broken.SleepsThroughWork, "work_that_came_before_is_not_slept_through"),
    (broken.WakesNobody, "an_enqueue_wakes_a_worker"),
    (broken.SelectsThenDeletes, "processes_never_share_a_job"),
    (broken.AcceptsBeforeItStores, "accepted_jobs_survive_a_kill"),
    pytest.param(
        broken.LocksBeforeItTries, "an_interrupted_call_leaves_nothing_behind", marks=SLOW
    ),
    pytest.param(broken.LocksInTwoOrders, "calls_at_once_are_as_one_after_the_other", marks=SLOW),
    (broken.ClaimsInTwoSteps, "a_crowd_loses_and_doubles_nothing"),
    (broken.OverwritesSchedules, "a_change_needs_the_revision_that_was_seen"),
    (broken.FiresInTwoSteps, "of_those_who_fire_at_once_one_does"),
    (broken.FiresNothing, "a_fire_brings_its_jobs"),
    (broken.WakesSchedulersForNothing, "a_later_due_time_wakes_nobody"),
    (broken.WakesNoScheduler, "an_earlier_due_time_wakes_schedulers"),
]
OTHERS = [
    (others.LastOutcomeWins, "a_late_outcome_is_refused"),
    (others.FlattensTuples, "every_storable_value_comes_back"),
    (others.OfTheFuture, "its_interface_is_this_one"),
    (others.KeepsListening, "stopping_ends_its_subscriptions"),
    (others.ProvidesInName, "it_registers_what_it_provides"),
]


def named(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("queue", "law"), QUEUES, ids=named)
def test_the_law_meant_for_a_fault_fails(queue: type, law: str) -> None:
    class Kit(kit_for(queue, None, {}), LabLaws):  # type: ignore[misc]  # made for the queue
        limit_secs = 600.0
        points_step = 1
        pauses_step = 4
        crowd_calls = 1000
        # So long some laws wait at each point where something hangs.
        patience_secs = 0.1 if "Locks" in queue.__name__ else 5.0

    assert run(Kit, only=[law]).broken == [law]


@pytest.mark.parametrize(("target", "law"), OTHERS, ids=named)
def test_the_laws_meant_for_other_faults_fail(target: type, law: str) -> None:
    report = run(target)
    assert law in report.broken
    assert len(report.broken) <= 9, "the fault breaks more than it should"


def test_a_plugin_that_hangs_is_found_and_not_waited_for() -> None:
    class Hasty(PluginConformance):
        stop_limit_secs = 0.05

        def make(self) -> others.HangsInStop:
            return others.HangsInStop()

    try:
        (finding,) = run(Hasty, only=["starting_and_stopping_is_harmless"]).findings
    finally:
        others.HangsInStop.release.set()
    assert finding.outcome == "broken"
    assert "stop did not return within 0.05 s" in finding.detail
    assert "self.release.wait()" in finding.trace


def test_openings_that_do_not_share_their_store_are_found() -> None:
    class Apart(StoreConformance):
        pauses_step = 50
        patience_secs = 1.0

        def make(
            self, tmp_path: Path, clock: Clock = SYSTEM_CLOCK, **settings: Any
        ) -> BaseJobQueue:
            return MemoryJobQueue(Settings(root=tmp_path, **settings), clock=clock)

        def reopen(self, queue: BaseJobQueue) -> BaseJobQueue:
            return MemoryJobQueue()

    report = run(Apart, only=["preemptions"])
    assert report.broken == ["calls_of_two_instances_are_as_one_after_the_other"]
    assert "on two openings of the store" in report.findings[1].detail


def test_the_queue_that_faults_of_processes_are_put_into_is_sound() -> None:
    assert run(broken.FiledQueue, only=["five_methods", "persistence", "processes"]).broken == []


def test_a_finding_tells_the_promise_and_what_the_failing_assert_compared() -> None:
    (finding,) = run(broken.StoresTwice, only=["enqueueing_twice_is_once"]).findings
    assert finding.promise.startswith("A waiting job that is enqueued again")
    assert finding.detail.startswith("assert 2 == 1")
    assert "Traceback" in finding.trace
