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
from nuvom.cli.output import Table, clean, duration, quoted
from nuvom.cli.params import FOLDER
from nuvom.cli.project import project_root
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.cli.doctor import Check
    from nuvom.cli.output import Output
    from nuvom.testing.torture import TortureReport

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@command()
@click.option("--keep", type=FOLDER, metavar="DIR", help="Work in DIR, and keep it as a project.")
def demo(invocation: Invocation, keep: Path | None) -> int:
    """Run 24 sample jobs: quick, long, failing, retried, delayed and async ones.

    It needs no project and leaves nothing behind, except with --keep. Exits 0 only if every job
    ended as expected.
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
    root, out = project_root(invocation), invocation.out
    checks = import_module("nuvom.cli.doctor")
    findings: list[Check]
    if salvage is not None:
        findings = [checks.salvaged(root, salvage)]
    else:
        findings = list(checks.diagnose(root, pending=pending))
    failed = [finding for finding in findings if finding.level == "fail"]
    if out.as_json:
        shown = [finding._asdict() for finding in findings]
        out.json("nuvom.doctor/1", {"ok": not failed, "root": root, "checks": shown})
    else:
        _show_findings(out, findings)
        warned = sum(finding.level == "warn" for finding in findings)
        verdict = f"{len(failed)} failed, {plural(warned, 'warning')}"
        out.say(f"{plural(len(findings), 'check')}: {verdict}.")
    if any(finding.code == "PluginNotLoaded" for finding in failed):
        return exit_codes.CONFIG  # as for any read command
    return exit_codes.CHECK_FAILED if failed else exit_codes.OK


def _show_findings(output: Output, findings: Sequence[Check]) -> None:
    out = output.out
    wide = max(len(finding.name) for finding in findings)
    indent = len("warn ") + wide + 2
    for finding in findings:
        level = out.paint(finding.level.ljust(4), _STYLES[finding.level])
        out.line(f"{level} {finding.name:<{wide}}  {clean(finding.text)}")
        if finding.fix:
            out.line(" " * indent + out.paint(clean(finding.fix), "dim"))


# ---- torture ----------------------------------------------------------------------------


@command()
@click.option("--backend", metavar="NAME", default="sqlite", help="The store: sqlite or file.")
@click.option(
    "--seconds",
    metavar="SECS",
    type=click.FloatRange(min=1),
    default=15.0,
    show_default=True,
    help="How long to kill workers; afterwards every job must end.",
)
@click.option("--seed", type=int, help="Repeat the run with this seed: the same faults and times.")
@click.option(
    "--dir",
    "folder",
    type=FOLDER,
    metavar="DIR",
    help="An empty folder on the disk to test, which is kept; default: a temporary one here.",
)
def torture(
    invocation: Invocation, *, backend: str, seconds: float, seed: int | None, folder: Path | None
) -> int:
    """Kill, freeze and stop workers at random on a temporary store, and check the ledger.

    Every accepted job must end once, with the right result, and may start again only where a
    kill explains it. Exits 7 if the ledger does not balance; the folder is then kept.
    """
    if backend == "memory":
        raise click.UsageError("The memory backend ends with its process: nothing would be left.")
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"{folder} is not empty.")
    root = (folder or Path(mkdtemp(prefix="nuvom-torture-", dir="."))).absolute()
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    out = invocation.out
    out.say(f"Killing workers on a {backend} store for {duration(seconds)}, seed {seed}.")
    shown, began = out.progress("Killing", "s", seconds), SYSTEM_CLOCK.monotonic()

    def tell(line: str) -> None:
        shown.tell(min(seconds, int(SYSTEM_CLOCK.monotonic() - began)), line)

    storm = import_module("nuvom.testing.torture").Storm(
        root, backend=backend, secs=seconds, seed=seed, tell=out.say if out.verbosity else tell
    )
    is_kept = folder is not None
    try:
        with shown:
            report: TortureReport = storm.run()
        is_kept = is_kept or not report.is_balanced
    finally:
        if not is_kept:
            shutil.rmtree(root, ignore_errors=True)
    _show_report(out, report, root if is_kept else None)
    return exit_codes.OK if report.is_balanced else exit_codes.CHECK_FAILED


def _show_report(out: Output, report: TortureReport, kept: Path | None) -> None:
    data = report.to_dict()
    figures = {
        "jobs": report.jobs,
        "starts": report.starts,
        "kills": report.kills,
        "freezes": report.freezes,
        "stops": report.terms,
        "not drained": int(not report.drained),
        "crashes": report.crashes,
        "integrity": int(report.integrity != "ok"),
        "cut short too often": max(0, report.repeats.cut_short - report.most_cut_short),
        **{name.replace("_", " "): count for name, count in data["findings"].items()},
    }
    rows = [(name, str(count)) for name, count in figures.items()]
    table = Table(("Figure", "Count"), rows, right=("Count",))
    out.answer("nuvom.torture/1", {**data, "folder": kept}, table)
    if not report.jobs:
        out.say("No job was accepted in this time. Give more: --seconds.")
    else:
        out.say("The ledger balances." if report.is_balanced else "The ledger does not balance.")
    if kept is not None:
        out.say(f"Store, history and the workers' errors are in {quoted(kept)}.")
