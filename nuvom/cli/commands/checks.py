"""``nuvom status``, ``top``, ``dashboard``, ``doctor``, ``demo``, ``torture``: how a project does.

What they call is heavy and help does not need it, so it is imported only when they run.
"""

from __future__ import annotations

import os
import shutil
import sys
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from nuvom.cli import exit_codes, tables
from nuvom.cli.commands.queues import queues_table
from nuvom.cli.context import Invocation, command
from nuvom.cli.output import Table, clean, one_line, quoted
from nuvom.cli.params import FOLDER, format_option, job_ids
from nuvom.cli.project import project_root, reader, writer
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import plural
from nuvom.inspection import views
from nuvom.inspection.formats import ago, duration
from nuvom.inspection.overview import SCHEDULE_STATES, Check, overview
from nuvom.log import reset_logging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.cli.output import Output
    from nuvom.contrib.top.sources import Source
    from nuvom.inspection.inspector import Inspector
    from nuvom.runtime import Runtime
    from nuvom.testing.torture import TortureReport

_QUEUE_WORDS = {
    "ready": "ready",
    "running": "running",
    "later": "scheduled",
    "waiting for a retry": "retrying",
    "parked": "parked",
}
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@command()
@click.option("--keep", type=FOLDER, metavar="DIR", help="Work in DIR, and keep it as a project.")
def demo(invocation: Invocation, keep: Path | None) -> int:
    """Run sample jobs: quick, long, failing, retried, delayed, async and scheduled ones.

    It needs no project and leaves nothing behind, except with --keep. Exits 0 only if every job
    ended as expected, and the schedule fired as often as it should.
    """
    code: int = import_module("nuvom.cli.demo").run(invocation, keep)
    return code


# ---- status -----------------------------------------------------------------------------


@command()
@click.argument("job_id", metavar="[ID]", required=False, shell_complete=job_ids)
@format_option("table: the status and why; json: like --json; raw: only the status.")
def status(invocation: Invocation, job_id: str | None, form: str) -> None:
    """Show workers, queues, schedules, failures and what needs attention; or one job's status.

    With ID, show the status of this job and, if it failed, why. The last six or more characters of
    an id are enough. An id that never existed is not found: exit 3.
    """
    invocation.out.as_json = invocation.out.as_json or form == "json"
    runtime, inspector = reader(invocation)
    if job_id is None:
        _show_overview(invocation.out, runtime, overview(runtime, inspector))
    else:
        _show_status(invocation.out, runtime, inspector, job_id, only_word=form == "raw")


def _show_status(
    out: Output, runtime: Runtime, inspector: Inspector, job_id: str, *, only_word: bool
) -> None:
    snapshot = inspector.snapshot(inspector.find_id(job_id))
    word = str(snapshot.status)
    if out.as_json:
        out.json("nuvom.status/1", views.job_data(snapshot))
    elif only_word or out.plain:
        out.text(word)
    else:
        shown = one_line(views.status_text(snapshot, runtime.clock.now()))
        out.text(shown, tables.STATUS_STYLES[word])
        reason = inspector.why(snapshot)
        if reason is not None:  # beside the status, which scripts read
            out.say(f"{reason.sentence} {reason.fix}".rstrip())
        elif snapshot.error is not None:
            out.text(views.error_text(snapshot.error))
            out.hint(f"Traceback and attempts: nuvom inspect job {snapshot.record.id}")


def _show_overview(out: Output, runtime: Runtime, data: dict[str, Any]) -> None:
    if out.as_json:
        out.json("nuvom.overview/1", data)
        return
    facts = _overview_facts(data, runtime.clock.now())
    findings = [Check(**one) for one in data["attention"]]
    if out.plain:
        rows = [*facts.items(), *((f"{one.level} {one.name}", one.text) for one in findings)]
        out.table(Table(("Part", "State"), rows))
        return
    out.fields(facts)
    if data["queues"]:
        out.text("")
        out.table(queues_table(data["queues"]))
    if findings:
        out.text("\nNeeds attention", "bold")
        _show_findings(out, findings)
    else:
        out.text("\nNothing needs attention.", "green")


def _overview_facts(data: dict[str, Any], now: float) -> dict[str, str]:
    """Return one text for each part of the project."""
    place = "" if data["store"] is None else f" in {quoted(data['store'])}"
    return {
        "project": f"{quoted(data['project'])} ({data['environment']})",
        "store": f"{data['backend']}{place}",
        "workers": _workers_text(data["workers"]),
        "queues": _queues_text(data["queues"]),
        "schedules": _schedules_text(data["schedules"], now),
        "failures": _failures_text(data["failures"], now),
    }


