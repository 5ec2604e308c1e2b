"""Decorators that reach a function through other modules, presets, wrappers and classes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from nuvom.discovery.scan import Hints, Scan, scan
from tests.unit.discovery.projects import write

USE = "@{}\ndef send(): ..."


def scanned(folder: Path, files: dict[str, str], **hints: Any) -> Scan:
    write(folder, {name: textwrap.dedent(text).lstrip() for name, text in files.items()})
    return scan(folder, hints=Hints(**hints), use_cache=False)


def found(folder: Path, files: dict[str, str], **hints: Any) -> dict[str, dict[str, Any]]:
    """Return the options of each task by name."""
    return {task.name: task.options for task in scanned(folder, files, **hints).tasks}


# ---- the way of a name from module to module --------------------------------------------

WAYS = {
    "a re-exported application": {
        "shop/celeryconf.py": "import nuvom as app",
        "shop/mail.py": "from shop.celeryconf import app\n" + USE.format("app.task"),
    },
    "a relative import": {
        "shop/worker/__init__.py": "from .app import job",
        "shop/worker/app.py": "from nuvom import task as job",
        "shop/mail.py": "from .worker import job\n" + USE.format("job"),
    },
    "a package that re-exports all names": {
        "shop/jobs/__init__.py": "from .app import *",
        "shop/jobs/app.py": "from nuvom import task",
        "shop/mail.py": "from shop import jobs\n" + USE.format("jobs.task(queue='db')"),
    },
    "a module that is imported whole": {
        "shop/app.py": "import nuvom\njob = nuvom.task",
        "shop/mail.py": "import shop.app\n" + USE.format("shop.app.job"),
    },
    "stars two levels deep": {
        "shop/a.py": "from nuvom import task as job",
        "shop/b.py": "from .a import *",
        "shop/c.py": "from .b import *",
        "shop/mail.py": "from .c import job\n" + USE.format("job"),
    },
    "an import in several lines, under another name": {
        "shop/app.py": "from nuvom import task as job",
        "shop/mail.py": "from shop.app import (\n    other,\n    job as background,\n)\n"
        + USE.format("background"),
    },
    "a module of a package that is imported for its package": {
        "shop/__init__.py": "from nuvom import task as job",
        "shop/models.py": "",
        "shop/mail.py": "import shop.models\n" + USE.format("shop.job"),
    },
    "an import that is continued on the next line": {
        "shop/app.py": "from nuvom import task as job",
        "shop/mail.py": "from shop.app import \\\n    job\n" + USE.format("job"),
    },
    "an import after a comment with a parenthesis": {
        "shop/app.py": "from nuvom import task as job",
        "shop/mail.py": "import os  # (see\nfrom shop.app import job\nx = ()\n" + USE.format("job"),
    },
    "a comment with a parenthesis within an import": {
        "shop/app.py": "from nuvom import task as job",
        "shop/mail.py": "from shop.app import (\n    x,  # one (1)\n    job,\n)\n"
        + USE.format("job"),
    },
    "an import after another on its line": {
        "shop/app.py": "from nuvom import task as job",
        "shop/mail.py": "import os; from shop.app import job\n" + USE.format("job"),
    },
    "a method that calls another of its object": {
        "shop/base.py": "import nuvom\nclass Base:\n    def job(self, fn): return nuvom.task(fn)",
        "shop/app.py": """
            from .base import Base
            class App(Base):
                def cron(self, **options):
                    def decorate(fn):
                        made = self.job(fn)
                        return made
                    return decorate
            app = App()
            """,
        "shop/mail.py": "from .app import app\n" + USE.format("app.cron(every=3)"),
    },
    "a circle of imports": {
        "shop/a.py": "from shop.b import job, other",
        "shop/b.py": "from shop.a import other\nfrom nuvom import task as job",
        "shop/mail.py": "from shop.a import job\n" + USE.format("job"),
    },
    "a fallback": {
        "shop/app.py": "try:\n    from nuvom import task as job\nexcept E:\n    job = None",
        "shop/mail.py": "from .app import job\n" + USE.format("job"),
    },
    "a class that holds it": {
        "shop/app.py": "import nuvom\nclass App:\n    job = staticmethod(nuvom.task)\napp = App()",
        "shop/mail.py": "from .app import app\n" + USE.format("app.job"),
    },
    "a method of a base class": {
        "shop/base.py": "import nuvom\nclass Base:\n    def job(self, fn): return nuvom.task(fn)",
        "shop/app.py": "from .base import Base\nclass App(Base): pass\napp = App()",
        "shop/mail.py": "from .app import app\n" + USE.format("app.job"),
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_a_decorator_is_followed_across_modules(tmp_path: Path, way: str) -> None:
    assert [*found(tmp_path, {"shop/__init__.py": "", **WAYS[way]})] == ["shop.mail.send"]


OTHERS = {
    "another package's": "from invoke import task as job",
    "a function of the project's own": "def job(fn): return fn",
    "a name that is bound anew": "from nuvom import task as job\njob = print",
    "a function that only mentions it": "from nuvom import task\ndef job(fn): return task and fn",
    "what a task returns": "from nuvom import task\n@task\ndef job(fn): ...",
    "an unknown method": "import nuvom\njob = nuvom.configure",
}


@pytest.mark.parametrize("app", OTHERS)
def test_what_is_no_decorator_of_tasks_is_not_taken_for_one(tmp_path: Path, app: str) -> None:
    files = {"app.py": OTHERS[app], "mail.py": "from app import job\n" + USE.format("job")}
    assert "mail.send" not in found(tmp_path, files)


# ---- presets and wrappers ---------------------------------------------------------------

MAKERS = {
    "a preset": ("job = task.preset(queue='db', retries=3)", "job", {"queue": "db", "retries": 3}),
    "a preset with more": (
        "job = task.preset(queue='db')",
        "job(retries=3)",
        {"queue": "db", "retries": 3},
    ),
    "a preset of a preset": (
        "job = task.preset(queue='db').preset(retries=3)",
        "job",
        {"queue": "db", "retries": 3},
    ),
    "a kept call": ("job = task(queue='db')", "job", {"queue": "db"}),
    "a partial": (
        "import functools\njob = functools.partial(task, queue='db')",
        "job(retries=1)",
        {"queue": "db", "retries": 1},
    ),
    "a partial of a class": (
        """
        from functools import partial
        class Job:
            def __init__(self, **options): ...
            def __call__(self, fn): return task(fn)
        job = partial(Job, queue="db")
        """,
        "job()",
        {},
    ),
    "a function that decorates": (
        "def job(fn): return task(queue='db')(fn)",
        "job",
        {"queue": "db"},
    ),
    "a function that returns a decorator": (
        "def job(**options): return task(queue='db', **options)",
        "job(retries=2)",
        {"queue": "db", "retries": 2},
    ),
    "a function around a function": (
        """
        def job(queue="slow", **options):
            def decorate(fn):
                return task(queue=queue, **options)(fn)
            return decorate
        """,
        "job(retries=2)",
        {"queue": "slow", "retries": 2},
    ),
    "a parameter given by place": (
        "def job(queue): return task(queue=queue)",
        "job('db')",
        {"queue": "db"},
    ),
    "used with and without a call": (
        """
        def job(fn=None, *, queue="db"):
            if fn is None:
                return partial(job, queue=queue)
            return task(fn, queue=queue)
        from functools import partial
        """,
        "job(queue='x')",
        {"queue": "x"},
    ),
    "all arguments passed on": (
        "def job(*args, **options): return task(*args, **options)",
        "job",
        {},
    ),
    "a function that stands for another": (
        """
        import functools
        def job(fn):
            @task(queue="db")
            @functools.wraps(fn)
            def inner(*args): return fn(*args)
            return inner
        """,
        "job",
        {"queue": "db"},
    ),
    "a function that is defined further down": (
        """
        def job(fn): return _make(fn)
        def _make(fn): return task(fn, queue="db")
        """,
        "job",
        {"queue": "db"},
    ),
    "an object that is called": (
        """
        class Job:
            def __call__(self, fn): return task(fn)
        job = Job()
        """,
        "job",
        {},
    ),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_options_of_presets_and_wrappers_belong_to_the_task(tmp_path: Path, maker: str) -> None:
    source, decorator, options = MAKERS[maker]
    files = {
        "app.py": f"from nuvom import task\n{textwrap.dedent(source)}",
        "mail.py": "from app import job\n" + USE.format(decorator),
    }
    assert found(tmp_path, files)["mail.send"] == options


def test_a_relative_import_that_leads_out_of_the_project_leads_nowhere(tmp_path: Path) -> None:
    mail = "import nuvom\nfrom ....app import job\n" + USE.format("job")
    files = {"a/b/app.py": "from nuvom import task as job", "a/b/mail.py": mail}
    assert found(tmp_path, files) == {}


def test_functions_that_call_each_other_come_to_an_end(tmp_path: Path) -> None:
    app = """
        from nuvom import task
        def one(f): return two(f) if f else one(f) or two(f)
        def two(f): return one(f) if f else two(f) or task(f)
        """
    files = {"app.py": app, "mail.py": "from app import one\n" + USE.format("one")}
    assert [*found(tmp_path, files)] in ([], ["mail.send"])


def test_an_import_within_a_function_is_followed(tmp_path: Path) -> None:
    app = "from nuvom import task as job"
    mail = "def test():\n    from shop.app import job\n    @job\n    def send(): ..."
    (task,) = scanned(tmp_path, {"shop/app.py": app, "shop/mail.py": mail}).tasks
    assert (task.qualname, task.importable) == ("test.<locals>.send", False)


def test_an_object_that_cannot_be_followed_is_named_with_what_to_do(tmp_path: Path) -> None:
    files = {
        "shop/app.py": "import nuvom\nfrom lazy import Proxy\napp = Proxy(lambda: nuvom)",
        "shop/mail.py": "from .app import app\n" + USE.format("app.task(queue='db')"),
        "shop/load.py": "from locust import task\n" + USE.format("task"),
        "shop/jobs.py": "import nuvom\n" + USE.format("nuvom.task"),
    }
    seen = scanned(tmp_path, files)
    assert ["shop.jobs.send"] == [task.name for task in seen.tasks]
    [one] = seen.problems
    assert ("shop/mail.py", 3) == (one.file, one.line)
    told = "1 function is decorated with shop.app.app.task, and the code does not tell what"
    assert one.reason.startswith(told)
    assert "add shop.app.app.task to the setting task_decorators" in one.reason
    assert "shop.mail.send" in found(tmp_path, {}, task_decorators=("shop.app.app.task",))


def test_a_module_that_uses_no_decorator_of_what_it_imports_is_not_parsed(tmp_path: Path) -> None:
    files = {
        "shop/app.py": "from nuvom import task as job\ndef total(): ...",
        "shop/mail.py": "from shop import app\n" + USE.format("app.job"),
        "shop/cart.py": "from shop import app\nx = app.total()",
    }
    assert 2 == scanned(tmp_path, files).files_parsed


def test_a_wrapper_that_cannot_be_followed_is_named_with_what_to_do(tmp_path: Path) -> None:
    app = """
        from nuvom import task
        def actor(**options):
            def decorate(fn):
                REGISTRY[fn] = task(fn)
                return Actor(fn)
            return decorate
        class Actor: ...
    """
    files = {
        "polar/worker.py": app,
        "polar/mail.py": "from polar.worker import actor as A\n@A()\ndef a(): 1\n@A()\ndef b(): 2",
    }
    seen = scanned(tmp_path, files)
    assert seen.tasks == ()
    (problem,) = seen.problems
    assert str(problem) == (
        "polar/worker.py:4: 2 functions are decorated with polar.worker.actor, which calls "
        "nuvom.task: add it to the setting task_decorators if it makes tasks"
    )
    tasks = found(tmp_path, files, task_decorators=("polar.worker.actor",))
    assert [*tasks] == ["polar.mail.a", "polar.mail.b"]


def test_of_the_options_of_a_decorator_of_another_package_only_the_name_counts(
    tmp_path: Path,
) -> None:
    source = """
        from other.lib import job as a_job
        import other.lib
        NAME = "f"
        @a_job
        def a(): 1
        @other.lib.job(max_jobs=3, queue="q", name="n")
        def b(): 1
        @a_job("text")
        def c(): 1
        @a_job(name=3)
        def e(): 1
        @a_job(name=f"mail.{NAME}")
        def f(): 1
    """
    whole = "import other.lib\n@other.lib.job\ndef d(): 1"
    assert found(tmp_path, {"shop/mail.py": source, "shop/whole.py": whole}) == {}
    seen = scanned(tmp_path, {}, task_decorators=("other.lib.job",))
    assert [one.reason.partition(":")[0] for one in seen.problems] == [
        "@task refuses an option of e"
    ]
    names = ("mail.f", "n", *(f"shop.{one}" for one in ("mail.a", "mail.c", "mail.e", "whole.d")))
    assert [(one.name, one.options) for one in seen.tasks] == [(one, {}) for one in names]


# ---- names ------------------------------------------------------------------------------

NAMES = {
    "a constant": ("NAME = 'mail.send'", "NAME"),
    "an attribute of a class": ("class Names:\n    SEND = 'mail.send'", "Names.SEND"),
    "put together": ("PREFIX = 'mail'", "PREFIX + '.send'"),
    "a formatted text": ("PREFIX = 'mail'", "f'{PREFIX}.send'"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_followed_to_its_text(tmp_path: Path, name: str) -> None:
    source, expression = NAMES[name]
    root = "Names" if "class" in source else source.partition(" ")[0]
    files = {
        "names.py": source,
        "app.py": f"from nuvom import task\nfrom names import {root}\n"
        + USE.format(f"task(name={expression})"),
    }
    assert [*found(tmp_path, files)] == ["mail.send"]


@pytest.mark.parametrize(
    "source",
    [
        "import os\nNAME = os.environ['NAME']",
        "import os\nNAME = 'a'\nif os.name == 'nt':\n    NAME = 'b'",
        "import os\nNAME = 'a'\nif 'NAME' in os.environ:\n    NAME = os.environ['NAME']",
    ],
)
def test_a_name_that_only_the_code_knows_is_said_to_be_one(tmp_path: Path, source: str) -> None:
    files = {
        "names.py": source,
        "app.py": "from nuvom import task\nimport names\n" + USE.format("task(name=names.NAME)"),
    }
    seen = scanned(tmp_path, files)
    assert [(one.name, one.dynamic_options) for one in seen.tasks] == [("app.send", ("name",))]
    assert "known only at import" in seen.problems[0].reason


# ---- other roots, other engines ---------------------------------------------------------


def test_a_root_may_hold_namespace_packages(tmp_path: Path) -> None:
    files = {
        "web-server/shop/api/__init__.py": "",
        "web-server/shop/api/mail.py": "from nuvom import task\n" + USE.format("task"),
        "web-server/shop/api/cart.py": "from shop.api import mail",
        # no namespace package, but tests of one that is elsewhere
        "tests/unit/cart/api/__init__.py": "",
        "tests/unit/cart/api/test_api.py": "from cart.api import total",
        "lib/cart/__init__.py": "",
    }
    seen = scanned(tmp_path, files)
    assert ["shop.api.mail.send"] == [one.name for one in seen.tasks]
    assert ("web-server",) == seen.guessed_roots


def test_source_roots_name_the_modules_below_them(tmp_path: Path) -> None:
    files = {
        "apps/api/plane/app.py": "from nuvom import task as job",
        "apps/api/plane/mail.py": "from plane.app import job\n" + USE.format("job"),
    }
    assert [*found(tmp_path, files, source_roots=("apps/api",))] == ["plane.mail.send"]


@pytest.mark.parametrize(
    ("source", "others"),
    [
        (
            "from celery import shared_task as T\n@T\ndef a(): 1\n@T(bind=True)\ndef b(self): 2",
            "2 Celery tasks",
        ),
        ("from celery import Celery\napp = Celery('x')\n@app.task\ndef a(): ...", "1 Celery task"),
        (
            "from celery import Celery\nclass App(Celery): 1\napp = App()\n@app.task\ndef a(): 1",
            "1 Celery task",
        ),
        ("import dramatiq\n@dramatiq.actor\ndef a(): ...", "1 Dramatiq task"),
        (
            "from huey import RedisHuey\nhuey = RedisHuey()\n@huey.task()\ndef a(): ...",
            "1 Huey task",
        ),
        ("from rq.decorators import job\n@job('low')\ndef task_a(): ...", "1 RQ task"),
    ],
)
def test_tasks_of_other_engines_are_counted(tmp_path: Path, source: str, others: str) -> None:
    seen = scanned(tmp_path, {"app.py": source})
    assert (seen.tasks, seen.others) == ((), others)


@pytest.mark.parametrize(
    ("decorator", "reason"),
    [
        ("task(bind=True)", "bind"),
        ("task(retrys=3)", "retries"),
        ("task(retries=-1)", "retries"),
        ("task('mail')", "a name goes into name="),
    ],
)
def test_options_that_task_refuses_are_reported(
    tmp_path: Path, decorator: str, reason: str
) -> None:
    seen = scanned(tmp_path, {"app.py": "from nuvom import task\n" + USE.format(decorator)})
    assert reason in " ".join(one.reason for one in seen.problems)
