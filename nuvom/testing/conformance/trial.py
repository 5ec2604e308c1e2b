"""Tests a backend, codec or plugin from a program: what ``nuvom plugin test`` calls.

pytest runs the laws, just as it runs those of a kit in a test module.
"""

from __future__ import annotations

import sys
import traceback
from fnmatch import fnmatchcase
from functools import partial
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import SkipTest

from nuvom.config.settings import Settings
from nuvom.core.ids import new_id
from nuvom.events import EventBus
from nuvom.plugins.lifecycle import make_extras, start_call
from nuvom.plugins.registry import BackendKind, PluginRegistry, use_plugin_registry
from nuvom.testing.conformance.law import Hand, Kit, import_laws, laws_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pytest

    from nuvom.testing.conformance.law import Law

KEPT, BROKEN, SKIPPED = "kept", "broken", "skipped"
_TARGETS = "nuvom.testing.conformance.targets"
# Without the source of a failure, which nobody sees: pytest would parse it, and early versions of
# Python 3.11 fail if another thread parses at the same moment (python/cpython#106905).
_OPTIONS = "-qq -s --tb=line -p no:cacheprovider -p no:unittest --import-mode=importlib"


class Finding(NamedTuple):
    """The result of one law.

    Attributes:
        kind: The contract: ``queue_backend``, ``result_backend``, ``codec`` or ``plugin``.
        outcome: ``kept``, ``broken`` or ``skipped``.
        detail: What is wrong, or why the law was skipped.
        trace: The traceback of a broken law.
    """

    law: str
    group: str
    kind: str
    promise: str
    outcome: str
    secs: float
    detail: str = ""
    trace: str = ""


