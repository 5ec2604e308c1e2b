"""``nuvom migrate-from celery``: what it reports, and the imports that it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import invoke
from tests.unit.discovery.projects import write

APP = """\
from celery import Celery

app = Celery("shop")
app.conf.beat_schedule = {"nightly": {"task": "shop.tasks.clean", "schedule": 60}}
"""
TASKS = """\
import os
from celery import chain, shared_task
from celery.exceptions import (
    Retry as Again,
    SoftTimeLimitExceeded,
)
from celery.utils.log import get_task_logger; import sys
from shop.app import app
from kombu import Queue

raise SystemExit("nothing runs this")


@app.task(bind=True, name="send", acks_late=True)
def send(self, to):
    self.retry(countdown=5)
    self.retry(queue="slow")
    self.retry(args=(to,))


@shared_task(rate_limit="10/m")
def slow(): ...


@shared_task(retires=3)
def clean():
    send.delay("you")
    send.apply_async(("you",), countdown=5)
    send.apply_async(("you",), link_error=slow.s())
    send.apply_async(("you",), color="red")
    chain(send.s("a"), slow.si()).delay()
    app.send_task("send", ("you",))
"""
BASES = """\
def start():
    if True:
        from celery import Task, beat
    import celery
    import celery.bin.worker
    return Task, celery.current_task


def plain(numbers):
    return numbers.apply(len), numbers.delay


@start().task
def lost(): ...
"""
OTHERS = """\
from theirs import Celery

celery_app = Celery()
"""
LOST = "shop.others.celery_app.task"
FAR = """\
from shop.others import celery_app


@celery_app.task(name="far")
def far(): ...


@celery_app.task(bind=True, name="near")
def near(self): ...
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path, {"shop/app.py": APP, "shop/tasks.py": TASKS, "shop/bases.py": BASES})
    (tmp_path / "shop/broken.py").write_text("from celery import (")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def remarks(found: dict[str, Any], kind: str) -> list[tuple[str, str, int]]:
    listed = [one for one in found["remarks"] if one["kind"] == kind]
    return [(one["level"], one["what"], one["line"]) for one in listed]


def test_what_does_not_map_is_told_with_its_place(shop: Path) -> None:
    found = invoke("--json", "migrate-from", "celery", "shop").json
    counts = {kind: tuple(levels.values()) for kind, levels in found["counts"].items()}
    assert counts["definition"] == (2, 1, 1)
    assert counts["submission"] == (3, 0, 2)
    assert [
        ("hand", "lost: @start().task", 14),
        ("unsupported", "slow: rate_limit=", 22),
    ] == remarks(found, "definition")
    assert [
        ("unsupported", "send.apply_async(link_error=)", 29),
        ("unsupported", "send.apply_async(color=)", 30),
    ] == remarks(found, "submission")
    assert [
        ("unsupported", "self.retry(queue=)", 17),
        ("hand", "self.retry(args=)", 18),
    ] == remarks(found, "retry")
    assert {("unsupported", "chain", 31), ("hand", "send.s", 31)} <= set(remarks(found, "canvas"))
    assert [("hand", "beat_schedule", 4)] == remarks(found, "schedule")
    assert [
        ("unsupported", "celery.beat", 3),
        ("hand", "celery.bin.worker", 5),
        ("unsupported", "kombu.Queue", 9),
    ] == remarks(found, "import")
    assert all(one["reason"] for one in found["remarks"])


def test_schedules_map_once_workers_import_them(shop: Path) -> None:
    own = """\
from celery.schedules import crontab, solar
from shop.app import app


@app.on_after_configure.connect
def add(sender, **_):
    sender.add_periodic_task(crontab(), 0)
    sender.add_periodic_task(solar("sunset", 1, 2), 0)
"""
    write(shop, {"shop/own.py": own})
    places = [("beat_schedule", 4), ("add_periodic_task", 7), ("add_periodic_task", 8)]
    for hooks, told in (("", [("hand", *one) for one in places]), ('hooks = "shop.own"', [])):
        (shop / "nuvom.toml").write_text(hooks)
        found = invoke("--json", "migrate-from", "celery", "shop").json
        told.append(("unsupported", "solar", 8))
        assert told == remarks(found, "schedule")
        counted = found["counts"]["schedule"]
        assert (3, 1) == (counted["maps"] + counted["hand"], counted["unsupported"])


