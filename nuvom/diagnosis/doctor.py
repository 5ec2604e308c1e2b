"""Runs all checks in order; those that need settings are left out where these are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.config.sources import load
from nuvom.diagnosis.pending import pending_findings
from nuvom.diagnosis.project import (
    environment_findings,
    folder_findings,
    plugin_findings,
    settings_findings,
    task_findings,
)
from nuvom.diagnosis.store import store_findings

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.diagnosis.findings import Finding


def diagnose(root: Path, *, pending: bool = False) -> list[Finding]:
    """Return what all checks of the project at ``root`` find; runs none of its code.

    Args:
        pending: Also bind the arguments of all waiting jobs to the signatures in the code.
    """
    found = [*environment_findings(), *settings_findings(root)]
    if any(finding.level == "fail" for finding in found):
        return found
    loaded = load(root)
    checks = [folder_findings, task_findings, plugin_findings, store_findings]
    if pending:
        checks.append(pending_findings)
    for check in checks:
        found.extend(check(loaded))
    return found