class Report(NamedTuple):
    """The results of all laws."""

    target: str
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether no law is broken and at least one was checked."""
        return not self.broken and bool(self.kept)

    @property
    def kept(self) -> list[str]:
        """The names of the laws that are kept."""
        return self._named(KEPT)

    @property
    def broken(self) -> list[str]:
        """The names of the laws that are broken."""
        return self._named(BROKEN)

    @property
    def skipped(self) -> list[str]:
        """The names of the laws that do not apply."""
        return self._named(SKIPPED)

    def _named(self, outcome: str) -> list[str]:
        return [finding.law for finding in self.findings if finding.outcome == outcome]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "target": self.target,
            "ok": self.ok,
            "kept": len(self.kept),
            "broken": len(self.broken),
            "skipped": len(self.skipped),
            "laws": [finding._asdict() for finding in self.findings],
        }


def run(
    target: object,
    kind: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    only: Iterable[str] = ("*",),
    told: Callable[[Finding], object] = lambda _: None,
) -> Report:
    """Check all laws that apply to ``target`` and report the results.

    A plugin is tested with all queue and result backends that it registers.

    Args:
        target: The class of a backend, codec or plugin; a codec or plugin; or a kit, where
            the backend cannot be built as ``cls(settings)``.
        kind: ``queue_backend``, ``result_backend``, ``codec`` or ``plugin``; None: inferred from
            the target.
        settings: What the target needs, such as ``{"redis_url": ...}``; the kit adds its own.
        only: Patterns for the names of laws or chapters (``unique``, ``*_twice*``).
        told: Called with each finding as it arrives.

    Raises:
        MissingExtra: pytest is not installed.
        TypeError: no kit fits the target.
    """
    session = _Session(only, told)
    session.run(target, kind, settings or {})
    if session.kit.contract == "plugin" and all(one.outcome != BROKEN for one in session.findings):
        for backend_kind, cls in _backends_of(session.kit, settings or {}):
            session.run(cls, backend_kind.key, settings or {})
    cls = target if isinstance(target, type) else type(target)
    return Report(f"{cls.__module__}:{cls.__qualname__}", session.findings)


class _Session:
    """A pytest plugin that supplies one kit after another and records the laws' results.

    pytest rewrites the asserts of modules imported while it runs. That is why kits are built in a
    hook, not before.
    """

    def __init__(self, only: Iterable[str], told: Callable[[Finding], object]) -> None:
        self.findings: list[Finding] = []
        self.kit: Any = None
        self._only = tuple(only)
        self._told = told
        self._make: Callable[[], type[Kit]] = lambda: Kit
        self._refusal: TypeError | None = None

    def run(self, target: object, kind: str | None, settings: Mapping[str, Any]) -> None:
        """Check the laws of one target; see ``run``."""
        self._make = lambda: import_laws(_TARGETS).kit_for(target, kind, settings)
        pytest = import_laws("pytest")
        with (
            TemporaryDirectory(prefix="nuvom-law-", ignore_cleanup_errors=True) as folder,
            pytest.MonkeyPatch.context() as patch,
        ):
            # It collects garbage several times per session, for a report that is silenced here.
            patch.setenv("PYTEST_ADDOPTS", "-p no:unraisableexception")
            patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            Path(folder, "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
            module = Path(folder, f"test_{new_id().replace('-', '_')}.py")  # a unique name
            module.touch()
            options = f"--rootdir={folder} --basetemp={folder}/stores {_OPTIONS}".split()
            code = pytest.main([str(module), *options], [self])
        if self._refusal is not None:
            raise self._refusal
        if code == pytest.ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        assert code != pytest.ExitCode.INTERNAL_ERROR, "pytest failed; it has said why"

    # ---- hooks, called by pytest ----------------------------------------------------------

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Silence pytest's own report and build the kit."""
        session.config.pluginmanager.unregister(name="terminalreporter")
        try:
            self.kit = self._make()
        except TypeError as error:
            self._refusal = error

    def pytest_pycollect_makemodule(self, module_path: Path, parent: Any) -> Any:
        """Put the kit into the empty module."""
        module = import_laws("pytest").Module.from_parent(parent, path=module_path)
        if self.kit is not None:
            module.obj.TestKit = self.kit
        return module

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Drop laws that were not requested; order the rest chapter by chapter."""
        laws = {law.test: law for law in laws_of(self.kit)} if self.kit else {}
        by_name = {item.name: item for item in items}
        items[:] = [by_name[name] for name, law in laws.items() if self._is_wanted(law)]
        for item in items:
            item.law = laws[item.name]

    def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool:
        """Check a law in its own thread, so that a backend that hangs only breaks that law."""
        names = signature(pyfuncitem.obj).parameters
        given = {name: pyfuncitem.funcargs[name] for name in names}
        Hand(partial(pyfuncitem.obj, **given)).end(self.kit.limit_secs)
        return True

    def pytest_runtest_makereport(self, item: Any, call: pytest.CallInfo[None]) -> None:
        """Record the result of a law."""
        raised = None if call.excinfo is None else call.excinfo.value
        if call.when == "call" or raised is not None:
            made = partial(
                Finding, item.law.name, item.law.group, self.kit.contract, item.law.promise
            )
            self.findings.append(_finding(made, call.duration, raised))
            self._told(self.findings[-1])

    def _is_wanted(self, law: Law) -> bool:
        return any(fnmatchcase(name, one) for one in self._only for name in (law.name, law.group))


def _finding(made: Callable[..., Finding], secs: float, raised: BaseException | None) -> Finding:
    if raised is None:
        return made(KEPT, secs)
    if isinstance(raised, SkipTest):
        return made(SKIPPED, secs, str(raised))
    is_told = isinstance(raised, AssertionError) and str(raised)
    detail = str(raised) if is_told else f"{type(raised).__name__}: {raised}"
    return made(BROKEN, secs, detail, _trace_of(raised))


def _trace_of(raised: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(raised))
    except SystemError:  # as above
        if sys.version_info >= (3, 11, 8):
            raise
        return _trace_of(raised)


def _backends_of(kit: Any, settings: Mapping[str, Any]) -> list[tuple[BackendKind, type]]:
    """Return the backends that a plugin registers, each once."""
    registry = PluginRegistry()
    before = use_plugin_registry(registry)
    try:
        with TemporaryDirectory(prefix="nuvom-law-", ignore_cleanup_errors=True) as folder:
            plugin = kit().make()
            chosen = Settings(root=Path(folder), **settings)
            start_call(plugin, chosen, make_extras(EventBus()))()
            plugin.stop()
    finally:
        use_plugin_registry(before)
    found = ((kind, cls) for (kind, _), cls in registry.entries().items())
    return [pair for pair in dict.fromkeys(found) if pair[0] is not BackendKind.SCHEDULE]
