"""Holds the laws of a kit without a test runner: what ``nuvom plugin test`` does.

Each law gets a folder and a thread of its own, so that a backend that hangs is a broken law
and not the end. pytest is not needed.
"""

from __future__ import annotations

import importlib.util
import traceback
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import SkipTest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import MissingExtra
from nuvom.testing.conformance.crew import Hand
from nuvom.testing.conformance.law import Kit, LawBroken, NotDeclared, laws_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuvom.testing.conformance.law import Law

KEPT, BROKEN, SKIPPED = "kept", "broken", "skipped"


class Finding(NamedTuple):
    """How one law came out.

    Attributes:
        kind: The contract: ``queue_backend``, ``result_backend``, ``codec`` or ``plugin``.
        outcome: ``kept``, ``broken`` or ``skipped``.
        detail: What is wrong, or why it was skipped.
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
    """How all laws came out."""

    target: str
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether no law is broken and one at least was held."""
        return not self.broken and bool(self.kept)

    @property
    def kept(self) -> list[str]:
        """Names of the laws that are kept."""
        return self._named(KEPT)

    @property
    def broken(self) -> list[str]:
        """Names of the laws that are broken."""
        return self._named(BROKEN)

    @property
    def skipped(self) -> list[str]:
        """Names of the laws that do not apply."""
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


def hold(
    kit: Kit,
    *,
    only: Iterable[str] = ("*",),
    told: Callable[[Finding], object] = lambda _: None,
) -> Report:
    """Hold all laws of ``kit`` and report.

    Args:
        only: Patterns of the names of laws or chapters (``unique``, ``*_twice*``).
        told: Called after each law, so that somebody who waits sees progress.

    Raises: MissingExtra: the packages that the kit needs are not installed.
    """
    check_extra()
    patterns = tuple(only)
    findings = []
    for law in laws_of(kit):
        if any(fnmatchcase(name, one) for one in patterns for name in (law.name, law.group)):
            finding = _hold_one(kit, law)
            findings.append(finding)
            told(finding)
    return Report(type(kit).__name__, findings)


def check_extra() -> None:
    """Raise MissingExtra unless everything is there that a kit needs."""
    if importlib.util.find_spec("hypothesis") is None:
        raise MissingExtra("nuvom.testing.conformance", "testing")


def _hold_one(kit: Kit, law: Law) -> Finding:
    made = partial(
        Finding, law=law.name, group=law.group, kind=type(kit).contract, promise=law.promise
    )
    began = SYSTEM_CLOCK.monotonic()
    with TemporaryDirectory(prefix="nuvom-law-", ignore_cleanup_errors=True) as folder:
        hand = Hand(lambda: kit.judge(law, Path(folder)))
        hand.start()
        hand.join(law.limit_secs)
        secs = SYSTEM_CLOCK.monotonic() - began
    if hand.is_alive():
        return made(outcome=BROKEN, secs=secs, detail=f"did not end within {law.limit_secs:g} s")
    raised = hand.raised
    if raised is None:
        return made(outcome=KEPT, secs=secs)
    if isinstance(raised, NotDeclared):
        return made(outcome=SKIPPED, secs=secs, detail=f"needs {', '.join(raised.missing)}")
    if isinstance(raised, SkipTest):
        return made(outcome=SKIPPED, secs=secs, detail=str(raised))
    if isinstance(raised, LawBroken):
        detail = str(raised).partition("\n")[2]
    else:
        detail = f"{type(raised).__name__}: {raised}"
    trace = "".join(traceback.format_exception(raised))
    return made(outcome=BROKEN, secs=secs, detail=detail, trace=trace)
