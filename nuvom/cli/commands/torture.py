"""``nuvom torture``: kill workers on this very disk, and see whether the books balance."""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import click

from nuvom.cli import exit_codes
from nuvom.cli.base import Command
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.text import duration, quoted
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.cli.output import Output
    from nuvom.testing.torture import Report

SCHEMA = "nuvom.torture/1"
_TELL_EVERY_SECS = 5.0


@click.command(cls=Command)
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
    help="How long to kill; then everything has to drain.",
)
@click.option("--seed", type=int, help="Victims and moments as in the run of this seed.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="An empty folder on the disk to be tried, to be kept; else one is made here and removed.",
)
@pass_invocation
def torture(
    invocation: Invocation, *, backend: str, seconds: float, seed: int | None, folder: Path | None
) -> int:
    """Kill, freeze and stop workers at random on a store of its own, and check the ledger.

    Every accepted job has to end once, with the right result, and start again only where a
    kill explains it. Exit 7 where the books do not balance; the folder is then kept.
    """
    if backend == "memory":
        raise click.UsageError("The memory backend ends with its process: nothing would be left.")
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"{folder} is not empty.")
    root = folder.absolute() if folder else Path(mkdtemp(prefix="nuvom-torture-", dir="."))
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    out = invocation.out
    out.say(f"Killing workers on a {backend} store for {duration(seconds)}, seed {seed}.")
    # It imports the engine, which help does not need.
    storm = import_module("nuvom.testing.torture").Storm(
        root.absolute(), backend=backend, secs=seconds, seed=seed, tell=_now_and_then(out)
    )
    try:
        report: Report = storm.run()
    except BaseException:
        _remove(root, made_here=folder is None)
        raise
    if report.is_balanced:
        _remove(root, made_here=folder is None)
    _show(out, report, root)
    return exit_codes.OK if report.is_balanced else exit_codes.CHECK_FAILED


def _remove(root: Path, *, made_here: bool) -> None:
    if made_here:
        shutil.rmtree(root, ignore_errors=True)


def _now_and_then(out: Output) -> Callable[[str], None]:
    last = SYSTEM_CLOCK.monotonic()

    def tell(line: str) -> None:
        nonlocal last
        if SYSTEM_CLOCK.monotonic() - last >= _TELL_EVERY_SECS:
            last = SYSTEM_CLOCK.monotonic()
            out.say(f"{line} so far")

    return tell


def _show(out: Output, report: Report, root: Path) -> None:
    kept = root.absolute() if root.exists() else None
    data = report.to_dict()
    if out.as_json:
        out.json(SCHEMA, {**data, "folder": kept})
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
