"""``nuvom migrate``, ``copy``, ``export``, ``import``: make stores, and move what is in them."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from nuvom.cli import exit_codes
from nuvom.cli.context import Invocation, command
from nuvom.cli.output import Table
from nuvom.cli.params import dry_run_option
from nuvom.cli.project import opened, reader, require_known, writer
from nuvom.errors import BackendUnavailable, PayloadError, Refused, plural
from nuvom.inspection.inspector import Inspector
from nuvom.inspection.overview import store_place
from nuvom.queue_backends.transfer import (
    Comparison,
    Place,
    StoredJob,
    Transfer,
    TransferReport,
    exported,
    load,
)
from nuvom.scheduler.record import ScheduleRecord
from nuvom.scheduler.transfer import (
    ScheduleLoader,
    ScheduleTransfer,
    exported_schedules,
    from_dict,
    to_dict,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nuvom.cli.output import Output
    from nuvom.core.views import Migration
    from nuvom.logs.progress import ProgressDisplay
    from nuvom.runtime import Runtime

_FILE = click.argument("file", required=False, type=click.Path(dir_okay=False, allow_dash=True))


@command()
@dry_run_option
def migrate(invocation: Invocation, *, dry_run: bool) -> int:
    """Make or change the tables of the store, in one transaction.

    Needed before the first use of PostgreSQL, and after an upgrade of Nuvom that says so. Stores in
    files need it never. With --dry-run it prints the SQL.
    """
    runtime, _ = writer(invocation)
    found: dict[str, Migration] = {}
    for backend in (runtime.queue, runtime.results):
        done = backend.migrate(dry_run=dry_run)
        if done is not None:
            found.setdefault(done.store, done)  # they may share one, which was done by then
    out = invocation.out
    shown = [
        {"store": one.store, "before": one.before, "after": one.after} for one in found.values()
    ]
    text = "\n".join(_text(one, dry_run=dry_run) for one in found.values())
    out.answer("nuvom.migrate/1", {"migrations": shown}, text or "The store needs no tables.")
    is_newer = any(one.before == one.after and not one.statements for one in found.values())
    return exit_codes.CHECK_FAILED if is_newer else exit_codes.OK


def _text(one: Migration, *, dry_run: bool) -> str:
    if dry_run:
        return "\n\n".join((f"-- {one.store}", *one.statements))
    if not one.statements:
        return (
            f"{one.store} has tables of a later version ({one.before}). "
            "Upgrade Nuvom here: pip install --upgrade nuvom"
        )
    if one.before == one.after:
        return f"{one.store} is at version {one.after}; its functions were renewed."
    return f"{one.store} is at version {one.after} now (it was at {one.before})."


# ---- from store to store -------------------------------------------------------------------


@command()
@click.option("--from", "source", metavar="URL", required=True, help="The store to empty.")
@click.option("--to", "target", metavar="URL", required=True, help="The store to fill.")
@click.option("--queue", "queues", metavar="NAME", multiple=True, help="Only this; repeatable.")
@click.option("--results", is_flag=True, help="Also copy the jobs that have ended.")
@click.option("--verify", is_flag=True, help="Move nothing; compare the two stores.")
@dry_run_option
def copy(invocation: Invocation, *, source: str, target: str, **options: Any) -> int:
    """Move all schedules and waiting jobs to another store, while workers and programs use both.

    A URL is sqlite:///PATH, file:///FOLDER, postgresql://... or redis://... . Each job stays in one
    store or the other, and each schedule fires in one: the command may be killed at any time, and
    finishes its work when you run it again. Running jobs stay until they end. Run it once more
    after the last program and worker has left the old store. Exits 7 if a job or a schedule cannot
    be moved; it stays where it is.
    """
    (name, old), (goal, new) = opened(invocation, source, target)
    if name == goal:
        raise click.UsageError(f"--from and --to are the same store: {name}")
    _require(name, old)
    if options["verify"]:
        _require(goal, new)
    for queue in options["queues"]:
        require_known(Inspector(old), old.settings, queue=queue, task=None)
    out, results = invocation.out, options["results"]
    places = Place.of(name, old.queue), Place.of(goal, new.queue)
    shown = out.progress("Copying", "jobs")
    transfer = Transfer(*places, queues=options["queues"], tell=shown.tell)
    shown.total = transfer.count(results=results or options["verify"])
    schedules = ScheduleTransfer(*places, transfer.report, queues=options["queues"])
    ends = {"from": name, "to": goal}
    if options["verify"]:
        with shown:
            found = transfer.compare(results=results)
        return _show_comparison(out, found, schedules.compare(), ends)
    dry_run = options["dry_run"]
    with shown:  # schedules first: what they have enqueued until then is moved with the other jobs
        schedules.plan() if dry_run else schedules.run()
        report = transfer.plan(results=results) if dry_run else transfer.run(results=results)
    verb = "would move" if dry_run else "moved"
    text = f"{_moved(report, 'job')} {verb} from {name} to {goal}"
    if results:
        text += f", {plural(report.ended, 'ended job')} {'would be ' * dry_run}copied"
    _show(out, "nuvom.copy/1", report, text, **ends, dry_run=dry_run)
    if not dry_run:
        _tell_what_is_left(out, report, name)
    return exit_codes.CHECK_FAILED if report.refused else exit_codes.OK


def _moved(report: TransferReport, job: str) -> str:
    jobs = plural(report.moved, job)
    return f"{plural(report.schedules, 'schedule')} and {jobs}" if report.schedules else jobs


def _require(name: str, runtime: Runtime) -> None:
    """Refuse a file that would be made only now. Raises: BackendUnavailable."""
    place = store_place(runtime.settings)
    if place is not None and not place.exists():
        raise BackendUnavailable(name, "it does not exist", "Correct its address.")


def _tell_what_is_left(out: Output, report: TransferReport, name: str) -> None:
    if report.running or report.waiting > len(report.refused):
        left = f"{report.running:,} running and {plural(report.waiting, 'waiting job')}"
        out.say(f"{name} still has {left}. Run the command again to move what waits.")


def _show(out: Output, schema: str, report: TransferReport, text: str, **more: Any) -> None:
    """Show what has become of jobs, and the reason for each that stays where it is."""
    data = {**more, **msgspec.structs.asdict(report)}
    data["refused"] = [{"id": one, "reason": reason} for one, reason in report.refused.items()]
    out.answer(schema, data, f"{text}.")
    if not out.as_json:
        _show_reasons(out, report.refused)


def _show_reasons(out: Output, reasons: Mapping[str, str]) -> None:
    if reasons:
        out.table(Table(("Job", "Why it stays as it is"), [*reasons.items()], folded=("Job",)))


def _show_comparison(
    out: Output, jobs: Comparison, schedules: Comparison, ends: Mapping[str, str]
) -> int:
    differences = {**schedules.differences, **jobs.differences}
    wrong = [{"id": one, "reason": reason} for one, reason in differences.items()]
    data = {**ends, "schedules": schedules.equal, "equal": jobs.equal, "differences": wrong}
    text = plural(jobs.equal, "job")
    if schedules.equal:
        text = f"{plural(schedules.equal, 'schedule')} and {text}"
    out.answer("nuvom.comparison/1", data, f"{text} equal, {plural(len(wrong), 'difference')}.")
    if not out.as_json:
        _show_reasons(out, differences)
    return exit_codes.CHECK_FAILED if wrong else exit_codes.OK


# ---- files ---------------------------------------------------------------------------------


@command()
@_FILE
@click.option("--results", is_flag=True, help="Also write the jobs that have ended.")
def export(invocation: Invocation, *, file: str | None, results: bool) -> int:
    """Write schedules and waiting jobs to FILE, or to standard output, one JSON object a line.

    They stay in the store, and running jobs are left out: stop the workers first, or the file
    tells of one moment only. FILE takes its place once it is complete.
    """
    runtime, _ = reader(invocation)
    if results and not runtime.is_shared:
        raise Refused(
            "The results are in another store than the jobs, and cannot be exported with them",
            "Leave out --results.",
        )
    store, report = _place(runtime).queue, TransferReport()
    with _written(file) as stream, invocation.out.progress("Writing", "jobs") as progress:
        for schedule in exported_schedules(store, report):
            stream.write(_line(to_dict(schedule)))
        for count, one in enumerate(exported(store, report, results=results), 1):
            stream.write(_line(one.to_dict()))
            progress.tell(count)
    _show_export(invocation.out, report, file)
    return exit_codes.CHECK_FAILED if report.refused else exit_codes.OK


def _line(data: dict[str, Any]) -> bytes:
    return f"{json.dumps(data, ensure_ascii=True, separators=(',', ':'))}\n".encode("ascii")


def _show_export(out: Output, report: TransferReport, file: str | None) -> None:
    waiting, ended = _moved(report, "waiting job"), plural(report.ended, "ended job")
    text = f"{waiting} and {ended} written, {report.running:,} running left out"
    if file not in (None, "-"):
        _show(out, "nuvom.export/1", report, text, file=file)
    else:
        out.say(f"{text}.")
        for job_id, reason in report.refused.items():
            out.warn(f"Job {job_id} is not in the output: {reason}.")


@contextmanager
def _written(file: str | None) -> Iterator[IO[bytes]]:
    """Yield a stream that becomes ``file`` when all is well."""
    if file in (None, "-"):
        yield sys.stdout.buffer
        return
    part = Path(f"{file}.part")
    with part.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(str(file))


@command(name="import")
@_FILE
def import_(invocation: Invocation, *, file: str | None) -> int:
    """Store what nuvom export wrote, from FILE or standard input: jobs keep their ids.

    What the store has already is left alone, so the command may be repeated. Exits 7 if a line
    cannot be read, or a job or a schedule cannot be stored.
    """
    runtime, _ = writer(invocation)
    report = TransferReport()
    with invocation.out.progress("Reading", "lines") as progress:
        if file in (None, "-"):
            _load(runtime, _counted(sys.stdin.buffer, progress), report)
        else:
            with Path(str(file)).open("rb") as stream:
                _load(runtime, _counted(stream, progress), report)
    text = f"{_moved(report, 'waiting job')} and {plural(report.ended, 'ended job')} stored"
    _show(invocation.out, "nuvom.import/1", report, f"{text}, {report.known:,} known before")
    return exit_codes.CHECK_FAILED if report.refused else exit_codes.OK


def _counted(lines: Iterable[bytes], progress: ProgressDisplay) -> Iterator[bytes]:
    for number, line in enumerate(lines, 1):
        yield line
        progress.tell(number)


def _load(runtime: Runtime, lines: Iterable[bytes], report: TransferReport) -> None:
    """Store the jobs and schedules of an export, and note what cannot be read or stored."""
    store = _place(runtime).queue
    schedules = ScheduleLoader(store, report)

    def jobs() -> Iterator[StoredJob]:
        for one in _read(lines, report):
            if isinstance(one, ScheduleRecord):
                schedules.add(one)
            elif runtime.is_shared or not one.seen.status.is_final:
                yield one
            else:
                reason = "its result would be in another store than the job"
                report.refused[one.seen.record.id] = reason

    load(store, jobs(), report)
    schedules.flush()


def _read(lines: Iterable[bytes], report: TransferReport) -> Iterator[StoredJob | ScheduleRecord]:
    for number, line in enumerate(lines, 1):
        try:
            data = json.loads(line)
            is_schedule = isinstance(data, dict) and "schedule" in data
            yield from_dict(data) if is_schedule else StoredJob.from_dict(data)
        except (PayloadError, ValueError) as error:
            what = error.what if isinstance(error, PayloadError) else str(error)
            report.refused[f"line {number}"] = f"it cannot be read: {what}"


def _place(runtime: Runtime) -> Place:
    return Place.of(runtime.settings.queue_backend, runtime.queue)
