"""What every test gets: a folder, a home and an environment of its own; and which tests are run.

Nothing here knows the product; builders of jobs and workers live beside the tests that use them.
"""

from __future__ import annotations

import datetime as dt
import gc
import logging
import os
import signal
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from hypothesis.database import DirectoryBasedExampleDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile(
    "nuvom",
    deadline=None,  # a busy machine is not a bug
    # Tests change the working directory; failing examples are still kept in one place.
    database=DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples"),
    print_blob=True,
)
hypothesis.settings.load_profile("nuvom")

# Some tests import the laws before the kit does, which would leave failures without detail.
pytest.register_assert_rewrite("nuvom.testing.conformance.laws")

SHARES = 10  # of the slow tier: --sample runs another one each day
SECOND_SHARES = 5  # of what a second Python runs, likewise
SAMPLE_LIMIT_SECS = 300  # a slow test that may take longer is in no share
SAME_ON_ANY_PYTHON = (
    "tests/architecture/",  # and what follows reads the project's text, or runs its tools
    "tests/benchmarks/",
    "tests/browser/",
    "tests/conformance/test_broken_backends.py",  # whether laws notice faults
    "tests/conformance/test_postgres.py",  # a server does the work
    "tests/conformance/test_redis.py",
    "tests/docs/",
    "tests/test_architecture.py",
    "tests/test_choosing.py",
    "tests/test_dev.py",
    "tests/typing/",
    "tests/reliability/",  # what is on a disk after a kill or a power cut, and whose lease it is
)
"""Tests that a run on a second version of Python leaves to the first one."""
UNPROVED = "NOT PROVED HERE: "  # so begins the reason of a skip that has to be said loudly


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")
    parser.addoption(
        "--sample",
        metavar="DATE",
        type=dt.date.fromisoformat,
        help=f"run nothing but the share of the slow tests, one of {SHARES}, whose turn it is",
    )
    parser.addoption(
        "--second-python",
        metavar="DATE",
        nargs="?",
        const=dt.datetime.now(dt.UTC).date().isoformat(),
        type=dt.date.fromisoformat,
        help="leave out the tests whose outcome does not depend on the version of Python, and run "
        "a fifth of the others, another one each day",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have programs that tests start obey SIGHUP, also beneath ``nohup``, which ignores it.

    What is ignored stays so in all children; what is handled, if only by doing nothing, they
    begin with the default. This process itself stays through a hang-up, as ``nohup`` wants it,
    and so does each that runs a part of the tests: they end with the one that started them.
    """
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is None:
        return
    if signal.getsignal(hang_up) is signal.SIG_IGN or hasattr(config, "workerinput"):
        signal.signal(hang_up, lambda *_: None)


def pytest_collection_finish() -> None:
    """Spare every later garbage collection the thousands of tests that stay to the end."""
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    day = config.getoption("--sample")
    if day is not None:
        _keep(config, items, [item for item in items if _share(item) == day.toordinal() % SHARES])
        return
    if config.getoption("--slow") or "slow" in config.option.markexpr:
        # First, so that none is left for the end, when nothing is there to run beside it.
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)
        return
    before = len(items)
    _keep(config, items, [item for item in items if item.get_closest_marker("slow") is None])
    config.stash[_LEFT_OUT] = before - len(items)
    today = config.getoption("--second-python")
    if today is not None:
        before = len(items)
        _keep(
            config, items, [one for one in items if not one.nodeid.startswith(SAME_ON_ANY_PYTHON)]
        )
        config.stash[_LEFT_TO_THE_FIRST] = before - len(items)
        before = len(items)
        _keep(config, items, [one for one in items if _has_its_turn(one, today)])
        config.stash[_LEFT_TO_ANOTHER_DAY] = before - len(items)


def _keep(config: pytest.Config, items: list[pytest.Item], kept: list[pytest.Item]) -> None:
    """Leave all other items out."""
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept


def _has_its_turn(item: pytest.Item, today: dt.date) -> bool:
    """Whether a test is run on the second Python today: those that only it can run always are."""
    its_day = zlib.crc32(item.nodeid.encode()) % SECOND_SHARES
    return its_day == today.toordinal() % SECOND_SHARES or "django" in item.nodeid


def _share(item: pytest.Item) -> int | None:
    """Return the share that a slow test is in; None when it is not slow, or takes too long.

    Neither the order nor other tests matter; so each has its turn once in ``SHARES`` days.
    """
    limit = item.get_closest_marker("timeout")
    is_long = limit is not None and limit.args[0] > SAMPLE_LIMIT_SECS
    if item.get_closest_marker("slow") is None or item.get_closest_marker("alone") or is_long:
        return None
    return zlib.crc32(item.nodeid.encode()) % SHARES


_LEFT_OUT = pytest.StashKey[int]()
_LEFT_TO_THE_FIRST = pytest.StashKey[int]()
_LEFT_TO_ANOTHER_DAY = pytest.StashKey[int]()
_TOLD = {
    "left_out": _LEFT_OUT,
    "left_to_the_first": _LEFT_TO_THE_FIRST,
    "left_to_another_day": _LEFT_TO_ANOTHER_DAY,
}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a process that runs a part of the tests tell the one that prints the summary.

    With ``CI=true`` the run fails when a proof was left out for want of what CI has: a C compiler,
    a server or a browser.
    """
    if hasattr(session.config, "workeroutput"):
        told = {key: session.config.stash.get(stash, 0) for key, stash in _TOLD.items()}
        session.config.workeroutput.update(told)
    elif os.environ.get("CI") == "true" and any(
        word in one
        for one in _unproved(session.config)
        for word in ("compiler", "does not answer", "Chromium")
    ):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def _unproved(config: pytest.Config) -> Counter[str]:
    """Return how many tests were left out for each reason that has to be said loudly."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = [] if reporter is None else reporter.stats.get("skipped", [])
    reasons = [str(one.longrepr[2]) for one in skipped if isinstance(one.longrepr, tuple)]
    return Counter(one.partition(UNPROVED)[2] for one in reasons if UNPROVED in one)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what such a process tells: each has collected all tests."""
    for key, stash in _TOLD.items():
        node.config.stash[stash] = getattr(node, "workeroutput", {}).get(key, 0)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    left_out = config.stash.get(_LEFT_OUT, 0)
    if left_out:
        terminalreporter.write_line(f"{left_out} slow tests were left out; --slow runs them.")
    left = config.stash.get(_LEFT_TO_THE_FIRST, 0)
    if left:
        places = ", ".join(SAME_ON_ANY_PYTHON)
        terminalreporter.write_line(f"{left} tests were left to the first Python: {places}")
    left = config.stash.get(_LEFT_TO_ANOTHER_DAY, 0)
    if left:
        terminalreporter.write_line(f"{left} tests were left to other days' runs")
    reports = [
        one
        for many in terminalreporter.stats.values()
        for one in many
        if getattr(one, "when", None) == "call"
    ]
    figures = sorted(
        str(value)
        for report in reports
        for name, value in report.user_properties
        if name == "figure"
    )
    if figures:
        terminalreporter.section("figures of the delivery promises")
        for line in figures:
            terminalreporter.write_line(line)
    day = config.getoption("--sample")
    if day is not None:
        share = day.toordinal() % SHARES + 1
        terminalreporter.section(f"share {share} of {SHARES} of the slow tests, for {day}")
        ran = [one.nodeid.partition("[")[0] for one in reports if not one.skipped]
        names = Counter(name.rpartition("/")[2] for name in ran)
        for name, count in sorted(names.items()):
            terminalreporter.write_line(
                f"SAMPLE: {name}" + (f", {count} times" if count > 1 else "")
            )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say what was not proved, as the last lines of all, where they are seen."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    for reason, count in sorted(_unproved(config).items()):
        reporter.write_line(f"{UNPROVED}{count} tests: {reason}", red=True, bold=True)


@pytest.fixture(autouse=True)
def isolated(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run in an empty folder, with an empty home, no setting of ours and no terminal's habits."""
    for name in os.environ:
        if name.startswith("NUVOM_"):
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    home = str(tmp_path_factory.getbasetemp() / "home")
    os.makedirs(home, exist_ok=True)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("USERPROFILE", home)
    # At their end, runs of pytest tidy the folder that all of a user share, and one may fail over
    # what another has just removed: a run within a test has a folder that others do not use.
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(tmp_path_factory.getbasetemp()))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def hooks_of_its_own() -> Iterator[None]:
    """Keep hooks around all jobs, which modules register at their import, from other tests."""
    from nuvom.hooks import default_hooks  # not before coverage has begun

    default_hooks.clear()
    yield
    default_hooks.clear()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take back what a test does to loggers that all share: level and handlers."""
    loggers = [logging.getLogger(), logging.getLogger("nuvom")]
    before = [(one, one.level, list(one.handlers), one.propagate) for one in loggers]
    yield
    for one, level, handlers, propagate in before:
        one.setLevel(level)
        one.handlers[:] = handlers
        one.propagate = propagate


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make the test's folder, which is the working directory, a Nuvom project."""
    (tmp_path / ".nuvom").mkdir(mode=0o700)
    return tmp_path
