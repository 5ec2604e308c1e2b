"""``nuvom doctor``, ``demo`` and ``torture``: check that a setup, the engine and a disk work.

Their code is heavy and help does not need it, so it is imported only when they run.
"""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import click

from nuvom.cli import exit_codes
from nuvom.cli.context import Invocation, command
from nuvom.cli.output import clean, duration, quoted
from nuvom.cli.project import project_root
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.cli.doctor import Check
    from nuvom.cli.output import Output
    from nuvom.testing.torture import TortureReport

_TELL_EVERY_SECS = 5.0
_MARKS = {
    "ok": ("✓", "ok  ", "green"),
    "warn": ("!", "warn", "yellow"),
    "fail": ("✗", "FAIL", "red"),
}


@command()
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Work in DIR and leave it as a project to go on with.",
)
def demo(invocation: Invocation, keep: Path | None) -> int:
    """Run 24 jobs in front of you: quick, long, failing, retried, delayed and async ones.

    It needs no project and leaves nothing behind, except with --keep. Exits 0 only if every job
    ended as it should.
    """
    code: int = import_module("nuvom.cli.demo").run(invocation, keep)
    return code


# ---- doctor -----------------------------------------------------------------------------


@command()
@click.option(
    "--pending",
    is_flag=True,
    help="Also check the arguments of all waiting jobs against the current signatures.",
)
@click.option(
    "--salvage",
    metavar="NEW_FILE",
    type=click.Path(dir_okay=False, resolve_path=True, path_type=Path),
    help="Run no checks; copy what can be read of a damaged SQLite file into a new one.",
)
def doctor(invocation: Invocation, *, pending: bool, salvage: Path | None) -> int:
    """Check the environment, settings, manifest, store, queues, workers and plugins.

    Exits 7 if a check failed; warnings alone exit 0. None of your code is run.
    """
    root = project_root(invocation)
    checks = import_module("nuvom.cli.doctor")
    findings: list[Check]
    if salvage is not None:
        findings = checks.salvage_findings(root, salvage)
    else:
        findings = checks.diagnose(root, pending=pending)
    failed = [finding for finding in findings if finding.level == "fail"]
    out = invocation.out
    if out.as_json:
        shown = [finding._asdict() for finding in findings]
        out.json("nuvom.doctor/1", {"ok": not failed, "root": root, "checks": shown})
    else:
        _show_findings(out, findings)
        warned = sum(finding.level == "warn" for finding in findings)
        verdict = f"{len(failed)} failed, {plural(warned, 'warning')}"
        all_well = not failed and not warned
        out.say(f"{plural(len(findings), 'check')}, {'all well' if all_well else verdict}.")
    if any(finding.code == "PluginNotLoaded" for finding in failed):
        return exit_codes.CONFIG  # as for any read command
    return exit_codes.CHECK_FAILED if failed else exit_codes.OK


def _show_findings(output: Output, findings: Sequence[Check]) -> None:
    out = output.out
    wide = max(len(finding.name) for finding in findings)
    for finding in findings:
        unicode, ascii_, style = _MARKS[finding.level]
        symbol = unicode if out.has_unicode else ascii_
        indent = len(symbol) + wide + 3
        text = out.beside(indent, clean(finding.text))
        output.lines([f"{out.paint(symbol, style)} {finding.name:<{wide}}  {text}"])
        if finding.fix and finding.level != "ok":
            fix = out.paint(out.beside(indent, clean(finding.fix)), "dim")
            output.lines([" " * indent + fix])


# ---- torture ----------------------------------------------------------------------------


@command()
@click.option(
    "--backend",
    metavar="NAME",
    default="sqlite",
    show_default=True,
    help="The store: sqlite or file.",
)
@click.option(
    "--seconds",
    metavar="SECS",
    type=click.FloatRange(min=1),
    default=15.0,
    show_default=True,
    help="How long to kill workers; afterwards every job must end.",
)
@click.option(
    "--seed", type=int, help="Repeat the run that had this seed: the same victims and moments."
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="An empty folder on the disk to test, which is kept; default: a temporary one here.",
)
def torture(
    invocation: Invocation, *, backend: str, seconds: float, seed: int | None, folder: Path | None
) -> int:
    """Kill, freeze and stop workers at random on a temporary store, and check the ledger.

    Every accepted job must end once, with the right result, and may start again only where a
    kill explains it. Exits 7 if the books do not balance; the folder is then kept.
    """
    if backend == "memory":
        raise click.UsageError("The memory backend ends with its process: nothing would be left.")
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"{folder} is not empty.")
    root = folder.absolute() if folder else Path(mkdtemp(prefix="nuvom-torture-", dir="."))
    root = root.absolute()
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    out = invocation.out
    out.say(f"Killing workers on a {backend} store for {duration(seconds)}, seed {seed}.")
    storm = import_module("nuvom.testing.torture").Storm(
        root, backend=backend, secs=seconds, seed=seed, tell=_now_and_then(out)
    )
    is_kept = folder is not None
    try:
        report: TortureReport = storm.run()
        is_kept = is_kept or not report.is_balanced
    finally:
        if not is_kept:
            shutil.rmtree(root, ignore_errors=True)
    _show_report(out, report, root if root.exists() else None)
    return exit_codes.OK if report.is_balanced else exit_codes.CHECK_FAILED


def _now_and_then(out: Output) -> Callable[[str], None]:
    last = SYSTEM_CLOCK.monotonic()

    def tell(line: str) -> None:
        nonlocal last
        if SYSTEM_CLOCK.monotonic() - last >= _TELL_EVERY_SECS:
            last = SYSTEM_CLOCK.monotonic()
            out.say(f"{line} so far")

    return tell


def _show_report(out: Output, report: TortureReport, kept: Path | None) -> None:
    data = report.to_dict()
    if out.as_json:
        out.json("nuvom.torture/1", {**data, "folder": kept})
        return
    faults = {"kill": report.kills, "freeze": report.freezes, "stop": report.terms}
    said = ", ".join(plural(count, word) for word, count in faults.items())
    out.text(f"{plural(report.jobs, 'job')} accepted, {plural(report.starts, 'start')}, {said}.")
    findings = {
        "not drained": int(not report.drained),
        "crashes": report.crashes,
        "integrity": int(report.integrity != "ok"),
        "cut short too often": max(0, report.repeats.cut_short - report.most_cut_short),
        **{name.replace("_", " "): count for name, count in data["findings"].items()},
    }
    wide = max(map(len, findings))
    out.lines(f"  {name:<{wide}}  {count}" for name, count in findings.items())
    style = "green" if report.is_balanced else "bold red"
    verdict = "The books balance." if report.is_balanced else "The books do not balance."
    out.lines([out.out.paint(verdict, style)])
    if kept is not None:
        out.say(f"Store, history and the workers' errors are in {quoted(kept)}.")
