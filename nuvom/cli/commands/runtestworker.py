"""``nuvom runtestworker run FILE``: runs one job from a JSON file, without storing it."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from nuvom.cli.context import Group, Invocation
from nuvom.cli.project import folder_or_root
from nuvom.cli.tables import code_of, failure_text
from nuvom.config.sources import load
from nuvom.core.options import NO_CALL_OPTIONS, call_options
from nuvom.discovery.auto_register import add_import_roots, loader_for
from nuvom.discovery.importer import is_interrupt
from nuvom.discovery.scan import Hints, scan
from nuvom.errors import TaskImportFailed
from nuvom.inspection.inspector import Inspector
from nuvom.inspection.views import error_data, value_text
from nuvom.job import wait_for_final
from nuvom.runtime import Runtime, build_runtime, use_runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from nuvom.core.record import JobSnapshot
    from nuvom.errors import NuvomError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_IN_MEMORY = {"queue_backend": "memory", "result_backend": "memory"}


class Described(msgspec.Struct, forbid_unknown_fields=True):
    """A job as described in a file."""

    func_name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    timeout_secs: float | None = None
    retries: int | None = None


@click.group(cls=Group, default="run")
def runtestworker() -> None:
    """Run one job from a file, without a store; made for tests of tasks in CI."""


@runtestworker.command()
@click.argument("file", type=_FILE, required=False)
@click.option("--input", "given", type=_FILE, metavar="FILE", help="Same as FILE.")
@click.option(
    "--task-module",
    type=_FILE,
    metavar="FILE",
    help="A Python file that defines the task; default: the project's tasks.",
)
def run(
    invocation: Invocation, file: Path | None, given: Path | None, task_module: Path | None
) -> int:
    """Run the job that FILE describes; print what it returns, or exit 1 if it fails.

    FILE is JSON: {"func_name": "tasks.add", "args": [2, 3], "kwargs": {}, "timeout_secs": 5,
    "retries": 0}. Everything but func_name is optional. Timeouts, retries and hooks work as in
    a worker; nothing is stored.
    """
    chosen = given if file is None else file
    if chosen is None or (file is not None and given is not None):
        raise click.UsageError("Name the job's file once: as FILE, or with --input.")
    try:
        described = msgspec.json.decode(chosen.read_bytes(), type=Described)
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise click.UsageError(f"{chosen} does not describe a job: {error}") from None
    root = folder_or_root(invocation)
    runtime = build_runtime(load(root, overrides=_IN_MEMORY))
    use_runtime(runtime)
    hints = Hints.of(runtime.settings)
    if task_module is None:
        found = scan(root, hints=hints, use_cache=False)
        add_import_roots(root, hints.source_roots or found.guessed_roots)
        tasks = [task for task in found.tasks if task.importable]
        runtime.registry.add_manifest(tasks, loader_for(root))
    else:
        add_import_roots(root, hints.source_roots)
        module = task_module.stem

        def failure(error: BaseException) -> TaskImportFailed:
            return TaskImportFailed("*", module, f"{type(error).__name__}: {error}")

        import_file(task_module, failure)
    snapshot = _run(runtime, described)
    return _show(invocation, Inspector(runtime).shown_result(snapshot), snapshot)


def _run(runtime: Runtime, job: Described) -> JobSnapshot:
    definition = runtime.registry.resolve(runtime.registry.find(job.func_name))
    given = {"timeout_secs": job.timeout_secs, "retries": job.retries}
    options = {name: value for name, value in given.items() if value is not None}
    record, _ = runtime.dispatcher.dispatch(
        definition, job.args, job.kwargs, call_options(NO_CALL_OPTIONS, options)
    )
    worker = import_module("nuvom.worker").Worker(runtime, threads=1)  # heavy, not for help
    worker.start()
    try:
        return wait_for_final(runtime, record.id, None)
    finally:
        worker.stop()
        worker.join()


def _show(invocation: Invocation, value: Any, snapshot: JobSnapshot) -> int:  # noqa: ANN401  # a result
    out, code = invocation.out, code_of(snapshot)
    error = error_data(snapshot.error, traceback=True)
    if out.as_json or error is None:
        data = {
            "func_name": snapshot.record.func_name,
            "status": str(snapshot.status),
            "attempt": snapshot.record.attempt,
            "result": value,
            "error": error,
        }
        out.answer("nuvom.test_run/1", data, value_text(value))
    else:
        out.error(failure_text(snapshot)[0])
        out.say(error["traceback"] or "")
    return code


def import_file(path: Path, failure: Callable[[BaseException], NuvomError]) -> ModuleType:
    """Import a file that the user named, under its bare name; return the module.

    Args:
        failure: Creates the error to raise from whatever the file raises.

    Raises: what ``failure`` returns; click.UsageError: it is not a Python file.
    """
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{path} is not a Python file.")
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # user code: report whatever it raises
        if is_interrupt(error):
            raise
        raise failure(error) from error
    return module
