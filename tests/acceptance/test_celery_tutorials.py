"""The steps of Celery's tutorials, as programs of our own: only the imports are Nuvom's.

Each program is a project in a folder; a worker is started as a user would start it, and the calls
come from another process.
"""

# ruff: noqa: E501  # programs in texts

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.shell import ROOT, call
from tests.engine import LIMIT_SECS
from tests.unit.discovery.projects import write


@contextmanager
def worker(folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "nuvom", "runworker", "--quiet"]
    with subprocess.Popen(command, cwd=folder, env=_environment()) as process:
        try:
            yield
        finally:
            process.terminate()


def run(folder: Path, program: str) -> str:
    """Run a program in a project, and return what it prints."""
    (folder / "program.py").write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=2 * LIMIT_SECS,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def project(folder: Path, files: dict[str, str]) -> Path:
    write(
        folder, {"nuvom.toml": "", **{name: textwrap.dedent(text) for name, text in files.items()}}
    )
    found = call("discover", "tasks", cwd=folder)
    assert 0 == found.code, found.err
    return folder


def test_first_steps(tmp_path: Path) -> None:
    """An application, a task, a call, its result; an error; settings from a module."""
    folder = project(
        tmp_path,
        {
            "tasks.py": """
                from nuvom.compat.celery import Celery

                app = Celery("tasks", backend="rpc://", broker="pyamqp://guest@localhost//")
                app.config_from_object("celeryconfig")

                @app.task
                def add(x, y):
                    return x + y

                @app.task
                def divide(x, y):
                    return x / y
                """,
            "celeryconfig.py": """
                task_serializer = "json"
                result_serializer = "json"
                timezone = "Europe/Oslo"
                enable_utc = True
                task_routes = {"tasks.add": "low-priority"}
                """,
        },
    )
    with worker(folder):
        printed = run(
            folder,
            """
            from tasks import add, divide

            result = add.delay(4, 4)
            print(result.ready() in (True, False), result.get(timeout=30), result.ready(), result.queue)
            broken = divide.delay(1, 0)
            print(repr(broken.get(propagate=False, timeout=30)))
            print(broken.traceback.splitlines()[-1])
            result.forget()
            try:
                broken.get()
            except ZeroDivisionError as error:
                print("raised", error)
            """,
        )
    assert printed.splitlines() == [
        "True 8 True low-priority",
        "ZeroDivisionError('division by zero')",
        "ZeroDivisionError: division by zero",
        "raised division by zero",
    ]


def test_next_steps(tmp_path: Path) -> None:
    """A package with its application in a module, tasks in another, states, and partial calls."""
    folder = project(
        tmp_path,
        {
            "proj/__init__.py": "",
            "proj/celery.py": """
                from nuvom.compat.celery import Celery

                app = Celery("proj", broker="amqp://", backend="rpc://", include=["proj.tasks"])
                app.conf.update(result_expires=3600)

                if __name__ == "__main__":
                    app.start()
                """,
            "proj/tasks.py": """
                from .celery import app

                @app.task
                def add(x, y):
                    return x + y

                @app.task
                def mul(x, y):
                    return x * y
                """,
        },
    )
    with worker(folder):
        printed = run(
            folder,
            """
            from proj.celery import app
            from proj.tasks import add, mul

            result = add.apply_async((2, 2), queue="lopri", countdown=0.1)
            print(result.get(timeout=30), result.queue, add(2, 2))
            failed = add.delay(2, "2")
            failed.get(propagate=False, timeout=30)
            print(failed.failed(), failed.successful(), failed.state)
            print(app.AsyncResult(result.id).get(), len(app.control.inspect().active() or ()) in (0, 1))
            print(mul.s(8).delay(4).get(timeout=30), add.signature((2, 3), countdown=0).apply_async().get(timeout=30))
            """,
        )
    assert printed.splitlines() == ["4 lopri 4", "True False FAILURE", "4 True", "32 5"]


def test_calling_tasks(tmp_path: Path) -> None:
    """Links, times, expiry, messages sent and retried, priorities, results that are not kept."""
    folder = project(
        tmp_path,
        {
            "proj.py": """
                from nuvom.compat.celery import Celery, shared_task

                app = Celery("proj")

                @app.task
                def add(x, y):
                    return x + y

                @shared_task
                def keep(value, name):
                    with open(name, "a") as file:
                        file.write(f"{value}\\n")
                """,
        },
    )
    with worker(folder):
        printed = run(
            folder,
            """
            from datetime import datetime, timedelta, timezone
            from pathlib import Path
            from proj import add, keep

            kept = Path("kept.txt")
            add.apply_async((2, 2), link=keep.s("kept.txt")).get(timeout=30)
            while not kept.exists():
                pass
            soon = datetime.now(timezone.utc) + timedelta(seconds=0.2)
            print(add.apply_async(args=[10, 10], eta=soon, expires=3600).get(timeout=30))
            print(add.apply_async(kwargs={"x": 1, "y": 2}, countdown=0.1, retry=False).get(timeout=30))
            late = add.apply_async((1, 1), countdown=10**6, expires=2 * 10**6)
            late.revoke()
            print(late.state, add.apply_async((1, 1), priority=0, ignore_result=True).get(timeout=30))
            print(add.apply_async((1, 1), serializer="json", compression="zlib").get(timeout=30))
            print(kept.read_text().strip())
            """,
        )
    assert printed.splitlines() == ["20", "3", "REVOKED None", "2", "4"]


