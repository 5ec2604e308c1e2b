"""Declared schedules: what a scheduler makes of them in the store, and what it leaves alone."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from nuvom.core.ids import new_id
from nuvom.core.views import WorkerInfo
from nuvom.discovery.auto_register import refresh
from nuvom.discovery.manifest import release_of
from nuvom.errors import InvalidSchedule
from nuvom.events import SchedulesReconciled
from nuvom.runtime import Runtime
from nuvom.scheduler import planner, service
from nuvom.scheduler.declared import Difference, declared_by, difference_in, reconcile
from nuvom.scheduler.record import ScheduleChange, ScheduleRecord
from nuvom.scheduler.schedule import put, store_of
from nuvom.scheduler.service import Scheduler
from nuvom.scheduler.store import all_records
from tests.engine import in_use, make_runtime, wait_until

BEFORE = """
    from nuvom import task
    @task(schedule="0 9 * * MON-FRI", timezone_name="Europe/Berlin")
    def kept(): ...
    @task(schedule=600)
    def changed(): ...
    @task(schedule="@daily", queue="mail")
    def removed(): ...
    @task
    def tidy(folder, days=7): ...
"""
AFTER = """
    from nuvom import task
    @task(schedule="0 9 * * MON-FRI", timezone_name="Europe/Berlin")
    def kept(): ...
    @task(schedule={"interval": 900, "overlap": "skip"}, queue="slow")
    def changed(): ...
    @task(schedule="@hourly")
    def added(): ...
    @task
    def tidy(folder, days=7): ...