def test_report_is_a_table_and_a_line_for_each(shop: Path) -> None:
    answer = invoke("migrate-from", "celery", "shop")
    assert "tasks" in answer.out
    assert (
        "shop/tasks.py:22: slow: rate_limit=: unsupported: Nuvom has no rate limits yet"
        in answer.out
    )
    assert "3 files would change." in answer.err
    one = invoke("migrate-from", "celery", "shop/app.py")
    assert "beat_schedule" in one.out
    assert "tasks.py" not in one.out


def test_diff_changes_nothing_and_write_does(shop: Path) -> None:
    answer = invoke("migrate-from", "celery", "shop", "--diff")
    assert "-from celery import Celery\n+from nuvom.compat.celery import Celery\n" in answer.out
    assert APP == (shop / "shop/app.py").read_text()
    assert invoke("migrate-from", "celery", "shop", "--write").code == 0
    assert (
        APP.replace("from celery", "from nuvom.compat.celery") == (shop / "shop/app.py").read_text()
    )
    assert (shop / "shop/tasks.py").read_text() == (
        TASKS.replace("from celery", "from nuvom.compat.celery")
    )
    assert (shop / "shop/bases.py").read_text() == (
        BASES.replace(
            "        from celery import Task, beat\n",
            "        from nuvom.compat.celery import Task\n        from celery import beat\n",
        ).replace("    import celery\n", "    from nuvom.compat import celery\n")
    )
    assert not invoke("--json", "migrate-from", "celery", "shop").json["files"]["changed"]


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("nuvom.toml", "", 'task_decorators = ["{0}"]\n'),
        ("nuvom.toml", "[task_defaults]\n", 'task_decorators = ["{0}"]\n{1}'),
        (
            "nuvom.toml",
            'task_decorators = [\n    "a.b",\n]\nhooks = "a"\n',
            'task_decorators = ["a.b", "{0}"]\nhooks = "a"\n',
        ),
        (
            "pyproject.toml",
            '[tool.nuvom]\nhooks = "a"\n\n[tool.x]\n',
            '[tool.nuvom]\ntask_decorators = ["{0}"]\nhooks = "a"\n\n[tool.x]\n',
        ),
        (
            "pyproject.toml",
            "[tool.nuvom.task_defaults]\n",
            '{1}\n[tool.nuvom]\ntask_decorators = ["{0}"]\n',
        ),
    ],
)
def test_decorators_of_other_packages_are_added_to_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, before: str, after: str
) -> None:
    write(tmp_path, {"shop/others.py": OTHERS, "shop/far.py": FAR})
    if before:
        (tmp_path / file).write_text(before)
    monkeypatch.chdir(tmp_path)
    told = invoke("--json", "migrate-from", "celery").json
    assert [("hand", "far: @celery_app.task", 5), ("hand", "near: @celery_app.task", 9)] == (
        remarks(told, "definition")
    )
    assert f"--write adds {LOST} to task_decorators" in told["remarks"][0]["reason"]
    assert [file] == invoke("--json", "migrate-from", "celery", "--write").json["files"]["changed"]
    assert after.format(LOST, before) == (tmp_path / file).read_text()
    assert ["far", "near"] == invoke("--json", "discover", "tasks").json["tasks"]
    again = invoke("--json", "migrate-from", "celery").json
    assert (2, []) == (again["counts"]["definition"]["maps"], again["files"]["changed"])


def test_project_without_celery_has_nothing_to_report(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "from nuvom import task\n@task\ndef add(): ..."})
    answer = invoke("migrate-from", "celery", str(tmp_path))
    assert "No use of Celery was found." in answer.err + answer.out
    assert invoke("migrate-from", "celery", str(tmp_path / "nosuch")).code != 0
