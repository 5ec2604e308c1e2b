from __future__ import annotations

from nuvom.core import transitions
from nuvom.core.record import JobRecord, JobStatus
from nuvom.core.transitions import LostDelivery
from nuvom.testing import make_job


def claimed(**fields: object) -> JobRecord:
    given = {"status": JobStatus.RUNNING, "attempt": 1, "deliveries": 1, "lease_epoch": 1}
    return make_job("shop.send", **{**given, **fields})


def fate(*lost: LostDelivery, max_deliveries: int = 3) -> list[JobRecord]:
    """Return what the jobs of a dead worker become, in the order of ``lost``."""
    changes = transitions.taken_back(lost, 1000.0, max_deliveries)
    after = {one.before.id: one.after for one in changes}
    return [after[one.record.id] for one in lost]


def test_a_started_job_is_charged_and_becomes_a_suspect() -> None:
    (job,) = fate(LostDelivery(claimed(attempt=3), started=True))
    assert (JobStatus.PENDING, 2, 1, True) == (job.status, job.attempt, job.deliveries, job.suspect)


def test_an_unstarted_job_is_as_before_the_claim_but_for_its_epoch() -> None:
    before = claimed(attempt=3, deliveries=2, lease_epoch=7)
    (job,) = fate(LostDelivery(before, started=False))
    assert (2, 1, 8, False) == (job.attempt, job.deliveries, job.lease_epoch, job.suspect)


def test_a_suspect_takes_the_charge_off_its_neighbours() -> None:
    suspect, fresh, waiting = fate(
        LostDelivery(claimed(suspect=True, deliveries=2), started=True),
        LostDelivery(claimed(), started=True),
        LostDelivery(claimed(), started=False),
    )
    assert (2, 0, 0) == (suspect.deliveries, fresh.deliveries, waiting.deliveries)
    assert (True, True, False) == (suspect.suspect, fresh.suspect, waiting.suspect)


def test_a_suspect_that_had_not_started_takes_no_charge() -> None:
    suspect, fresh = fate(
        LostDelivery(claimed(suspect=True, deliveries=2), started=False),
        LostDelivery(claimed(), started=True),
    )
    assert (1, 1) == (suspect.deliveries, fresh.deliveries)
    assert suspect.suspect


def test_only_a_charge_beyond_the_first_delays_the_next_delivery() -> None:
    first, second, uncharged = fate(
        LostDelivery(claimed(run_at=5.0), started=True),
        LostDelivery(claimed(run_at=5.0, deliveries=2), started=True),
        LostDelivery(claimed(run_at=5.0, deliveries=3), started=False),
    )
    assert (5.0, 1002.0, 5.0) == (first.run_at, second.run_at, uncharged.run_at)


def test_the_last_allowed_charge_ends_the_job() -> None:
    (job,) = fate(LostDelivery(claimed(deliveries=3), started=True))
    assert (JobStatus.DEAD, 3) == (job.status, job.deliveries)


def test_a_suspect_is_taken_back_last() -> None:
    suspect, other = claimed(suspect=True), claimed()
    lost = [LostDelivery(suspect, started=True), LostDelivery(other, started=True)]
    assert [other.id, suspect.id] == [one.before.id for one in transitions.taken_back(lost, 1.0, 3)]
