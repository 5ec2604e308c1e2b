"""Runs one job from a JSON file in this process, on a store in memory that ends with it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli.awaiting import code_of, failure_text, value_text
from nuvom.cli.session import folder_or_root
from nuvom.cli.shapes import error_data
from nuvom.cli.user_files import import_file
from nuvom.config.sources import load
from nuvom.core.options import NO_CALL_OPTIONS, call_options
from nuvom.discovery.auto_register import add_import_roots, loader_for
from nuvom.discovery.scan import scan
from nuvom.errors import TaskImportFailed
from nuvom.inspection import Inspector
from nuvom.job import wait_for_final
from nuvom.runtime import Runtime, build_runtime, use_runtime
from nuvom.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.cli.invocation import Invocation
    from nuvom.core.record import JobSnapshot

SCHEMA = "nuvom.test_run/1"
_IN_MEMORY = {"queue_backend": "memory", "result_backend": "memory"}
_FORMS: dict[str, tuple[type, ...]] = {
    "func_name": (str,),
    "args": (list,),
    "kwargs": (dict,),
    "timeout_secs": (int, float, type(None)),
    "retries": (int,),
}


def run_file(invocation: Invocation, file: Path, task_module: Path | None) -> int:
    """Run the job; return 0 where it succeeds, else 1.

    Raises: click.UsageError: the file does not describe a job. TaskNotFound, TaskImportFailed,
        InvalidArguments, NotStorable.
    """
    described = _read(file)
    root = folder_or_root(invocation)
    runtime = build_runtime(load(root, overrides=_IN_MEMORY))
    use_runtime(runtime)
    add_import_roots(root)
    if task_module is None:
        tasks = [task for task in scan(root, use_cache=False).tasks if task.importable]
        runtime.registry.add_manifest(tasks, loader_for(root))
    else:
        import_file(task_module, partial(_import_failure, task_module.stem))
    snapshot = _run(runtime, described)
    return _show(invocation, Inspector(runtime), snapshot)


def _read(file: Path) -> dict[str, Any]:
    try:
        described = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise click.UsageError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(described, dict) or "func_name" not in described:
        raise click.UsageError(f'{file} must hold an object with "func_name".')
    for key, value in described.items():
        if key not in _FORMS:
            raise click.UsageError(f'{file}: "{key}" is not one of {", ".join(_FORMS)}.')
        if not isinstance(value, _FORMS[key]):
            raise click.UsageError(f'{file}: "{key}" has the wrong type.')
    return described


def _import_failure(module: str, error: BaseException) -> TaskImportFailed:
    return TaskImportFailed("*", module, f"{type(error).__name__}: {error}")


def _run(runtime: Runtime, described: dict[str, Any]) -> JobSnapshot:
    definition = runtime.registry.resolve(runtime.registry.find(described["func_name"]))
    options = {
        name: described[name]
        for name in ("timeout_secs", "retries")
        if described.get(name) is not None
    }
    record, _ = runtime.dispatcher.dispatch(
        definition,
        tuple(described.get("args", ())),
        described.get("kwargs", {}),
        call_options(NO_CALL_OPTIONS, options),
    )
    worker = Worker(runtime, threads=1)
    worker.start()
    try:
        return wait_for_final(runtime, record.id, None)
    finally:
        worker.stop()
        worker.join()


def _show(invocation: Invocation, inspector: Inspector, snapshot: JobSnapshot) -> int:
    out, code = invocation.out, code_of(snapshot)
    value = inspector.shown_result(snapshot)
    if out.as_json:
        out.json(
            SCHEMA,
            {
                "func_name": snapshot.record.func_name,
                "status": str(snapshot.status),
                "attempt": snapshot.record.attempt,
                "result": value,
                "error": error_data(snapshot.error, traceback=True),
            },
        )
    elif snapshot.error is None:
        out.text(value_text(value))
    else:
        error = error_data(snapshot.error, traceback=True)
        out.error([("Error", failure_text(snapshot)[0])])
        if error is not None and error["traceback"]:
            out.say(error["traceback"])
    return code
