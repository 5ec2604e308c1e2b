"""``nuvom doctor``: check the whole set-up."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nuvom.cli import exit_codes
from nuvom.cli.base import Command
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.session import project_root
from nuvom.errors import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.cli.output import Output
    from nuvom.diagnosis.findings import Finding

SCHEMA = "nuvom.doctor/1"
_MARKS = {
    "ok": ("✓", "ok  ", "green"),
    "warn": ("!", "warn", "yellow"),
    "fail": ("✗", "FAIL", "red"),
}


@click.command(cls=Command)
@click.option(
    "--pending",
    is_flag=True,
    help="Also compare the arguments of all waiting jobs with today's signatures.",
)
@click.option(
    "--salvage",
    metavar="NEW_FILE",
    type=click.Path(dir_okay=False, resolve_path=True, path_type=Path),
    help="Check nothing; copy what can be read of a damaged SQLite file into a new one.",
)
@pass_invocation
def doctor(invocation: Invocation, *, pending: bool, salvage: Path | None) -> int:
    """Check environment, settings, manifest, store, queues, workers and plugins.

    Exit 7 where a check failed; warnings alone exit 0. No code of yours is run.
    """
    root = project_root(invocation)
    findings: list[Finding]
    # They read the versions of packages, and SQLite, which help does not need.
    if salvage is not None:
        findings = import_module("nuvom.diagnosis.salvage").salvage_findings(root, salvage)
    else:
        findings = import_module("nuvom.diagnosis.doctor").diagnose(root, pending=pending)
    failed = [finding for finding in findings if finding.level == "fail"]
    warned = [finding for finding in findings if finding.level == "warn"]
    out = invocation.out
    if out.as_json:
        checks = [finding._asdict() for finding in findings]
        out.json(SCHEMA, {"ok": not failed, "root": root, "checks": checks})
    else:
        _show(out, findings)
        out.say(_summary(len(findings), len(failed), len(warned)))
    if any(finding.code == "PluginNotLoaded" for finding in failed):
        return exit_codes.CONFIG  # as any command that reads says
    return exit_codes.CHECK_FAILED if failed else exit_codes.OK


def _show(out: Output, findings: Sequence[Finding]) -> None:
    wide = max(len(finding.name) for finding in findings)
    for finding in findings:
        unicode, ascii_, style = _MARKS[finding.level]
        symbol = out.out.symbol(unicode, ascii_)
        indent = len(symbol) + wide + 3
        text = out.beside(indent, finding.text)
        out.lines([f"{out.out.paint(symbol, style)} {finding.name:<{wide}}  {text}"])
        if finding.fix and finding.level != "ok":
            out.lines([" " * indent + out.beside(indent, finding.fix, "dim")])


def _summary(count: int, failed: int, warned: int) -> str:
    if not failed and not warned:
        return f"{plural(count, 'check')}, all well."
    return f"{plural(count, 'check')}, {failed} failed, {plural(warned, 'warning')}."
