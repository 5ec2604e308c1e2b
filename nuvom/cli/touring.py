"""Runs the tour of ``nuvom demo``: a store of its own, a worker in this process, 24 jobs."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nuvom.cli import exit_codes
from nuvom.cli.shapes import error_data
from nuvom.cli.starter import write_project
from nuvom.cli.text import duration, quoted
from nuvom.cli.touring_view import view_for
from nuvom.config.sources import load
from nuvom.demo.tour import Expected, enqueue, watch
from nuvom.errors import plural
from nuvom.runtime import Runtime, build_runtime, use_runtime
from nuvom.worker import Worker

if TYPE_CHECKING:
    from nuvom.cli.invocation import Invocation
    from nuvom.core.record import JobSnapshot

SCHEMA = "nuvom.demo/1"
_LIMIT_SECS = 30.0  # it takes about four; a machine may be very busy
_RECIPE = (
    ("nuvom init", "a tasks.py and a nuvom.toml to start from"),
    ("nuvom dev", "a worker that takes up your changes"),
    ("nuvom run add 2 3 --wait", "in a second terminal: prints 5"),
    ("nuvom history", "what has happened"),
)


def run(invocation: Invocation, keep: Path | None) -> int:
    """Run the tour; return 0 if every job ended as it should, else 1.

    Raises: BackendUnavailable, StorageFull: the folder cannot be written.
    """
    if keep is not None:
        root = keep.absolute()
        list(write_project(root, force=False))
        return _run_in(invocation, root, is_kept=True)
    with TemporaryDirectory(prefix="nuvom-demo-", ignore_cleanup_errors=True) as folder:
        return _run_in(invocation, Path(folder).resolve(), is_kept=False)


def _run_in(invocation: Invocation, root: Path, *, is_kept: bool) -> int:
    # Neither the environment nor a file may turn the tour into something else.
    runtime = build_runtime(load(root, overrides={"task_import": "lazy"}, environ={}))
    before = use_runtime(runtime)
    worker = Worker(runtime, threads=4)
    started = runtime.clock.monotonic()
    try:
        worker.start()
        try:
            expected, snapshots = _tour(invocation, runtime)
        finally:
            worker.stop()
            worker.join()
    finally:
        runtime.stop()
        use_runtime(before)
    secs = runtime.clock.monotonic() - started
    return _report(invocation, expected, snapshots, secs=secs, kept=root if is_kept else None)


def _tour(invocation: Invocation, runtime: Runtime) -> tuple[list[Expected], list[JobSnapshot]]:
    expected = enqueue()
    snapshots: list[JobSnapshot] = []
    with view_for(invocation.out) as view:
        for snapshots in watch(runtime, expected, limit_secs=_LIMIT_SECS):  # the last ones count
            view.show(snapshots, runtime.clock.now())
    return expected, snapshots


def _report(
    invocation: Invocation,
    expected: list[Expected],
    snapshots: list[JobSnapshot],
    *,
    secs: float,
    kept: Path | None,
) -> int:
    pairs = list(zip(expected, snapshots, strict=True))
    wrong = [(one, snapshot) for one, snapshot in pairs if not one.is_met_by(snapshot)]
    out = invocation.out
    if out.as_json:
        jobs = [_job_data(one, snapshot) for one, snapshot in pairs]
        data = {"ok": not wrong, "secs": round(secs, 3), "folder": kept, "jobs": jobs}
        out.json(SCHEMA, data)
        return exit_codes.FAILED if wrong else exit_codes.OK
    for one, snapshot in wrong:
        out.error([("Error", f"{one.task} ended {snapshot.status}, expected {one.status}")])
    if not wrong:
        out.text(f"\n{plural(len(pairs), 'job')} ended as they should, in {duration(secs)}.")
    _show_recipe(invocation, kept)
    return exit_codes.FAILED if wrong else exit_codes.OK


def _job_data(one: Expected, snapshot: JobSnapshot) -> dict[str, Any]:
    return {
        "id": one.job_id,
        "func_name": one.task,
        "status": str(snapshot.status),
        "expected": str(one.status),
        "attempt": snapshot.record.attempt,
        "ok": one.is_met_by(snapshot),
        "error": error_data(snapshot.error),
    }


def _show_recipe(invocation: Invocation, kept: Path | None) -> None:
    out = invocation.out
    if out.quiet:
        return
    out.text("\nNow yours:")
    steps = [*_RECIPE]
    if kept is not None:
        steps[0] = (f"cd {quoted(kept)}", "your project, with the jobs of this tour")
    wide = max(len(command) for command, _ in steps)
    for command, meaning in steps:
        padded = out.out.paint(command.ljust(wide), "bold")
        out.lines([f"  {padded}  {out.out.paint(meaning, 'dim')}"])
