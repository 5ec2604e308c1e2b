"""Holds the rules of the house over this project: layers, cycles, sizes, budgets, words and more.

What each rule means is in ``tests/architecture/``; clocks, docstrings, broad handlers and unsafe
calls are left to ruff (``pyproject.toml``). Where clearer code needs to break one, the
breach stands in ``ALLOWED`` with its reason; one that is no longer needed fails, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.architecture import budgets, imports, layers, loading, rows, sizes, source, words
from tests.architecture.source import Finding, Module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Allowed:
    """A breach that stays: ``where`` as the finding prints it, and why the code is clearer so."""

    rule: str
    where: str
    reason: str


ALLOWED = [
    Allowed("sizes", "nuvom/errors.py", "one tree in one place; a class is a message and a remedy"),
    *(
        Allowed(
            "sizes", f"examples/celery_port/shop/celeryapp.py:ShopTask.{name}", "Celery calls it"
        )
        for name in ("on_failure", "on_retry")
    ),
    # Lazy gates: what `import nuvom` and `@task` must not load.
    Allowed(
        "facades",
        "nuvom/__init__.py -> nuvom.contrib.dashboard",
        "users name it, as nuvom.dashboard; what it offers needs an extra, as it says if missing",
    ),
    Allowed("deferred", "nuvom/task.py -> nuvom.job", "all that is heavy loads with the first job"),
    Allowed(
        "deferred",
        "nuvom/task.py -> nuvom.scheduler.schedule",
        "few programs make schedules, and the time zones take longer to load than the engine",
    ),
    *(
        Allowed("deferred", f"nuvom/{module} -> nuvom.scheduler.trigger", reason)
        for module, reason in {
            "task.py": "few tasks declare a schedule, and the time zones are slow to load",
            "config/settings.py": "few projects have a table of schedules, as above",
            "discovery/scan.py": "few tasks declare a schedule, as above",
        }.items()
    ),
    Allowed(
        "deferred",
        "nuvom/worker.py -> nuvom.scheduler.service",
        "a worker inside a program fires schedules only if asked, as above",
    ),
    Allowed(
        "deferred",
        "nuvom/runtime.py -> nuvom.discovery.manifest",
        "only a module that is imported from a folder below the root needs it",
    ),
    Allowed("deferred", "nuvom/core/options.py -> nuvom.core.ids", "only a queue needs `re`"),
    Allowed(
        "deferred",
        "nuvom/execution/child.py -> nuvom.execution.async_lane",
        "most children never run a coroutine, and asyncio is slow to load",
    ),
    Allowed(
        "deferred",
        "nuvom/config/__init__.py -> nuvom.config.settings",
        "Settings loads msgspec; the rest of the folder needs none of it",
    ),
    Allowed(
        "deferred",
        "nuvom/registry/registry.py -> nuvom.config.project",
        "only a task of a program is named after its file",
    ),
    Allowed(
        "deferred",
        "nuvom/testing/pytest_plugin.py -> nuvom.config.permission",
        "pytest loads the plugin wherever Nuvom is installed; it loads nothing itself",
    ),
    Allowed(
        "deferred",
        "nuvom/contrib/flask.py -> nuvom.cli.cli",
        "processes that serve requests never need the command line",
    ),
    Allowed(
        "deferred",
        "nuvom/cli/commands/tasks.py -> nuvom.compat.celery.survey",
        "help loads nothing heavy, and Celery's interface is all that it needs",
    ),
    Allowed(
        "layers",
        "nuvom/cli/commands/checks.py -> nuvom.testing.torture",
        "the command that runs the test equipment",
    ),
    Allowed(
        "layers",
        "nuvom/cli/doctor.py -> nuvom.queue_backends.sqlite.salvage",
        "only a SQLite file can be salvaged, and no other process should load how",
    ),
    Allowed("words", "nuvom/compat/celery/utils/__init__.py", "what Celery's code imports"),
    # Small modules with one user in their folder.
    *(
        Allowed("crumbs", f"nuvom/{where}", reason)
        for where, reason in {
            "contrib/postgres/schedules.py": "as that of SQLite",
            "contrib/redis/schedules.py": "as that of SQLite",
            "contrib/django/models.py": "Django looks for models there",
            "contrib/django/conformance/tasks.py": "Django finds tasks at a module's top only",
            "compat/celery/control.py": "what the SDK tells of workers, apart from the application",
            "plugins/trust.py": "who may write a plugin's file: a question of security alone",
            "queue_backends/sqlite/schedules.py": "a contract of its own, apart from the queue",
            "testing/faults.py": "what a torture does to a worker, apart from its plan",
        }.items()
    ),
    # Names that programs and plugins know.
    *(
        Allowed("names", name, reason)
        for name, reason in {
            "Command": "of Nuvom's command line, and the one that Django looks for",
            "Control": "a protocol for plugins, and the class that keeps it",
            "Inspector": "a protocol for plugins, and the class that keeps it",
            "JobCancelled": "the error that a program gets, and the event that a plugin gets",
            "JobDead": "what Django's result names, and the event that a plugin gets",
            "Migration": "a step of a store's schema, and what Django looks for",
            "JobFailed": "the error that a program gets, and the event that a plugin gets",
            "Nuvom": "of Nuvom's command line, and the extension of Flask as others are named",
            "Retry": "the signal of a task, and what Celery's code calls it",
            "Task": "a task, and what Celery's code calls it",
            "TaskError": "of Nuvom's tree, and of Celery's",
            "Table": "jobs in memory, and lines on a terminal",
        }.items()
    ),
]


@cache
def package() -> list[Module]:
    return source.load(ROOT, "nuvom")


@cache
def programs() -> list[Module]:
    """Return all code that is read by people: the package and what is beside it."""
    return source.load(ROOT, "nuvom", "tools", "examples", "benchmarks", "dev.py")


@cache
def edges() -> list[imports.Edge]:
    return imports.edges(package())


@cache
def drawn() -> layers.Layers:
    return layers.Layers(layers.PAGE.read_text(encoding="utf-8"))


def excused_cycles() -> frozenset[str]:
    return frozenset(entry.where for entry in ALLOWED if entry.rule == "layers")


RULES: dict[str, Callable[[], Iterable[Finding]]] = {
    "placing": lambda: layers.placing(package(), drawn(), building=False),
    "layers": lambda: layers.directions(package(), edges(), drawn()),
    "deferred": lambda: imports.deferred(edges()),
    "facades": lambda: imports.facades(package(), edges()),
    "cycles": lambda: imports.cycles(edges(), excused_cycles()),
    "sizes": lambda: sizes.sizes(programs()),
    "words": lambda: words.words(package()),
    "budgets": lambda: budgets.budgets(package(), layers.PAGE.read_text(encoding="utf-8")),
    "folders": lambda: budgets.folders(package()),
    "crumbs": lambda: budgets.crumbs(package(), edges()),
    "names": lambda: budgets.names(package()),
}


@cache
def findings(rule: str) -> tuple[Finding, ...]:
    """Return what a rule finds; once, since each exception asks for it as well."""
    return tuple(RULES[rule]())


def is_allowed(finding: Finding) -> bool:
    return any(entry.rule == finding.rule and entry.where == finding.where for entry in ALLOWED)


def assert_none(findings: Iterable[Finding]) -> None:
    listed = [str(finding) for finding in findings]
    assert not listed, "\n" + "\n".join(listed)


def assert_no_line(forbidden: re.Pattern[str], modules: Iterable[Module]) -> None:
    assert_none(
        Finding("lines", module.place, number, line.strip())
        for module in modules
        for number, line in enumerate(module.lines, 1)
        if forbidden.search(line)
    )


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_kept(rule: str) -> None:
    assert_none(finding for finding in findings(rule) if not is_allowed(finding))


@pytest.mark.parametrize("entry", ALLOWED, ids=lambda entry: f"{entry.rule} {entry.where}")
def test_exception_is_still_needed_and_has_a_reason(entry: Allowed) -> None:
    assert entry.reason
    assert entry.where in {finding.where for finding in findings(entry.rule)}, "remove it"


def test_a_handler_of_everything_says_why() -> None:
    silent = re.compile(r"except (?:Base)?Exception\b.*# noqa: [A-Z0-9, ]*BLE001[A-Z0-9, ]*$")
    assert_no_line(silent, package())


def test_unit_tests_wait_for_events_and_never_sleep() -> None:
    sleep = re.compile(r"^[^\"']*\b(?:time|asyncio)\.sleep\((?!0\))")  # not in a child's program
    assert_no_line(sleep, source.load(ROOT, "tests/unit"))


def test_tests_look_at_private_names_ever_less_often() -> None:
    most = budgets.read(layers.PAGE.read_text(encoding="utf-8"))[budgets.PRIVATE]
    found = budgets.private_names(source.load(ROOT, "tests"))
    assert found <= most, "test the behaviour, or make what is needed public"
    assert most <= found * budgets.SLACK, f"lower the number in {layers.PAGE.name} to {found}"


def test_r27_every_fault_threat_and_goal_has_a_test_or_a_reason() -> None:
    tests = rows.tests_in(source.load(ROOT, "tests", "nuvom/testing"))
    assert_none(rows.rows(tests, (ROOT / rows.LISTED).read_text(encoding="utf-8")))


def test_importing_nuvom_and_defining_a_task_loads_little(tmp_path: Path) -> None:
    loaded = loading.loaded_by(loading.ONE_TASK, tmp_path)
    forbidden, most = loading.NOT_WITH_THE_PACKAGE, loading.MOST_MODULES
    assert_none(loading.import_cost(loaded, forbidden, most=most))


def test_help_loads_no_backend_and_writes_nothing(tmp_path: Path) -> None:
    loaded = loading.loaded_by(loading.HELP, tmp_path)
    assert_none(loading.import_cost(loaded, loading.NOT_WITH_HELP))
    assert [] == list(tmp_path.iterdir())
