"""The whole view, driven by keys at two sizes of a terminal, over a store in memory."""

from __future__ import annotations

import asyncio
import html
import json
import re
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import pytest

from nuvom.contrib.top.app import TopApp
from nuvom.contrib.top.sources import Data, StoreSource
from nuvom.contrib.top.widgets import Question
from nuvom.core.record import JobRecord, JobSnapshot, JobStatus
from nuvom.discovery.manifest import write_manifest
from nuvom.discovery.scan import scan
from nuvom.errors import BackendUnavailable
from nuvom.inspection.inspector import Inspector
from nuvom.queue_backends.store import StoreQueue
from nuvom.runtime import Runtime
from nuvom.scheduler.record import ScheduleChange
from nuvom.testing.builders import make_job, make_schedule, make_settlement
from nuvom.testing.clock import FakeClock
from tests.engine import make_runtime

SMALL, LARGE = (80, 24), (120, 40)
Check = Callable[["View"], Awaitable[None]]


class Watched(StoreSource):
    """A store that can be lost, and that can be held up while it is read."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime, Inspector(runtime))
        self.failure: Exception | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.reads = 0

    def overview(self) -> Data:
        self.reads += 1
        self.goes_on.wait()
        if self.failure is not None:
            raise self.failure
        return super().overview()


class View:
    """The view in a test: what it shows, and the store behind it."""

    def __init__(self, app: TopApp, pilot: Any, source: Watched, runtime: Runtime) -> None:
        self.app, self.pilot, self.source, self.runtime = app, pilot, source, runtime

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def type(self, text: str) -> None:
        names = {":": "colon", ",": "comma", " ": "space"}
        await self.press(*(names.get(char, char) for char in text))

    async def refresh(self) -> None:
        self.app.ask()
        await self.settle()

    async def settle(self) -> None:
        await self.pilot.pause()
        while self.is_busy and self.source.goes_on.is_set():
            await self.pilot.pause()
        await self.pilot.pause()

    @property
    def is_busy(self) -> bool:
        """Whether something is read or changed, and no question waits for an answer."""
        is_asking = isinstance(self.app.screen, Question)
        return not is_asking and not all(one.is_finished for one in self.app.workers)

    @property
    def text(self) -> str:
        """All that is on the screen."""
        drawn = re.sub(
            r"<style.*?</style>|<[^>]+>", "", self.app.export_screenshot(), flags=re.DOTALL
        )
        return html.unescape(drawn).replace("\xa0", " ")

    def row(self, line: int) -> str:
        """One line of the table; 0 has the titles."""
        return self.app.rows.render_line(line).text

    @property
    def table(self) -> str:
        return "\n".join(map(self.row, range(self.app.rows.size.height)))

    def job(self, record: JobRecord) -> JobSnapshot:
        return Inspector(self.runtime).snapshot(record.id)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def runtime(project: Path, clock: FakeClock) -> Runtime:
    return make_runtime(project, clock=clock, queue_backend="memory", result_backend="memory")


def view(
    runtime: Runtime, check: Check, size: tuple[int, int] = SMALL, *, read_only: bool = False
) -> Watched:
    """Run ``check`` against the view of a store."""
    source = Watched(runtime)

    async def run() -> None:
        app = TopApp(source, read_only=read_only, every=None, clock=runtime.clock)
        async with app.run_test(size=size, notifications=True) as pilot:
            seen = View(app, pilot, source, runtime)
            await seen.settle()
            await check(seen)

    asyncio.run(run())
    return source


def enqueue(runtime: Runtime, name: str = "shop.resize", *args: Any, **fields: Any) -> JobRecord:
    assert isinstance(runtime.clock, FakeClock)
    runtime.clock.advance(1)  # so that their order is known
    record = make_job(name, *args, created_at=runtime.clock.now(), **fields)
    runtime.queue.enqueue(record)
    return record


def end(runtime: Runtime, record: JobRecord, **fields: Any) -> JobRecord:
    """Let a worker end a job, which has to be the only one that is ready."""
    assert isinstance(runtime.queue, StoreQueue)
    (claimed,) = runtime.queue.claim(1, "worker-aaaaaaaa")
    assert claimed.id == record.id
    assert runtime.queue.settle([make_settlement(claimed, **fields)]) == [True]
    return record


def failed(runtime: Runtime, name: str = "shop.charge", *args: Any, **fields: Any) -> JobRecord:
    record = enqueue(runtime, name, *args, **fields)
    return end(runtime, record, status=JobStatus.FAILED)


# ---- what is shown ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "120x40"])
def test_each_tab_shows_what_there_is(runtime: Runtime, size: tuple[int, int]) -> None:
    broken = failed(runtime, queue="billing")
    waits = enqueue(runtime, queue="images")
    runtime.control.pause("images", "ada@example")

    async def check(seen: View) -> None:
        assert "Ready 1" in seen.text
        assert "Failed 1" in seen.text
        assert "images is paused by ada@example." in seen.text
        assert re.search(rf"✗ FAILED +{broken.id[-8:]}  shop\.charge", seen.table)
        assert re.search(rf"○ PENDING +{waits.id[-8:]}  shop\.resize", seen.table)
        await seen.press("2")
        assert re.search(r"‖ +images +1 +0 ", seen.table)
        assert "p pause, resume" in seen.text
        await seen.press("3")
        assert "No worker is running. Start one: nuvom runworker" in seen.text
        await seen.press("4")
        assert "No schedules yet." in seen.text
        await seen.press("5")
        assert re.search(r"✗ +1  shop\.charge", seen.table)

    view(runtime, check, size)


def test_details_stand_beside_the_table_or_in_its_place(runtime: Runtime) -> None:
    failed(runtime, "shop.charge", "order", kwargs={"password": "hunter2"})

    async def check(seen: View) -> None:
        await seen.press("tab")
        assert "Choose a row first" in seen.text
        await seen.press("down")
        assert "shop.charge" in seen.row(1)
        assert "password=" in seen.text
        assert "hunter2" not in seen.text
        await seen.press("enter")
        assert "Esc back" in seen.text
        assert "Attempts" in seen.text
        await seen.press("escape")
        assert "Attempts" not in seen.text
        assert seen.app.rows.has_focus

    view(runtime, check)


def test_text_of_jobs_is_no_markup_and_moves_no_cursor(runtime: Runtime) -> None:
    hostile = "[bold]x[/bold]\x1b[2J\x1b]0;t\x07\u202e\ny"
    failed(runtime, hostile, hostile)

    async def check(seen: View) -> None:
        await seen.press("down", "enter")
        assert "[bold]x[/bold]" in seen.text
        assert "\x1b" not in seen.text
        assert "\u202e" not in seen.text
        for kind in "25":
            await seen.press("escape", kind, "down", "tab", "tab")
        assert "[bold]x[/bold] y" in seen.row(1)

    view(runtime, check)


def test_what_does_not_fit_is_left_out_and_comes_back(runtime: Runtime) -> None:
    enqueue(runtime)

    async def check(seen: View) -> None:
        for width, is_there in ((60, False), (120, True)):
            await seen.pilot.resize_terminal(width, 24)
            await seen.settle()
            assert ("Worker" in seen.row(0)) is is_there
            assert "q quit" in seen.text
            assert len(seen.row(1)) == width

    view(runtime, check)


def test_theme_hold_and_sort(runtime: Runtime) -> None:
    enqueue(runtime, "shop.b")
    enqueue(runtime, "shop.a")

    async def check(seen: View) -> None:
        assert "Created↓" in seen.row(0)
        assert "shop.a" in seen.row(1)
        await seen.press("s", "s", "s")
        assert "Task↑" in seen.row(0)
        await seen.press("s", "t", "f")
        assert seen.app.theme == "light"
        assert "on hold" in seen.text
        await seen.press("f")
        assert "on hold" not in seen.text

    view(runtime, check)


# ---- rows that move ---------------------------------------------------------------------


def test_cursor_and_marks_stay_with_their_jobs(runtime: Runtime) -> None:
    old = [enqueue(runtime) for _ in range(40)]
    chosen, marked = old[-3], old[-2]

    async def check(seen: View) -> None:
        await seen.press("down", "down", "space")
        assert seen.app.rows.cursor == chosen.id
        line = next(at for at in range(24) if chosen.id[-8:] in seen.row(at))
        for _ in range(5):
            enqueue(runtime)
        await seen.refresh()
        assert seen.app.rows.cursor == chosen.id
        assert list(seen.app.rows.marks) == [marked.id]
        assert seen.row(line).startswith("> ○ PENDING")
        assert chosen.id[-8:] in seen.row(line)
        runtime.control.cancel(chosen.id)
        runtime.control.discard(chosen.id)
        await seen.refresh()
        assert seen.app.rows.cursor == old[-4].id  # what is on that line now
        await seen.press("escape")
        assert seen.app.rows.marks == {}

    view(runtime, check)


def test_no_key_acts_on_a_row_that_nobody_chose(runtime: Runtime) -> None:
    record = failed(runtime)

    async def check(seen: View) -> None:
        await seen.press("r", "d")
        assert "Choose a row first" in seen.text
        assert seen.job(record).status is JobStatus.FAILED

    view(runtime, check)


# ---- changes ----------------------------------------------------------------------------


def test_retry_runs_the_job_again(runtime: Runtime) -> None:
    record = failed(runtime)

    async def check(seen: View) -> None:
        await seen.press("down", "r")
        assert seen.job(record).status is JobStatus.PENDING
        assert "1 job retried." in seen.text
        assert "○ PENDING" in seen.row(1)

    view(runtime, check)


def test_a_job_that_has_moved_is_left_alone(runtime: Runtime) -> None:
    record = enqueue(runtime)

    async def check(seen: View) -> None:
        await seen.press("down", "x")
        assert isinstance(seen.app.screen, Question)
        assert isinstance(runtime.queue, StoreQueue)
        runtime.queue.claim(1, "w")
        await seen.press("right", "enter")
        assert seen.job(record).status is JobStatus.RUNNING
        assert "is RUNNING now" in seen.text

    view(runtime, check)


def test_destructive_keys_ask_and_the_first_button_changes_nothing(runtime: Runtime) -> None:
    records = [enqueue(runtime) for _ in range(3)]

    async def check(seen: View) -> None:
        await seen.press("down", "space", "space", "x")
        assert "Cancel 2 jobs" in seen.text
        await seen.press("enter")
        assert {seen.job(one).status for one in records} == {JobStatus.PENDING}
        await seen.press("x", "right", "enter")
        assert [seen.job(one).status for one in reversed(records)] == [
            *[JobStatus.CANCELLED] * 2,
            JobStatus.PENDING,
        ]
        await seen.press("home", "d", "right", "enter")
        assert Inspector(runtime).page()[0].record.id != records[-1].id

    view(runtime, check)


def test_read_only_has_no_key_that_changes_anything(runtime: Runtime) -> None:
    record = failed(runtime)

    async def check(seen: View) -> None:
        assert "read-only" in seen.text
        await seen.press("down", "r", "x", "d", "e", "2", "down", "p", "1", "question_mark")
        assert seen.job(record).status is JobStatus.FAILED
        assert "Retry the marked" not in seen.text
        assert Inspector(runtime).stats()[0].paused_by is None

    view(runtime, check, read_only=True)


def test_a_queue_is_paused_and_resumed(runtime: Runtime) -> None:
    enqueue(runtime, queue="mail")

    async def check(seen: View) -> None:
        await seen.press("2", "down", "p", "right", "enter")
        assert "paused by" in seen.row(1)
        await seen.press("p")
        assert "paused by" not in seen.row(1)
        await seen.press("j")
        assert seen.app.query_text == "queue:mail"
        assert "shop.resize" in seen.row(1)

    view(runtime, check)


def test_a_schedule_is_run_now(runtime: Runtime) -> None:
    store = runtime.schedule_store
    assert store is not None
    assert store.apply([ScheduleChange("probe", 0, make_schedule())]) == [True]

    async def check(seen: View) -> None:
        await seen.press("4", "down", "n", "right", "enter")
        assert [one.record.func_name for one in Inspector(runtime).page()] == ["tests.probe"]
        assert "probe: a job was enqueued." in seen.text

    view(runtime, check)


def test_edited_arguments_make_a_new_job_that_keeps_its_secrets(
    runtime: Runtime, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "shop.py").write_text(
        "from nuvom import task\n@task\ndef charge(order: int, token: str): ...\n"
    )
    write_manifest(runtime.settings.manifest_file, scan(project).tasks, root=project)
    old = failed(runtime, "shop.charge", 2**60, "s3cret")
    shown = []

    def edit(text: str, **_: Any) -> str:
        shown.append(json.loads(text))
        return text.replace(str(2**60), str(2**60 + 1))

    monkeypatch.setattr(click, "edit", edit)
    monkeypatch.setattr(TopApp, "suspend", lambda _: nullcontext())

    async def check(seen: View) -> None:
        await seen.press("down", "e")
        assert shown == [{"args": [2**60, "***"], "kwargs": {}}]
        new = Inspector(runtime).page()[0].record
        assert new.retried_from == old.id
        assert runtime.codec.decode_call(new.args, new.kwargs)[0] == (2**60 + 1, "s3cret")

    view(runtime, check)


# ---- the filter -------------------------------------------------------------------------


def test_a_filter_shows_what_matches_and_a_wrong_one_says_why(runtime: Runtime) -> None:
    failed(runtime)
    enqueue(runtime, "shop.other")

    async def check(seen: View) -> None:
        await seen.press("slash")
        await seen.type("state:failed")
        await seen.press("enter")
        assert "shop.charge" in seen.row(1)
        assert "shop.other" not in seen.text
        await seen.press("slash", "end")
        await seen.type(" colour:red")
        await seen.press("enter")
        assert "colour" in seen.text
        assert "shop.charge" in seen.row(1)
        await seen.press("escape")
        assert seen.app.query_text == "status:FAILED"
        await seen.press("2")
        assert "status:FAILED" not in seen.text
        await seen.press("1")
        assert "status:FAILED" in seen.text
        await seen.press("escape")
        assert "shop.other" in seen.row(1)

    view(runtime, check)


# ---- reading ----------------------------------------------------------------------------


def test_a_lost_store_keeps_what_was_read_and_comes_back(
    runtime: Runtime, clock: FakeClock
) -> None:
    enqueue(runtime)

    async def check(seen: View) -> None:
        seen.source.failure = BackendUnavailable("memory", "it is gone")
        clock.advance(14)
        await seen.refresh()
        assert "The store memory cannot be used: it is gone." in seen.text
        assert "This was read 14 s ago." in seen.text
        assert "shop.resize" in seen.row(1)
        seen.source.failure = None
        await seen.refresh()
        assert "it is gone" not in seen.text

    view(runtime, check)


def test_no_read_begins_while_one_is_under_way(runtime: Runtime) -> None:
    async def check(seen: View) -> None:
        before = seen.source.reads
        seen.source.goes_on.clear()
        for _ in range(5):
            seen.app.ask()
            await seen.settle()
        assert seen.source.reads == before + 1
        assert "Ready" in seen.text  # and the view goes on
        seen.source.goes_on.set()
        await seen.settle()
        assert seen.source.reads == before + 2  # one for all that was asked meanwhile

    view(runtime, check)


def test_a_read_that_takes_long_is_followed_by_a_rest(runtime: Runtime, clock: FakeClock) -> None:
    async def check(seen: View) -> None:
        seen.source.goes_on.clear()
        seen.app.ask()
        await seen.settle()
        clock.advance(2)  # as long as this read takes
        seen.source.goes_on.set()
        await seen.settle()
        reads = seen.source.reads
        for secs, more in ((5, 0), (2, 1)):
            clock.advance(secs)
            seen.app.tick()
            await seen.settle()
            assert seen.source.reads == reads + more

    view(runtime, check)


def test_moving_the_cursor_reads_details_only(runtime: Runtime) -> None:
    enqueue(runtime)
    enqueue(runtime)

    async def check(seen: View) -> None:
        await seen.press("tab")
        reads = seen.source.reads
        await seen.press("down", "down")
        assert seen.app.frame is not None
        assert seen.app.frame.detail is not None
        assert seen.app.frame.detail["id"] == seen.app.rows.cursor
        assert seen.source.reads == reads

    view(runtime, check)


def test_a_bug_ends_the_view_and_shows_no_values(
    runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    async def check(seen: View) -> None:
        seen.source.failure = RuntimeError("a bug")
        await seen.refresh()

    with pytest.raises(Exception, match="a bug"):
        view(runtime, check)
    assert "locals" not in capsys.readouterr().err
