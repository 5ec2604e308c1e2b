"""Tasks of Django, found without importing them, with the options that their decorator has."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Any

from nuvom.discovery.scan import Hints, scan
from nuvom.discovery.stub import definition_of

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.discovery.entries import TaskEntry

OF_DJANGO = Hints(task_decorators=("django.tasks.task",))
SHOP = """
    import django.tasks
    from django.tasks import task
    from conf import URGENT, mail_task

    @task
    def plain(number): ...
    @task(priority=10, queue_name="mail", takes_context=True, backend="other")
    async def send(context, to: str, *, subject="-"): ...
    @django.tasks.task(priority=URGENT, retries=2, timeout=9, isolation="process")
    def charge(context): ...
    @mail_task(priority=-1)
    def remind(): ...
    @task(max_attempts=4, priority=0)
    def often(): ...
    """
CONF = """
    import os
    from functools import partial
    from django.tasks import task
    URGENT = os.getpid()
    mail_task = partial(task, queue_name="mail")
    """


def scanned(folder: Path, hints: Hints = OF_DJANGO) -> dict[str, TaskEntry]:
    (folder / "shop.py").write_text(dedent(SHOP))
    (folder / "conf.py").write_text(dedent(CONF))
    found = scan(folder, hints=hints)
    assert found.problems == ()
    return {one.qualname: one for one in found.tasks}


def test_options_are_those_of_nuvom(tmp_path: Path) -> None:
    tasks = scanned(tmp_path)
    default: dict[str, Any] = {"queue": "default", "priority": 0}
    assert {name: one.options for name, one in tasks.items()} == {
        "plain": default,
        "send": {"queue": "mail", "priority": -10},
        "charge": {"queue": "default", "retries": 2, "timeout_secs": 9, "isolation": "process"},
        "remind": {"queue": "mail", "priority": 1},
        "often": {**default, "retries": 3},
    }
    assert definition_of(tasks["send"]).options.queue == "mail"


def test_the_context_is_left_out(tmp_path: Path) -> None:
    tasks = scanned(tmp_path)
    assert tasks["send"].signature == "(to: str, *, subject='-')"
    assert tasks["charge"].signature == "(context)"


def test_what_only_code_and_settings_say_is_unknown(tmp_path: Path) -> None:
    tasks = scanned(tmp_path)
    assert tasks["charge"].dynamic_options == ("**", "priority")
    assert tasks["plain"].dynamic_options == ("**",)


def test_a_project_that_does_not_ask_for_them_has_none(tmp_path: Path) -> None:
    assert scanned(tmp_path, Hints()) == {}