"""
TABLE = {"nightly": {"task": "tasks.tidy", "args": ["/tmp"], "cron": "0 3 * * *"}}


@pytest.fixture(params=["memory", "file", "sqlite"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def deploy(runtime: Runtime, code: str) -> None:
    """Put code into the project, and do what a worker does first."""
    (runtime.settings.root / "tasks.py").write_text(textwrap.dedent(code))
    refresh(runtime.settings.root, runtime.settings.manifest_file)


def planned(runtime: Runtime) -> Difference:
    found, _ = refresh(runtime.settings.root, runtime.settings.manifest_file)
    return difference_in(runtime, declared_by(runtime, found.tasks))


def said(found: Difference) -> dict[str, str]:
    return {step.name: step.what for step in found.steps if step.what != "same"}


def stored(runtime: Runtime) -> dict[str, ScheduleRecord]:
    return {one.name: one for one in all_records(store_of(runtime))}


def states(runtime: Runtime) -> dict[str, str]:
    return {name: one.state for name, one in stored(runtime).items()}


@contextmanager
def opened(root: Path, **settings: Any) -> Iterator[Runtime]:
    """Use a runtime whose store lives as long as the block."""
    with in_use(make_runtime(root, **settings)) as runtime:
        yield runtime


def test_a_deploy_does_what_the_difference_says(project: Path, backend: str) -> None:
    with opened(project, queue_backend=backend, schedules=TABLE) as runtime:
        deploy(runtime, BEFORE)
        first = {"nightly", "tasks.changed", "tasks.kept", "tasks.removed"}
        assert dict.fromkeys(first, "added") == said(reconcile(runtime))
        assert dict.fromkeys(first, "active") == states(runtime)
        before = stored(runtime)
        assert {} == said(planned(runtime)) == said(reconcile(runtime))
        deploy(runtime, AFTER)
        expected = planned(runtime)
        assert {
            "tasks.added": "added",
            "tasks.changed": "changed",
            "tasks.removed": "disabled",
        } == said(expected)
        (changed,) = expected.of("changed")
        assert {
            ("interval", 600.0, 900.0),
            ("overlap", "allow", "skip"),
            ("queue", "default", "slow"),
        } == {tuple(field) for field in changed.fields}
        events: list[SchedulesReconciled] = []
        runtime.bus.subscribe(SchedulesReconciled, events.append)
        assert said(expected) == said(reconcile(runtime))
        named = ("tasks.added",), ("tasks.changed",), (), ("tasks.removed",), ()
        (event,) = events
        assert named == (
            event.added,
            event.changed,
            event.enabled,
            event.disabled,
            event.problems,
        )
        after = stored(runtime)
        assert after["tasks.removed"].disabled == f"{project.name} no longer declares it"
        assert after["tasks.removed"].due_at is None
        assert (900.0, "slow") == (
            after["tasks.changed"].rule.interval,
            after["tasks.changed"].job.queue,
        )
        assert before["tasks.kept"].next_at == after["tasks.kept"].next_at
        assert before["nightly"].id == after["nightly"].id
        assert {} == said(planned(runtime))


def test_what_was_moved_to_another_store_is_not_enabled_here(project: Path) -> None:
    with opened(project) as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
        seen = stored(runtime)["tasks.changed"]
        assert store_of(runtime).apply([planner.left_to("another store", seen, 1.0)]) == [True]
        deploy(runtime, AFTER)
        assert {"tasks.added", "tasks.removed"} == said(planned(runtime)).keys()
        reconcile(runtime)
        assert "moved to another store" == stored(runtime)["tasks.changed"].disabled
        assert {} == said(planned(runtime))


def test_a_table_in_the_settings_schedules_a_task_with_arguments(project: Path) -> None:
    with opened(project, schedules=TABLE) as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
        nightly = stored(runtime)["nightly"]
        assert ("settings", "tasks.tidy") == (nightly.origin, nightly.task)
        args, kwargs = runtime.codec.decode_call(nightly.job.args, nightly.job.kwargs)
        assert (["/tmp"], {}) == (list(args), dict(kwargs))
    replaced = {"tasks.kept": {"task": "tasks.kept", "interval": 5}}
    with opened(project, schedules=replaced) as runtime:
        reconcile(runtime)
        kept = stored(runtime)["tasks.kept"]
        assert (5.0, "settings") == (kept.rule.interval, kept.origin)


def test_what_is_declared_again_fires_again_and_makes_up_for_nothing(project: Path) -> None:
    with opened(project) as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
        deploy(runtime, AFTER)
        reconcile(runtime)
        store, gone = store_of(runtime), stored(runtime)["tasks.removed"]
        long_ago = replace(gone, next_at=86_400.0, revision=gone.revision + 1)
        assert [True] == store.apply([ScheduleChange(gone.name, gone.revision, long_ago)])
        deploy(runtime, BEFORE)
        expected = planned(runtime)
        assert "enabled" == said(expected)["tasks.removed"]
        assert said(expected) == said(reconcile(runtime))
        again, now = stored(runtime)["tasks.removed"], store.clock.now()
        assert ("active", "mail") == (again.state, again.job.queue)
        assert again.next_at == again.due_at
        assert now < (again.due_at or 0.0) <= now + 86_400


def test_a_pause_is_kept(project: Path) -> None:
    with opened(project) as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
        store = store_of(runtime)
        for name in ("tasks.changed", "tasks.removed"):
            store.apply([planner.paused(stored(runtime)[name], "me", store.clock.now())])
        for code in (AFTER, BEFORE):
            deploy(runtime, code)
            reconcile(runtime)
        assert ["me", "me"] == [
            stored(runtime)[name].paused_by for name in ("tasks.changed", "tasks.removed")
        ]


def foreign(runtime: Runtime, name: str, **more: Any) -> ScheduleRecord:
    """Store a schedule that is not this project's."""
    kept = stored(runtime)["tasks.kept"]
    ours = {"origin": "program", "project": "", "release": "", **more}
    return put(store_of(runtime), replace(kept, name=name, id=new_id(), **ours))


def test_schedules_of_programs_and_of_other_projects_stay_as_they_are(project: Path) -> None:
    with opened(project) as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
        mine = foreign(runtime, "tasks.added")
        alone = foreign(runtime, "often")
        other = foreign(runtime, "theirs", origin="code", project="other")
        deploy(runtime, AFTER)
        found = planned(runtime)
        assert {"tasks.changed", "tasks.removed"} == set(said(found))
        (problem,) = found.problems
        assert '"tasks.added" is declared, but a program has made one' in problem
        assert found.problems == reconcile(runtime).problems
        after = stored(runtime)
        assert [mine, alone, other] == [after[one.name] for one in (mine, alone, other)]


def test_a_program_takes_a_name_over_only_from_what_is_not_declared_any_more(
    project: Path,
) -> None:
    with opened(project) as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
        store, before = store_of(runtime), stored(runtime)
        mine = replace(before["tasks.removed"], id=new_id(), origin="program", project="")
        with pytest.raises(InvalidSchedule, match="a schedule of this name is declared in code"):
            put(store, mine)
        assert before == stored(runtime)
        deploy(runtime, AFTER)
        reconcile(runtime)
        put(store, mine)
        assert "active" == states(runtime)["tasks.removed"]
        assert reconcile(runtime).is_empty