def test_tasks(tmp_path: Path) -> None:
    """Names, bound tasks, retries by hand and by class, states of their own, a base class."""
    folder = project(
        tmp_path,
        {
            "nuvom.toml": 'hooks = "proj"',
            "proj.py": """
                from nuvom.compat.celery import Celery, Task, states
                from nuvom.compat.celery.exceptions import Ignore, SoftTimeLimitExceeded
                from nuvom.compat.celery.signals import task_postrun
                from nuvom.compat.celery.utils.log import get_task_logger

                app = Celery("proj")
                logger = get_task_logger(__name__)

                class DatabaseTask(Task):
                    _db = None

                    @property
                    def db(self):
                        if self._db is None:
                            self._db = {"rows": 3}
                        return self._db

                @app.task(base=DatabaseTask, bind=True)
                def process_rows(self):
                    logger.info("rows: %s", self.db["rows"])
                    return self.db["rows"]

                @app.task(name="sum-of-two-numbers")
                def add(x, y):
                    return x + y

                @app.task(bind=True)
                def dump_context(self, x, y):
                    return f"{self.request.args!r} {self.request.kwargs!r} {self.request.retries}"

                @app.task(bind=True, default_retry_delay=0.1, max_retries=3)
                def send_status(self, oauth, tweet):
                    try:
                        if self.request.retries < 2:
                            raise KeyError("offline")
                    except KeyError as exc:
                        raise self.retry(exc=exc)
                    return self.request.retries

                @app.task(bind=True, autoretry_for=(KeyError,), retry_kwargs={"max_retries": 5}, retry_backoff=True, retry_backoff_max=1)
                def refresh(self, user):
                    if self.request.retries < 1:
                        raise KeyError(user)
                    return user

                @app.task(bind=True)
                def upload_files(self, filenames, until):
                    from pathlib import Path
                    for i, file in enumerate(filenames):
                        if not self.request.called_directly:
                            self.update_state(state="PROGRESS", meta={"current": i, "total": len(filenames)})
                    while not Path(until).exists():
                        pass

                @app.task(bind=True)
                def some_task(self):
                    raise Ignore()

                @app.task(soft_time_limit=0.1)
                def patient():
                    try:
                        while True:
                            pass
                    except SoftTimeLimitExceeded:
                        return "cleaned up"

                @task_postrun.connect
                def note(sender=None, state=None, **kwargs):
                    with open("states.txt", "a") as file:
                        file.write(f"{sender.name.rpartition('.')[2]} {state}\\n")
                """,
        },
    )
    with worker(folder):
        printed = run(
            folder,
            """
            from pathlib import Path
            from proj import *
            from proj import app

            print(process_rows.delay().get(timeout=30), add.name, app.send_task("sum-of-two-numbers", (1, 2)).get(timeout=30))
            print(dump_context.delay(1, y=2).get(timeout=30))
            print(send_status.delay("o", "t").get(timeout=60), refresh.delay("me").get(timeout=60))
            upload = upload_files.delay(["a", "b"], "done.txt")
            while upload.state != "PROGRESS" or upload.info["current"] < 1:
                pass
            print(upload.state, upload.info)
            Path("done.txt").touch()
            print(upload.get(timeout=30), upload.state == states.SUCCESS)
            print(some_task.delay().get(propagate=False, timeout=30).__class__.__name__, patient.delay().get(timeout=30))
            """,
        )
    assert printed.splitlines() == [
        "3 sum-of-two-numbers 3",
        "(1,) {'y': 2} 0",
        "2 me",
        "PROGRESS {'current': 1, 'total': 2}",
        "None True",
        "JobFailed cleaned up",
    ]
    noted = (folder / "states.txt").read_text().splitlines()
    assert 2 == noted.count("send_status RETRY")
    assert {"add SUCCESS", "refresh RETRY", "some_task IGNORED"} <= {
        one.replace("sum-of-two-numbers", "add") for one in noted
    }


def test_periodic_tasks_of_the_tutorials_are_fired_by_workers(tmp_path: Path) -> None:
    folder = project(
        tmp_path,
        {
            "nuvom.toml": 'hooks = "proj"',
            "proj.py": """
                from nuvom.compat.celery import Celery
                from nuvom.compat.celery.schedules import crontab

                app = Celery("proj")

                @app.on_after_configure.connect
                def setup_periodic_tasks(sender: Celery, **kwargs):
                    sender.add_periodic_task(3600.0, add.s(2, 2), name="add every hour")

                @app.task
                def add(x, y):
                    return x + y

                app.conf.beat_schedule = {
                    "add-every-monday-morning": {
                        "task": "proj.add",
                        "schedule": crontab(hour=7, minute=30, day_of_week=1),
                        "args": (16, 16),
                    },
                }
                app.conf.timezone = "Europe/London"
                """,
        },
    )
    assert call("runworker", "--burst", "--quiet", cwd=folder).code == 0
    said = run(
        folder,
        """
        import nuvom

        for one in nuvom.schedules():
            print(one.name, one.task, one.state, one.description, sep="; ")
        """,
    )
    assert [
        "add every hour; proj.add; active; every 1 h",
        "add-every-monday-morning; proj.add; active; at 07:30 on Monday (Europe/London)",
    ] == said.splitlines()
    with worker(folder):
        said = run(
            folder,
            """
            from nuvom.scheduler.schedule import find

            print(find("add-every-monday-morning").run_now().get(timeout=60))
            """,
        )
    assert "32" == said.strip()
