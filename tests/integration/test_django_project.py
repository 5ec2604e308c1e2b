"""The Django project of ``examples/django`` with real processes: requests, workers, kills, tests.

On SQLite jobs are in a file of their own and wait for the commit; on PostgreSQL they are in the
database of the project, and are written in the transaction of the request.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cli.shell import LIMIT_SECS, end_spawned, spawned
from tests.lab.servers import drop_schemas, need_postgres, new_schema

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12"),
    pytest.mark.skipif(sys.platform == "win32", reason="kills by signals"),
]

ROOT = Path(__file__).resolve().parents[2]
KIT = Path(__file__).with_name("django_kit")
TRIAL_TASKS = """
import os, time
from pathlib import Path
import nuvom
from django.db import connection
from django.tasks import task
from shop.models import Order

@task
def query(number):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", [number])
        return cursor.fetchone()[0]

@task
async def count():
    return await Order.objects.acount()

@task(takes_context=True)
def hang_once(context, started):
    if context.attempt == 1:
        Path(started).write_text(str(os.getpid()))
        while True:
            time.sleep(0.01)
    return context.task_result.worker_ids

@nuvom.task(isolation="process")
def orders():
    return [os.getpid(), Order.objects.count()]
"""
ELSEWHERE = """
import django.tasks
@django.tasks.task(priority=3, queue_name="mail", takes_context=True)
def double(context, number):
    return context.attempt * 2 * number
"""
SETTINGS = """
from config.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "trial"]
NUVOM = {{**NUVOM, "max_workers": 2}}  # another name of threads
{more}
"""
ON_POSTGRES = """
NUVOM = {{"queue_backend": "postgres", "result_backend": "postgres", "postgres_dsn": {dsn!r},
    "postgres_schema": {schema!r}}}
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": {name!r},
    "HOST": {host!r}, "PORT": {port!r}, "USER": {user!r}, "PASSWORD": {password!r},
    "ATOMIC_REQUESTS": True,
    "OPTIONS": {{"application_name": {schema!r}, "options": "-c search_path={schema}"}}}}}}
TASKS = {{"default": {{"BACKEND": "nuvom.contrib.django.NuvomBackend"}}}}
"""

WITH_ADMIN = """
INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.admin", "django.contrib.auth",
    "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware"]
TEMPLATES = [{{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
    "OPTIONS": {{"context_processors": ["django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages"]}}}}]
STATIC_URL = "/static/"
ROOT_URLCONF = "trial.urls"
"""
ROLLED_BACK = """
TASKS["default"]["OPTIONS"] = {}
if "postgres" in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["TEST"] = {"NAME": NUVOM["postgres_schema"]}  # a database of its own
    del DATABASES["default"]["OPTIONS"]["options"]
