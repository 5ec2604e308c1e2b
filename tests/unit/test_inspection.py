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
from nuvom.inspection.search import parse_search
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


def login(user: str, password: str, *more: Any) -> None:
    pass


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
    engine.task(login, name="tests.login")
    assert (shown, {}) == inspector.shown_arguments(record)


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


def test_a_search_goes_through_jobs_part_by_part(engine: Engine) -> None:
    ids = [engine.task(add, queue="mail" if n % 2 else "images").delay(n, y=7).id for n in range(9)]
    engine.work()
    inspector = Inspector(engine.runtime)

    def find(text: str, **limits: Any) -> tuple[list[int], bool]:
        found = inspector.search(parse_search(text), **{"secs": 60.0, **limits})
        return [ids.index(one.record.id) for one in found.jobs], found.next_before is None

    assert ([8, 7, 6, 5, 4, 3, 2, 1, 0], True) == find("")
    assert ([7, 5, 3, 1], True) == find("queue:mail status:SUCCESS")
    assert ([7, 5], False) == find("queue:mail", limit=2)
    assert ([3, 1], True) == find("queue:mail", limit=2, before=ids[5])
    assert ([8, 3, 1], True) == find("args.x:8,3,1 args.y:7 -queue:none")
    assert ([], True) == find("status:FAILED")
    assert ([], True) == find("status:FAILED status:DEAD")
    assert ([], True) == find("before:1d")
    assert 9 == len(find("after:1d before:2099-01-01")[0])


def test_a_search_for_a_time_finds_all_jobs_of_the_last_millisecond(leased: Engine) -> None:
    ids = {f"01a22c1a-9326-7{digit * 3}-9136-ee017c4fb768" for digit in "f0"}
    for one in sorted(ids, reverse=True):
        leased.runtime.queue.enqueue(make_job(id=one))
    found = Inspector(leased.runtime).search(parse_search("before:2099-01-01"), secs=60.0)
    assert ids == {one.record.id for one in found.jobs}


def test_a_search_stops_at_its_limits_and_can_go_on(leased: Engine) -> None:
    ids = [leased.task(add).delay(n).id for n in range(9)]
    inspector, search = Inspector(leased.runtime), parse_search("args.x:0")

    first = inspector.search(search, within=4, secs=60.0)
    assert ([], True, ids[5]) == (first.jobs, first.is_partial, first.next_before)
    rest = inspector.search(search, before=first.next_before, secs=60.0)
    assert [ids[0]] == [one.record.id for one in rest.jobs]
    assert (None, False, 5) == (rest.next_before, rest.is_partial, rest.looked_at)


def test_statuses_are_counted_over_all_queues(leased: Engine) -> None:
    for number in range(5):
        leased.task(add, queue=f"q{number % 2}").delay(1)
    leased.task(broken).delay()
    leased.work()
    leased.task(add).options(delay=60).delay(1)
    counts = Inspector(leased.runtime).status_counts()
    assert {"SUCCESS": 5, "FAILED": 1, "PENDING": 1} == {
        status: count.n for status, count in counts.items() if count.n
    }
    assert not any(count.is_more for count in counts.values())


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