def test_a_project_that_was_renamed_takes_its_schedules_over(project: Path) -> None:
    with opened(project, queue_backend="sqlite", project_name="old") as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
    with opened(project, queue_backend="sqlite", project_name="new") as runtime:
        (step, *_) = reconcile(runtime).of("changed")
        assert [("project", "old", "new")] == [tuple(field) for field in step.fields]
        deploy(runtime, AFTER)
        assert "disabled" == said(reconcile(runtime))["tasks.removed"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "@task(schedule=when())\ndef removed(): ...",
            "its schedule can only be known by importing",
        ),
        ("@task(schedule='0 25 * * *')\ndef removed(): ...", "column 3"),
        ("@task(schedule='@daily')\ndef removed(x): ...", "x"),
        ("@task(schedule='@daily', queue=q())\ndef removed(): ...", "its queue can only be known"),
        ("@task(**options)\ndef removed(): ...", ""),
        ("if __name__ == '__main__':\n    @task(schedule=5)\n    def removed(): ...", "importing"),
    ],
)
def test_a_declaration_that_cannot_be_read_disables_nothing(
    project: Path, code: str, reason: str
) -> None:
    with opened(project) as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
        before = stored(runtime)["tasks.removed"]
        deploy(runtime, f"from nuvom import task\n{code}\n")
        found = reconcile(runtime)
        assert {"tasks.changed": "disabled", "tasks.kept": "disabled"} == said(found)
        assert before == stored(runtime)["tasks.removed"]
        assert bool(reason) == bool(found.problems)
        assert all("tasks.removed" in one and reason in one for one in found.problems)


@pytest.mark.parametrize("content", [None, b"{", b'{"version": 2, "tasks": []}'])
def test_without_a_manifest_nothing_changes(project: Path, content: bytes | None) -> None:
    with opened(project, schedules=TABLE) as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
        before = stored(runtime)
        manifest = runtime.settings.manifest_file
        manifest.unlink()
        if content is not None:
            manifest.write_bytes(content)
        found = reconcile(runtime)
        assert ((), before) == (found.steps, stored(runtime))
        (problem,) = found.problems
        assert "stay as they are" in problem


def test_many_schedulers_at_once_make_one_of_each(project: Path) -> None:
    with opened(project, queue_backend="sqlite", schedules=TABLE) as runtime:
        deploy(runtime, BEFORE)
        for code, count in ((BEFORE, 4), (AFTER, 3), (BEFORE, 3)):
            deploy(runtime, code)
            with ThreadPoolExecutor(8) as pool:
                done = list(pool.map(lambda _: reconcile(runtime), range(16)))
            assert count == sum(len(said(one)) for one in done)
            assert {} == said(planned(runtime))


def announced(runtime: Runtime) -> Callable[[], object]:
    """Have the store know of a worker with the present code; return what makes it leave."""
    queue: Any = runtime.queue
    release = release_of(runtime.settings)
    worker = WorkerInfo(id="01990000-0000-7000-8000-0000000000aa", release=release)
    queue.announce(worker)
    return lambda: queue.retire(worker.id)


def test_nothing_is_disabled_while_a_worker_runs_code_that_declares_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOK_SECS", "_LEAST_LOOK_SECS"):
        monkeypatch.setattr(service, name, 0.01)
    with opened(project) as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
        leave, release = announced(runtime), release_of(runtime.settings)
        deploy(runtime, AFTER)
        (step,) = planned(runtime).of("disabled")
        assert ("tasks.removed", release) == (step.name, step.waits_for)
        seen: list[SchedulesReconciled] = []
        runtime.bus.subscribe(SchedulesReconciled, seen.append)
        scheduler = Scheduler(runtime)
        scheduler.start()
        wait_until(lambda: len(seen) == 1)
        assert (("tasks.added",), ("tasks.changed",), ()) == (
            seen[0].added,
            seen[0].changed,
            seen[0].disabled,
        )
        assert "active" == states(runtime)["tasks.removed"]
        leave()
        wait_until(lambda: len(seen) == 2)
        scheduler.stop()
        assert SchedulesReconciled(disabled=("tasks.removed",)) == seen[1]
        assert "disabled" == states(runtime)["tasks.removed"]


def test_old_code_that_starts_again_does_not_disable_what_new_code_declares(project: Path) -> None:
    with opened(project) as runtime:
        deploy(runtime, BEFORE)
        reconcile(runtime)
        deploy(runtime, AFTER)
        reconcile(runtime)
        announced(runtime)
        deploy(runtime, BEFORE)
        reconcile(runtime)
        assert "active" == states(runtime)["tasks.added"]