"""
ADMIN_URLS = """
from django.contrib import admin
from django.urls import path
urlpatterns = [path("admin/", admin.site.urls)]
"""


class Project:
    """A copy of the example, with an app of more tasks."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        shutil.copytree(ROOT / "examples" / "django", folder)
        (folder / "trial").mkdir()
        (folder / "trial" / "__init__.py").touch()
        (folder / "trial" / "tasks.py").write_text(TRIAL_TASKS)
        (folder / "trial" / "jobs.py").write_text(ELSEWHERE)
        (folder / "trial" / "urls.py").write_text(ADMIN_URLS)
        (folder / "config" / "trial.py").write_text(SETTINGS.format(more=more))
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "config.trial",
            "PYTHONUNBUFFERED": "1",
        }
        self.manage("migrate")

    def python(self, *args: str, fails: bool = False) -> str:
        """Run Python in the project and return what it printed."""
        done = subprocess.run(
            [sys.executable, *args],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECS,
            check=False,
        )
        assert fails or done.returncode == 0, done.stdout + done.stderr
        return done.stdout if not fails else done.stdout + done.stderr

    def manage(self, *args: str, fails: bool = False) -> str:
        """Run ``manage.py``."""
        return self.python("manage.py", *args, fails=fails)

    def program(self, text: str) -> Any:
        """Run a program that has set Django up and prints JSON; return that."""
        head = "import django, json, os; django.setup(); from trial import tasks\n"
        return json.loads(self.python("-c", head + text).splitlines()[-1])

    def post(self, email: str) -> dict[str, Any]:
        """Send a request to the shop; return its answer, or its status if it fails."""
        found: dict[str, Any] = self.program(
            "from django.test import Client\n"
            f"answer = Client().post('/check-out/', {{'email': {email!r}}})\n"
            "print(json.dumps(answer.json() if answer.status_code == 200 else "
            "{'status': answer.status_code}))"
        )
        return found

    def burst(self, *options: str) -> str:
        """Run jobs until none is ready."""
        return self.manage("nuvom", "runworker", "--burst", *options)

    def worker(self, *options: str) -> subprocess.Popen[str]:
        """Start a worker."""
        process = subprocess.Popen(
            [sys.executable, "manage.py", "nuvom", "runworker", *options],
            cwd=self.folder,
            env=self.environ,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        spawned.append(process)
        return process

    def jobs(self) -> list[tuple[str, str]]:
        """Return tasks and statuses of all jobs, sorted."""
        rows = self.manage("nuvom", "history", "--json")
        return sorted((one["func_name"], one["status"]) for one in json.loads(rows)["jobs"])

    def result(self, job: str) -> dict[str, Any]:
        """Return what Django's ``TaskResult`` says."""
        found: dict[str, Any] = self.program(
            f"from django.tasks import default_task_backend as b; r = b.get_result({job!r})\n"
            "from shop.models import Order; o = Order.objects.last()\n"
            "print(json.dumps({'status': r.status, 'value': r._return_value, 'ids': r.worker_ids, "
            "'receipt': o and o.receipt, "
            "'errors': [[e.exception_class_path, e.traceback] for e in r.errors]}))"
        )
        return found


def test_jobs_in_the_admin(tmp_path: Path) -> None:
    project = Project(tmp_path / "site", WITH_ADMIN.format())
    shutil.copy(KIT / "admin_tests.py", project.folder / "trial" / "tests.py")
    project.manage("nuvom", "discover", "tasks")  # names the arguments, by which secrets are masked
    assert "OK" in project.manage("test", "trial", fails=True)
    project.manage("makemigrations", "--check", "nuvom")


@pytest.fixture(params=["sqlite", "postgres"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    if request.param == "sqlite":
        yield Project(tmp_path / "site")
    else:
        url, schema = need_postgres(), new_schema()
        parts = urlsplit(url)
        more = ON_POSTGRES.format(
            dsn=url,
            schema=schema,
            name=parts.path.strip("/"),
            host=parts.hostname or "",
            port=str(parts.port or ""),
            user=parts.username or "",
            password=parts.password or "",
        )
        yield Project(tmp_path / "site", more)
        end_spawned()
        drop_schemas(schema)
    end_spawned()


def until(condition: Callable[[], bool]) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + LIMIT_SECS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_jobs_come_with_the_commit_of_a_request_and_never_without(project: Project) -> None:
    assert project.post("nobody") == {"status": 400}
    assert project.jobs() == []
    answer = project.post("ann@example.com")
    project.burst()
    charge, order = answer["charge"], answer["order"]
    found = project.result(charge)
    assert (found["status"], found["value"], found["errors"]) == ("SUCCESSFUL", True, [])
    assert found["receipt"] == f"Receipt for order {order} of ann@example.com"
    ended = [("shop.tasks.charge", "SUCCESS"), ("shop.tasks.send_receipt", "SUCCESS")]
    assert project.jobs() == ended


def test_a_task_whose_worker_is_killed_runs_again(project: Project, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    job = project.program(f"print(json.dumps(tasks.hang_once.enqueue({str(mark)!r}).id))")
    project.worker()
    until(lambda: mark.exists() and mark.read_text() != "")
    assert project.result(job)["status"] == "RUNNING"
    os.kill(int(mark.read_text()), signal.SIGKILL)
    project.manage("nuvom", "runworker", "--max-jobs", "1")
    found = project.result(job)
    assert (found["status"], found["value"]) == ("SUCCESSFUL", found["ids"])
    assert len(set(found["ids"])) == 2
    ((path, text),) = found["errors"]
    assert (path, "died" in text) == ("nuvom.contrib.django.JobDead", True)


def test_children_and_workers_of_a_supervisor_have_django_set_up(project: Project) -> None:
    jobs = project.program(
        "print(json.dumps([tasks.orders.delay().id, tasks.count.enqueue().id, os.getpid()]))"
    )
    del project.environ["DJANGO_SETTINGS_MODULE"]
    settings = "--settings=config.trial"
    project.manage("nuvom", "runworker", settings, "--processes", "2", "--burst")
    project.environ["DJANGO_SETTINGS_MODULE"] = "config.trial"
    rows = json.loads(project.manage("nuvom", "inspect", jobs[0], "--json"))
    assert rows["status"] == "SUCCESS", rows
    assert project.result(jobs[1])["value"] == 0


# ---- settings and tests -------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Project:
    return Project(tmp_path / "site")


DECLARED = """

@nuvom.task(schedule="@yearly", timezone_name="Europe/Berlin")
def clear_sessions():
    return Order.objects.count()
"""
IN_SETTINGS = """
NUVOM["schedules"] = {"nightly": {"task": "trial.tasks.query", "args": [5], "cron": "0 3 1 1 *"}}
"""


def test_schedules_of_apps_and_of_the_settings_are_declared(site: Project) -> None:
    with (site.folder / "trial" / "tasks.py").open("a") as tasks:
        tasks.write(DECLARED)
    with (site.folder / "config" / "trial.py").open("a") as settings:
        settings.write(IN_SETTINGS)
    shown = json.loads(site.manage("nuvom", "schedule", "diff", "--json", fails=True))
    assert ["nightly", "trial.tasks.clear_sessions"] == [one["name"] for one in shown["added"]]
    assert [] == shown["problems"] + shown["notes"]
    worker = site.worker()
    until(lambda: len(json.loads(site.manage("nuvom", "schedule", "--json"))["schedules"]) == 2)
    worker.terminate()
    worker.wait(LIMIT_SECS)
    jobs = site.program(
        "import nuvom; print(json.dumps([one.run_now().id for one in nuvom.schedules()]))"
    )
    site.manage("nuvom", "schedule", "diff")  # exits with 0
    site.burst()
    nightly, yearly = (json.loads(site.manage("nuvom", "inspect", job, "--json")) for job in jobs)
    assert ("SUCCESS", "SUCCESS") == (nightly["status"], yearly["status"])
    assert (5, 0) == (nightly["result"], yearly["result"])


def test_tests_of_the_project_keep_their_jobs_to_themselves(site: Project) -> None:
    shown = site.manage("test", "shop", fails=True)
    assert "Ran 4 tests" in shown
    assert "OK" in shown.splitlines()
    assert not (site.folder / ".nuvom" / "nuvom.db").exists()


def test_jobs_of_a_test_are_rolled_back_with_it(project: Project) -> None:
    with (project.folder / "config" / "trial.py").open("a") as settings:
        settings.write(ROLLED_BACK)
    shutil.copy(KIT / "rollback_tests.py", project.folder / "trial" / "tests.py")
    shown = project.manage("test", "--noinput", "trial", fails=True)
    assert "Ran 10 tests" in shown, shown
    assert "OK" in shown.splitlines(), shown
    assert project.jobs() == []


def test_a_worker_takes_the_options_of_djangos_database_worker(site: Project) -> None:
    with (site.folder / "config" / "trial.py").open("a") as settings:
        settings.write('TASKS["default"]["QUEUES"] = []')
    site.program("for queue in 'abcc': tasks.query.using(queue_name=queue).enqueue(1)\nprint(1)")

    def left() -> str:
        rows = json.loads(site.manage("nuvom", "queues", "--json"))["queues"]
        return "".join(sorted(one["queue"] * one["ready"] for one in rows))

    no_effect = ("--interval", "0.5", "--no-startup-delay", "--no-reload", "--max-threads", "2")
    site.manage("nuvom", "runworker", "--queue-name", "a,b", "--batch", *no_effect)
    assert left() == "cc"
    site.manage("nuvom", "runworker", "--queue-name=*", "--max-tasks", "1")
    assert left() == "c"
    site.manage("nuvom", "runworker", "--queue-name", "*", "--exclude-queues", "c", "--batch")
    assert left() == "c"
    site.manage("nuvom", "runworker", "--batch", "10", "--burst", "--processes", "2")
    assert left() == ""


REFUSED = {
    "--worker-id w1": "--worker-id has no equivalent here: each worker gets a new id",
    "--backend default": "--backend has no equivalent here: a worker runs the tasks of all",
    "--queue-name a --queues b": "--queue-name and --queues are the same option",
    "--max-tasks 1 --max-jobs 1": "--max-tasks and --max-jobs are the same option",
    "--batch --reload": "--batch ends the worker, and --reload keeps one",
    "--batch 0": "'-b' / '--batch'",
    "--interval -1": "--interval",
}


def test_options_that_cannot_be_kept_are_refused(site: Project) -> None:
    for options, told in REFUSED.items():
        shown = site.manage("nuvom", "runworker", *options.split(), fails=True)
        assert told in " ".join(shown.split()), shown


def test_plain_nuvom_takes_only_its_own_options(site: Project) -> None:
    assert "No such option" in site.python(
        "-m", "nuvom", "runworker", "--max-tasks", "1", fails=True
    )
    shown = site.manage("nuvom", "runworker", "--help")
    assert "--max-tasks" in shown
    assert "--worker-id" not in shown


def test_a_plain_worker_needs_only_the_hooks(site: Project) -> None:
    job = site.program("print(json.dumps(tasks.query.enqueue(7).id))")
    (site.folder / "nuvom.toml").write_text('hooks = "nuvom.contrib.django.hooks"')
    shown = site.python("-m", "nuvom", "runworker", "--burst", fails=True)
    assert "not read NUVOM in settings.py, which sets job_timeout_secs, max_workers;" in shown
    with (site.folder / "config" / "trial.py").open("a") as settings:
        settings.write("NUVOM = {}")
    site.python("-m", "nuvom", "runworker", "--burst")
    assert site.result(job)["value"] == 7


def test_a_task_in_any_module_is_found_without_importing_it(site: Project) -> None:
    with (site.folder / "config" / "trial.py").open("a") as settings:
        settings.write('TASKS["default"]["QUEUES"] = ["default", "mail"]')
    assert "trial.jobs.double" in site.manage("nuvom", "discover")
    job, *warnings = site.manage("nuvom", "run", "trial.jobs.double", "4", fails=True).split("\n")
    assert "sets more options in code" in "".join(warnings)
    shown = json.loads(site.manage("nuvom", "inspect", job, "--json"))
    assert (shown["queue"], shown["priority"]) == ("mail", -3)
    site.burst()
    found = site.program(
        "from trial.jobs import double\n"
        f"found = double.get_result({job!r})\n"
        "print(json.dumps([found.return_value, found.attempts]))"
    )
    assert found == [8, 1]


def test_settings_and_root_are_those_of_the_project_wherever_it_is_used(
    site: Project, tmp_path: Path
) -> None:
    program = (
        "import django, os; django.setup(); os.chdir('/')\n"
        "from nuvom.runtime import current_runtime; settings = current_runtime().settings\n"
        "print(settings.root, settings.job_timeout_secs, settings.hooks)"
    )
    wanted = f"{site.folder} 60.0 nuvom.contrib.django.hooks"
    assert site.python("-c", program).strip() == wanted
    shown = site.manage("nuvom", "config", "explain", "job_timeout_secs")
    assert "settings.py" in shown


def test_checks_name_what_is_wrong(site: Project) -> None:
    (site.folder / "nuvom.toml").write_text('hooks = "shop.hooks"')
    wrong = """
TASKS = {"default": {"BACKEND": "nuvom.contrib.django.NuvomBackend", "QUEUES": ["a b"],
    "OPTIONS": {"enqueue_at_commit": True, "database": "orders"}}}
NUVOM = {"max_workers": 0}
"""
    with (site.folder / "config" / "trial.py").open("a") as settings:
        settings.write(wrong)
    shown = site.python("-c", CHECK, fails=True)
    assert [one.partition(" ")[0] for one in shown.splitlines()] == [
        "nuvom.E001",
        "nuvom.E002",
        "nuvom.E003",
        "nuvom.E004",
    ]
    with (site.folder / "config" / "trial.py").open("a") as settings:
        settings.write('TASKS["default"] = {"BACKEND": TASKS["default"]["BACKEND"]}; NUVOM = {}')
    assert site.python("-c", CHECK, fails=True).startswith("nuvom.W001 The hooks in nuvom.toml")


CHECK = """
import django; django.setup()
from django.tasks import default_task_backend
for one in default_task_backend.check():
    print(one.id, one.msg)
"""


def test_a_job_that_does_not_wait_for_the_commit_is_warned_of(site: Project) -> None:
    with (site.folder / "config" / "trial.py").open("a") as settings:
        settings.write('TASKS["default"]["OPTIONS"] = {}')
    lines = site.program(
        "import warnings; from django.db import transaction\n"
        "with warnings.catch_warnings(record=True) as found, transaction.atomic():\n"
        "    warnings.simplefilter('default')\n"
        "    for _ in range(3): tasks.query.enqueue(1)\n"
        "print(json.dumps([[str(one.message), one.lineno, one.filename] for one in found]))"
    )
    ((text, line, file),) = lines
    assert ("enqueue_on_commit" in text, line, file) == (True, 5, "<string>")


# ---- connections ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_jobs_leave_no_connection_open(project: Project) -> None:
    project.program(
        "for number in range(990): tasks.query.enqueue(number)\n"
        "for _ in range(10): tasks.count.enqueue()\nprint(1)"
    )
    worker = project.worker()
    count = "print(json.dumps(sum(one.waiting + one.running for one in nuvom.sdk.queue_stats())))"
    until(lambda: project.program(f"import nuvom; {count}") == 0)
    assert {status for _, status in project.jobs()} == {"SUCCESS"}
    until(lambda: open_connections(project, worker) == 0)
    assert worker.poll() is None


def open_connections(project: Project, worker: subprocess.Popen[str]) -> int:
    """Return how many connections of Django's the worker has."""
    if "postgres" not in (project.folder / "config" / "trial.py").read_text():
        links = Path(f"/proc/{worker.pid}/fd").iterdir()
        return sum("shop.sqlite3" in os.readlink(one) for one in links)
    found: int = project.program(
        "from django.db import connection\n"
        "with connection.cursor() as cursor:\n"
        "    cursor.execute('SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()'\n"
        "        ' AND application_name = %s', [connection.settings_dict['OPTIONS']"
        "['application_name']])\n"
        "    print(json.dumps(cursor.fetchone()[0]))"
    )
    return found
