from __future__ import annotations

from nuvom.core.record import JobStatus
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.testing import make_job, make_settlement

CODEC = MsgpackCodec()


def test_a_job_is_made_as_the_dispatcher_would() -> None:
    job = make_job("shop.send", 1, (2,), kwargs={"to": "me"}, queue="mail", priority=2)
    assert ("shop.send", "mail", 2) == (job.func_name, job.queue, job.priority)
    assert ((1, (2,)), {"to": "me"}) == CODEC.decode_call(job.args, job.kwargs)
    assert job.status is JobStatus.PENDING
    assert job.created_at > 0


def test_each_job_has_an_id_of_its_own() -> None:
    assert make_job().id != make_job().id
    assert make_job(id="given").id == "given"


def test_a_settlement_says_what_its_status_needs() -> None:
    job = make_job()
    success = make_settlement(job, value={"n": 1})
    assert ("success", {"n": 1}) == (success.outcome, CODEC.decode_value(success.result or b""))
    failure = make_settlement(job, JobStatus.FAILED)
    assert failure.outcome == "failure"
    assert failure.error is not None
    assert make_settlement(job, JobStatus.PENDING).outcome == "retry"
    assert make_settlement(job, JobStatus.CANCELLED).outcome == "cancelled"
    assert not make_settlement(job, JobStatus.PARKED).keeps_attempt


def test_a_settlements_fields_can_be_given() -> None:
    settlement = make_settlement(make_job(), JobStatus.PENDING, run_at=5.0, outcome="snoozed")
    assert (5.0, "snoozed", None) == (settlement.run_at, settlement.outcome, settlement.result)