def _workers_text(workers: dict[str, int]) -> str:
    parts = [f"{workers['alive']:,} alive"]
    if workers["silent"]:
        parts.append(f"{workers['silent']:,} silent")
    if workers["slots"]:
        parts.append(f"{workers['running']:,} of {workers['slots']:,} slots busy")
    return f"{', '.join(parts)}; {plural(workers['schedulers'], 'scheduler')}"


def _queues_text(queues: Sequence[dict[str, Any]]) -> str:
    if not queues:
        return "none has had a job yet"
    counts = {word: sum(one[key] for one in queues) for word, key in _QUEUE_WORDS.items()}
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count) or "idle"


def _schedules_text(schedules: dict[str, Any], now: float) -> str:
    counts = [f"{schedules[state]:,} {state}" for state in SCHEDULE_STATES if schedules[state]]
    following = schedules["next"]
    if following is None:
        return ", ".join(counts) or "none"
    at = datetime.fromisoformat(following["at"]).timestamp()
    due = "" if at > now else "due "
    return f"{', '.join(counts)}; next: {following['name']}, {due}{ago(at, now)}"


def _failures_text(failures: dict[str, Any], now: float) -> str:
    if not failures["latest"]:
        return "none"
    last = failures["latest"][0]
    at = datetime.fromisoformat(last["last_at"]).timestamp()
    jobs = plural(failures["jobs"], "job")
    return f"{jobs}; latest: {last['func_name']}, {last['type']}, {ago(at, now)}"


# ---- top ----------------------------------------------------------------------------------


@command()
@click.option("--once", is_flag=True, help="Print the state once and exit; works with --json.")
@click.option("--read-only", is_flag=True, help="Leave out the keys that change something.")
@click.option("--url", metavar="URL", help="Read from the dashboard at URL, not from the store.")
@click.option(
    "--token",
    metavar="[TOKEN]",
    envvar="NUVOM_DASHBOARD_TOKEN",
    prompt=True,
    prompt_required=False,
    hide_input=True,
    help="The dashboard's token. Better: --token alone, which asks, or NUVOM_DASHBOARD_TOKEN.",
)
def top(
    invocation: Invocation, *, once: bool, read_only: bool, url: str | None, token: str | None
) -> int:
    """Watch jobs, queues, workers, schedules and errors in the terminal, and act on them.

    Press ? for the keys. This needs the extra: pip install 'nuvom[top]'. Without it you see
    the newest jobs, and there are no keys.
    """
    out = invocation.out
    has_keys = sys.stdin is not None and sys.stdin.isatty()
    is_terminal = has_keys and out.out.is_terminal and out.err.is_terminal
    if not once and (out.as_json or not is_terminal):
        raise click.UsageError("nuvom top needs a terminal. For one snapshot, add --once.")
    source = _source(invocation, url, token, changes=not (once or read_only))
    if once:
        import_module("nuvom.contrib.top.plain").show_once(out, source)
        return exit_codes.OK
    reset_logging()  # a line of a log would stand in the midst of the screen
    if find_spec("textual") is None:
        import_module("nuvom.contrib.top.plain").watch(out, source)
        return exit_codes.OK
    code: int = import_module("nuvom.contrib.top.app").run(source, read_only=read_only)
    return code


def _source(invocation: Invocation, url: str | None, token: str | None, *, changes: bool) -> Source:
    """Return where ``nuvom top`` reads."""
    sources = import_module("nuvom.contrib.top.sources")
    found: Source
    if url is None:
        found = sources.StoreSource(*(writer if changes else reader)(invocation))
        return found
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise click.UsageError(f"--url is an address such as http://127.0.0.1:8321, not {url!r}.")
    found = sources.ApiSource(url, token or "")
    return found


# ---- dashboard ----------------------------------------------------------------------------


@command()
@click.option("--host", metavar="HOST", default="127.0.0.1", show_default=True, help="Listen here.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8321, show_default=True, help="0: any free."
)
@click.option(
    "--token",
    metavar="TOKEN",
    envvar="NUVOM_DASHBOARD_TOKEN",
    help="Let in whoever has it; programs send it too. Better: set NUVOM_DASHBOARD_TOKEN.",
)
@click.option("--allow-actions", is_flag=True, help="Let people change jobs, queues and workers.")
@click.option(
    "--allow-host",
    metavar="NAME",
    multiple=True,
    help="Also answer under this name, as behind a proxy; may be repeated.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
def dashboard(invocation: Invocation, /, **options: Any) -> int:
    """Serve the web dashboard of the project until you stop it.

    It prints an address that lets you in once, and is read-only unless --allow-actions is given.
    For other machines it needs --host and a token (exit 8 without). This needs the extra:
    pip install 'nuvom[dashboard]'.
    """
    code: int = import_module("nuvom.contrib.dashboard.server").serve(invocation, **options)
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
        text = clean(finding.text).replace("\n", f"\n{' ' * indent}")
        out.line(f"{level} {finding.name:<{wide}}  {text}")
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
