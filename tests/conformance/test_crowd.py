"""What the account of a crowd finds wrong, and what a thread of it tells."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.core.record import JobRecord, JobSnapshot, JobStatus
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.serialization.msgpack_codec import MsgpackCodec
from tests.lab.laws.crowd import Account
from tests.lab.mixed_calls import MixedCalls, Notes, Settled

PENDING, RUNNING, SUCCESS = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.SUCCESS
FAILED, CANCELLED, DEAD = JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.DEAD


def stored(job_id: str, status: JobStatus, epoch: int = 1, **fields: Any) -> JobSnapshot:
    value = fields.pop("value", None)
    record = JobRecord(job_id, "tests.probe", status=status, lease_epoch=epoch, **fields)
    result = None if value is None else MsgpackCodec().encode_value(value)
    return JobSnapshot(record=record, result=result)


def settled(job_id: str, status: JobStatus, *, accepted: bool = True, **fields: Any) -> Settled:
    given = {"epoch": 1, "value": "v", "children": [], **fields}
    return Settled(id=job_id, status=status, is_accepted=accepted, **given)


def check(notes: Notes, *jobs: JobSnapshot) -> None:
    Account(notes).check({job.record.id: job for job in jobs})


def test_a_sound_account_has_nothing_wrong() -> None:
    check(
        Notes(
            stored=["a", "b", "c", "d", "e"],
            left_out=["f"],
            claimed=[("a", 1), ("b", 1), ("c", 1), ("a", 2)],
            released=[("c", 1)],
            settled=[
                settled("a", SUCCESS, epoch=2, children=["g"]),
                settled("a", SUCCESS, accepted=False),
                settled("b", FAILED),
                settled("b", FAILED, value="again"),
            ],
            cancelled=[("d", PENDING), ("d", CANCELLED)],
            reaped=[("a", PENDING), ("e", DEAD)],
        ),
        stored("a", SUCCESS, epoch=2, value="v"),
        stored("b", FAILED),
        stored("c", PENDING),
        stored("d", CANCELLED),
        stored("e", DEAD),
        stored("g", PENDING, unique_key="k"),
    )


@pytest.mark.parametrize(
    ("notes", "jobs", "found"),
    [
        (Notes(errors=["Traceback ..."]), [], "1 calls failed; the first:\nTraceback"),
        (Notes(stored=["a"]), [], "1 of 1 accepted jobs are lost: a"),
        (Notes(left_out=["a"]), [stored("a", PENDING)], "1 jobs were refused and stored: a"),
        (
            Notes(claimed=[("a", 1), ("a", 1)]),
            [stored("a", PENDING)],
            r"1 deliveries were handed out twice: \('a', 1\)",
        ),
        (
            Notes(settled=[settled("a", SUCCESS, accepted=False)]),
            [stored("a", RUNNING)],
            "1 settlements were refused in vain: a at epoch 1",
        ),
        (
            Notes(),
            [stored("a", PENDING, unique_key="k"), stored("b", RUNNING, unique_key="k")],
            "unique keys are with several live jobs: k",
        ),
        (
            Notes(settled=[settled("a", SUCCESS)]),
            [stored("a", RUNNING)],
            "a was accepted as SUCCESS at epoch 1, but is RUNNING at epoch 1",
        ),
        (Notes(), [stored("a", SUCCESS)], "a is SUCCESS at epoch 1, but accepted were"),
        (
            Notes(settled=[settled("a", FAILED)], retried=[("a", FAILED), ("a", FAILED)]),
            [stored("a", PENDING)],
            "has ended FAILED -1 times more than retried",
        ),
    ],
)
def test_what_is_wrong_is_found(notes: Notes, jobs: list[JobSnapshot], found: str) -> None:
    with pytest.raises(AssertionError, match=found):
        check(notes, *jobs)


def test_a_call_that_raises_is_told_with_its_traceback() -> None:
    class Raises(MemoryJobQueue):
        def extend(self, owner: str) -> dict[str, int]:
            raise KeyError(owner)

    notes = MixedCalls(Raises(), "1-0", limit_secs=30).run(threads=1, calls=200)
    assert "KeyError: 'worker-1-0-0'" in notes.errors[0]
