"""Tasks of ``nuvom.compat.celery``: found like others, with Nuvom's options."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from nuvom.discovery.scan import NO_HINTS, Hints, Scan, scan
from tests.unit.discovery.projects import write

USE = "@{}\ndef send(): ..."


def scanned(folder: Path, files: dict[str, str], hints: Hints = NO_HINTS) -> Scan:
    write(folder, {name: textwrap.dedent(text).lstrip() for name, text in files.items()})
    return scan(folder, hints=hints, use_cache=False)


@pytest.mark.parametrize(
    "files",
    [
        {"shop.py": "from nuvom.compat.celery import shared_task\n" + USE.format("shared_task")},
        {"shop.py": "import nuvom.compat.celery as c\n" + USE.format("c.shared_task()")},
        {"shop.py": "from nuvom.compat import celery\n" + USE.format("celery.shared_task")},
        {
            "conf.py": "from nuvom.compat.celery import Celery\napp = Celery('shop')",
            "shop.py": "from conf import app\n" + USE.format("app.task(queue='q')"),
        },
        {
            "conf.py": """
                from nuvom.compat.celery import Celery
                class Own(Celery):
                    def send_later(self): ...
                def make():
                    return Own("shop")
                app = make()
                """,
            "shop.py": "from conf import app\n" + USE.format("app.task"),
        },
        {
            "conf.py": """
                from nuvom.compat.celery import Celery
                from lazy import Proxy
                app: Celery = Proxy(lambda: Celery("shop"))
                """,
            "shop.py": "from conf import app\n" + USE.format("app.task(max_retries=3)"),
        },
        {
            "conf.py": """
                from functools import partial
                from nuvom.compat.celery import shared_task
                patient = partial(shared_task, max_retries=9)
                """,
            "shop.py": "from conf import patient\n" + USE.format("patient()"),
        },
    ],
)
def test_task_is_found(tmp_path: Path, files: dict[str, str]) -> None:
    found = scanned(tmp_path, files)
    assert (["shop.send"], ()) == ([task.name for task in found.tasks], found.problems)


def test_decorator_that_the_settings_name_may_be_celerys(tmp_path: Path) -> None:
    files = {
        "elsewhere.py": "from proxies import Proxy\ncelery_app = Proxy(lambda: ...)",
        "shop.py": """
            from elsewhere import celery_app
            @celery_app.task(bind=True, name="post", max_retries=5, rate_limit=None)
            def send(self, to): ...
            @celery_app.task(max_retries=5)
            def touch(): ...
            """,
    }
    found = scanned(tmp_path, files, Hints(task_decorators=("elsewhere.celery_app.task",)))
    assert () == found.problems
    assert [("post", "(to)"), ("shop.touch", "()")] == [
        (task.name, task.signature) for task in found.tasks
    ]


def test_options_are_those_of_nuvom_and_self_is_left_out(tmp_path: Path) -> None:
    found = scanned(
        tmp_path,
        {
            "shop.py": """
                from nuvom.compat.celery import Celery, Task
                from conf import DELAY
                app = Celery("shop")
                @app.task(
                    bind=True, name="send", queue="mail", max_retries=None, time_limit=60,
                    base=Task, ignore_result=True, autoretry_for=(OSError,), priority=9,
                    default_retry_delay=DELAY, rate_limit=None,
                )
                def send(self: "Task[str, int]", to: str, *, subject: str = "-> x") -> bool: ...
                @app.task(bind=True)
                def touch(self, /): ...
                """,
            "conf.py": "import os\nDELAY = os.getpid()",
        },
    )
    assert () == found.problems
    send, touch = found.tasks
    assert "(to: str, *, subject: str='-> x') -> bool" == send.signature
    assert {
        "queue": "mail",
        "retries": 2**31 - 1,
        "timeout_secs": 60,
        "store_result": False,
    } == send.options
    assert ("retry_delay_secs",) == send.dynamic_options
    assert ("shop.touch", "()", {"retries": 3}) == (touch.name, touch.signature, touch.options)
