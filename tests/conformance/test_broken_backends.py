"""Shows that the kit finds faults: for each broken thing the law that is meant for it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.base import BaseResultBackend
from nuvom.testing.conformance import Report, run
from nuvom.testing.conformance.law import laws_of
from nuvom.testing.conformance.laws.plugin import PluginConformance
from nuvom.testing.conformance.laws.queue import QueueConformance
from nuvom.testing.conformance.laws.results import ResultConformance
from nuvom.testing.conformance.targets import kit_for
from tests.conformance import broken_others as others
from tests.conformance import broken_queues as broken
from tests.conformance.list_queue import ListQueue
from tests.lab.stores import LabLaws, StoreConformance

# All but those that take seconds, which have cases of their own below.
SLOW = {"processes", "waking", "interruptions", "preemptions", "crowd"}
QUICK = {law.group for law in laws_of(StoreConformance)} - SLOW


class Case(NamedTuple):
    """A queue with a fault, the law meant for it, and the chapters that the fault may touch."""

    queue: type
    law: str
    chapters: str
    held: frozenset[str] = frozenset(QUICK)


CASES = [
    Case(broken.PrunesItsTotals, "removing_jobs_changes_no_total", "totals"),
    Case(broken.ForgetsTheLost, "lost_attempts_are_counted", "totals"),
    Case(broken.ForgetsPriority, "the_lower_priority_number_comes_first", "order"),
    Case(broken.IgnoresRunAt, "a_job_is_not_handed_out_before_its_time", "scheduled"),
    Case(broken.HalfStoresBulk, "a_bulk_that_breaks_off_stores_nothing", "bulk threads"),
    Case(broken.KeepsKeysOutsideTheLock, "threads_that_race_for_a_key_agree", "threads"),
    Case(broken.ForgetsToSayUnique, "nothing_is_kept_undeclared", "honesty"),
    Case(broken.LooksBeforeItTakes, "threads_never_share_a_job", "threads"),
    Case(broken.StoresTwice, "enqueueing_twice_is_once", "five_methods"),
    Case(broken.DropsHeaders, "a_job_comes_back_as_it_was_given", "five_methods"),
    Case(broken.WaitsForNobody, "dequeue_waits_for_a_job", "five_methods"),
    Case(broken.ClaimsToInspect, "declared_methods_are_there", "honesty inspection"),
    Case(broken.WritesWhereTheNameSays, "hostile_names_stay_inside", "limits"),
    Case(
        broken.LosesJobsOfTheDead,
        "a_lease_ends_if_it_is_not_renewed",
        "leases fencing counters suspects unique threads inspection totals",
    ),
    Case(
        broken.HandsOutTwice,
        "a_claimed_job_is_nobody_elses",
        "leases fencing counters scheduled order suspects limits five_methods control threads "
        "parked unique persistence inspection",
    ),
    Case(
        broken.AcceptsStaleSettlements,
        "a_late_worker_cannot_settle_anothers_attempt",
        "fencing leases threads inspection",
    ),
    Case(broken.RefusesToHearTwice, "settling_twice_is_safe", "leases threads"),
    Case(broken.AnswersReleasesById, "two_deliveries_of_one_job_are_told_apart", "fencing"),
    Case(broken.ResetsAttemptsOnRelease, "a_release_is_not_charged", "counters"),
    Case(broken.ChargesTheInnocent, "only_the_suspect_is_charged", "suspects"),
    Case(
        broken.NeverGivesUp,
        "a_job_that_kills_its_workers_ends_dead",
        "counters control unique inspection suspects totals",
    ),
    Case(
        broken.ForgetsStartMarks,
        "a_lost_start_is_charged",
        "counters suspects control unique inspection totals",
    ),
    Case(broken.CannotRenew, "an_extended_lease_lasts", "leases workers"),
    Case(
        broken.DropsChildren,
        "children_come_with_the_settlement",
        "leases limits inspection unique",
    ),
    Case(broken.LosesTheResult, "a_success_shows_its_result", "inspection"),
    Case(broken.NeverUnparks, "parked_jobs_are_taken_up_again", "parked unique"),
    Case(broken.PausesInName, "a_paused_queue_hands_out_nothing", "control inspection"),
    Case(broken.PagesOldestFirst, "pages_give_each_job_once", "inspection"),
    Case(broken.BeginsPagesAnew, "pages_give_each_job_once", "inspection"),
    Case(broken.NeverFull, "a_full_queue_says_so", "limits bulk"),
    Case(broken.LosesCommands, "commands_are_left_and_taken", "workers"),
    Case(
        broken.SleepsThroughWork,
        "work_that_came_before_is_not_slept_through",
        "waking",
        frozenset({"work_that_came*", "notify_wakes*"}),
    ),
    Case(
        broken.WakesNobody,
        "an_enqueue_wakes_a_worker",
        "waking",
        frozenset({"*enqueue_wakes*", "*without_work_ends"}),
    ),
    Case(
        broken.SelectsThenDeletes,
        "processes_never_share_a_job",
        "processes threads",
        frozenset({"processes_never*", "persistence", "five_methods"}),
    ),
    Case(
        broken.AcceptsBeforeItStores,
        "accepted_jobs_survive_a_kill",
        "processes persistence five_methods order",
        frozenset({"accepted_jobs*"}),
    ),
    Case(
        broken.LocksBeforeItTries,
        "an_interrupted_call_leaves_nothing_behind",
        "interruptions",
        frozenset({"interruptions"}),
    ),
    Case(
        broken.LocksInTwoOrders,
        "calls_at_once_are_as_one_after_the_other",
        "preemptions",
        frozenset({"preemptions"}),
    ),
    Case(
        broken.SettlesInTwoSteps,
        "calls_at_once_are_as_one_after_the_other",
        "preemptions",
        frozenset({*QUICK, "preemptions"}),
    ),
    Case(
        broken.ClaimsInTwoSteps,
        "a_crowd_loses_and_doubles_nothing",
        "crowd preemptions threads",
        frozenset({*QUICK, "crowd"}),
    ),
]


def held(queue: type, patterns: frozenset[str]) -> Report:
    kit: Any = kit_for(queue, None, {})
    if isinstance(kit, QueueConformance):
        kit = type("LabKit", (type(kit), LabLaws), {})()
        kit.points_step = 1
        kit.pauses_step = 4
        kit.crowd_calls = 1000
    kit.patience_secs = 1.0 if "processes" not in str(patterns) else 30.0
    if patterns <= {"interruptions", "preemptions"}:
        kit.patience_secs = 0.1  # so long each point takes at which something hangs
    return run(kit, only=sorted(patterns))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.queue.__name__}-{case.law}")
def test_the_law_meant_for_a_fault_fails(case: Case) -> None:
    report = held(case.queue, case.held)
    assert case.law in report.broken
    elsewhere = [
        f"{finding.group}: {finding.law}: {finding.detail}"
        for finding in report.findings
        if finding.outcome == "broken" and finding.group not in case.chapters.split()
    ]
    assert elsewhere == []


@pytest.mark.parametrize(
    ("target", "laws"),
    [
        (others.LastOutcomeWins, "a_delivery_has_one_outcome a_late_outcome_is_refused"),
        (others.KeepsTheObject, "a_kept_value_does_not_change"),
        (others.ListsOldestFirst, "jobs_are_listed_newest_first"),
        (others.LeavesOutTheWorker, "the_full_form_has_all_keys"),
        (others.RecordsOverOutcomes, "a_record_comes_before_its_outcome"),
        (others.FlattensTuples, "every_storable_value_comes_back"),
        (others.TakesEverything, "other_values_are_refused"),
        (others.ForgetsThePath, "a_refusal_says_where"),
        (others.OfTheFuture, "its_interface_is_this_one"),
        (others.KeepsListening, "stopping_ends_its_subscriptions"),
        (others.ProvidesInName, "it_registers_what_it_provides"),
        (others.RegistersUnsaid, "it_registers_what_it_provides"),
        (others.OffersSomethingElse, "its_backends_can_be_built"),
        (others.ProvidesAText, "its_words_are_lists_of_texts"),
        (others.StopsOnlyOnce, "stopping_unstarted_is_harmless"),
        (others.ReadsTooEarly, "it_can_start_again"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_laws_meant_for_other_faults_fail(target: type, laws: str) -> None:
    report = run(kit_for(target, None, {}))
    assert set(laws.split()) <= set(report.broken)
    assert len(report.broken) <= 9, "the fault breaks more than it should"


def test_a_plugin_that_hangs_is_found_and_not_waited_for() -> None:
    class Hasty(PluginConformance):
        stop_limit_secs = 0.05

        def make(self) -> others.HangsInStop:
            return others.HangsInStop()

    try:
        report = run(Hasty(), only=["starting_and_stopping_is_harmless"])
    finally:
        others.HangsInStop.release.set()
    (finding,) = report.findings
    assert finding.outcome == "broken"
    assert "stop did not return within 0.05 s" in finding.detail
    assert "self.release.wait()" in finding.trace


def test_a_backend_that_joins_in_name_only_is_found() -> None:
    class Beside(ResultConformance):
        patience_secs = 0.5

        def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
            return others.JoinsInName()

        def queue_beside(self, backend: BaseResultBackend) -> MemoryJobQueue:
            return MemoryJobQueue()

    report = run(Beside(), only=["*joined*"])
    assert "what_a_joined_queue_settles_can_be_read" in report.broken


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

    report = run(Apart(), only=["preemptions"])
    assert report.broken == ["calls_of_two_instances_are_as_one_after_the_other"]
    assert "on two openings of the store" in report.findings[1].detail


@pytest.mark.parametrize("queue", [ListQueue, broken.FiledQueue])
def test_the_queues_that_the_faults_are_put_into_are_sound(queue: type) -> None:
    report = held(queue, frozenset(QUICK))
    assert report.broken == []
    assert report.ok


def test_a_failure_names_the_law_and_its_promise() -> None:
    report = held(broken.StoresTwice, frozenset({"enqueueing_twice_is_once"}))
    (finding,) = report.findings
    assert 'The law "enqueueing_twice_is_once" is broken' in finding.trace
    assert finding.promise in finding.trace
    assert finding.detail.startswith("assert 2 == 1")
