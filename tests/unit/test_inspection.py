"""All reading of what is stored, in one store, in two, and beside a queue of five methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.record import JobStatus
from nuvom.errors import AmbiguousJob
from nuvom.inspection.inspector import Inspector
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.serialization.refusal import Shaped
from nuvom.testing import make_job
from tests.engine import Engine, ToyQueue, make_runtime, with_backends
from tests.troubled import TroubledQueue, TroubledResults

KINDS = ["memory", "sqlite", "split", "plain"]


def make_engine(project: Path, kind: str) -> Engine:
    if kind == "split":
        return Engine(with_backends(make_runtime(project), TroubledQueue(), TroubledResults()))
    if kind == "plain":
        return Engine(with_backends(make_runtime(project), ToyQueue(), MemoryResultBackend()))
    return Engine(make_runtime(project, queue_backend=kind, result_backend=kind))


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, project: Path) -> Iterator[Engine]:
    with make_engine(project, request.param) as engine:
        yield engine


@pytest.fixture(params=KINDS[:3])
def leased(request: pytest.FixtureRequest, project: Path) -> Iterator[Engine]:
    with make_engine(project, request.param) as engine:
        yield engine


@dataclass
class Account:
    user: str
    password: str


def add(x: int, y: int = 0) -> int:
    return x + y


def broken() -> None:
    raise ValueError("no good")


def renewed(account: Account, *, token: str = "") -> Account:
    return Account(account.user, account.password[::-1])


# ---- one job --------------------------------------------------------------------------------


def test_job_is_seen_through_its_life(engine: Engine) -> None:
    inspector = Inspector(engine.runtime)
    job = (
        engine.task(add, queue="mail", priority=0, tags=["a"])
        .options(metadata={"by": "me"})
        .delay(1, y=2)
    )
    before = inspector.snapshot(job.id)
    assert ("PENDING", None) == (before.status, inspector.result(before))

    engine.work()
    after = inspector.snapshot(job.id)
    assert ("SUCCESS", 3, 1) == (after.status, inspector.result(after), after.record.attempt)
    record = after.record
    assert ("tests.add", "mail", 0, ("a",), {"by": "me"}) == (
        record.func_name,
        record.queue,
        record.priority,
        record.tags,
        record.metadata,
    )
    assert ((1,), {"y": 2}) == inspector.arguments(record)
    assert after.finished_at is not None


# ---- objects and secrets --------------------------------------------------------------------


@pytest.fixture
def account(engine: Engine) -> Any:
    job = engine.task(renewed).delay(Account("me", "hunter2"), token="t0k3n")
    engine.work()
    return Inspector(engine.runtime).snapshot(job.id)


def test_objects_of_unknown_tasks_are_their_data(engine: Engine, account: Any) -> None:
    engine.runtime.registry.clear()
    inspector = Inspector(engine.runtime)
    assert isinstance(inspector.result(account), Shaped)
    assert isinstance(inspector.arguments(account.record)[0][0], Shaped)


def test_secrets_are_masked_for_people(engine: Engine, account: Any) -> None:
    inspector = Inspector(engine.runtime)
    shown = {"user": "me", "password": "***"}
    assert shown == inspector.shown_result(account)
    assert ([shown], {"token": "***"}) == inspector.shown_arguments(account.record)


def test_positional_secret_is_masked_where_its_name_is_known(engine: Engine) -> None:
    inspector = Inspector(engine.runtime)
    record = make_job("tests.login", "me", "hunter2", [{"token": "t"}], Shaped("Colour", "RED"))
    shown = ["me", "hunter2", [{"token": "***"}], "RED"]
    assert (shown, {}) == inspector.shown_arguments(record)
    shown[1] = "***"
    assert (shown, {}) == inspector.shown_arguments(record, ("user", "password", "more"))


# ---- ids ------------------------------------------------------------------------------------


def test_end_of_an_id_is_enough(leased: Engine) -> None:
    job = leased.task(add).delay(1)
    inspector = Inspector(leased.runtime)
    assert [job.id] * 2 == [inspector.find_id(job.id), inspector.find_id(job.id[-8:])]


def test_end_of_several_ids_is_ambiguous(leased: Engine) -> None:
    ids = [f"{number}-{'a' * 20}" for number in range(8)]
    leased.runtime.queue.enqueue_many([make_job(id=one) for one in ids])
    with pytest.raises(AmbiguousJob) as several:
        Inspector(leased.runtime).find_id("aaaaaa")
    assert 5 == sum(one in several.value.what for one in ids)


# ---- lists ----------------------------------------------------------------------------------


def test_pages_can_be_narrowed(engine: Engine) -> None:
    mail = engine.task(add, queue="mail").delay(1)
    failed = engine.task(broken, queue="mail").delay()
    engine.work()
    engine.task(add).delay(2)
    inspector = Inspector(engine.runtime)

    def ids(**narrow: Any) -> set[str]:
        return {one.record.id for one in inspector.page(**narrow)}

    assert {mail.id, failed.id} == ids(queue="mail")
    assert {failed.id} == ids(task="tests.broken")
    assert {failed.id} == ids(statuses=[JobStatus.FAILED])
    assert {mail.id} == ids(statuses=[JobStatus.SUCCESS, JobStatus.DEAD], queue="mail")
    assert set() == ids(queue="none")


def test_ended_jobs_are_counted(engine: Engine) -> None:
    engine.task(add).delay(1)
    engine.task(broken).delay()
    engine.work()
    engine.task(add).delay(2)
    inspector, now = Inspector(engine.runtime), engine.runtime.clock.now() + 1
    counts = [
        inspector.count_ended(success_before=success, failed_before=failure)
        for success, failure in ((now, now), (now, 0.0), (0.0, now), (0.0, 0.0))
    ]
    assert [2, 1, 1, 0] == counts
