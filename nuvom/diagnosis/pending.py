"""Whether jobs that wait still fit the tasks of today: ``nuvom doctor --pending``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.diagnosis.findings import Finding, fail, failed, ok
from nuvom.discovery.scan import scan
from nuvom.discovery.stub import definition_of
from nuvom.errors import InvalidArguments, NuvomError, PayloadError, plural
from nuvom.inspection import Inspector
from nuvom.registry.signature import Binder
from nuvom.runtime import build_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nuvom.config.sources import Loaded
    from nuvom.core.record import JobRecord
    from nuvom.serialization.base import Codec

_WAITING = (JobStatus.PENDING, JobStatus.PARKED)


def pending_findings(loaded: Loaded) -> Iterator[Finding]:
    """Yield the tasks whose waiting jobs could not be called, with an example of each."""
    tasks = scan(loaded.settings.root, use_cache=loaded.settings.state_dir.is_dir()).tasks
    binders = {task.name: Binder(task.name, definition_of(task).func) for task in tasks}
    try:
        runtime = build_runtime(loaded, allow_project_plugins=False)
    except NuvomError as error:
        yield failed("pending", error)
        return
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    total = 0
    try:
        for snapshot in Inspector(runtime).pages(statuses=_WAITING):
            total += 1
            reason = _misfit(snapshot.record, binders, runtime.codec)
            if reason:
                key = (snapshot.record.func_name, reason)
                counts[key] += 1
                examples.setdefault(key, snapshot.record.id)
    finally:
        runtime.stop()
    for (task, reason), count in counts.items():
        example = examples[task, reason]
        text = f"{plural(count, 'waiting job')} of {task} cannot run: {reason} (such as {example})"
        fix = f"Change the task, or the job: nuvom retry job {example[-8:]} --edit; or cancel it."
        yield fail("pending", text, fix)
    if not counts:
        fit = "fits its task" if total == 1 else "fit their tasks"
        yield ok("pending", f"{plural(total, 'waiting job')} {fit}")


def _misfit(record: JobRecord, binders: Mapping[str, Binder], codec: Codec) -> str:
    """Return why a job's call would fail before the task's first line, or nothing."""
    binder = binders.get(record.func_name)
    if binder is None:
        return "the code has no such task"
    try:
        args, kwargs = codec.decode_call(record.args, record.kwargs, shaped=True)
        binder.check(args, kwargs)
    except InvalidArguments as error:
        return str(error.reason)
    except PayloadError as error:
        return str(error.reason)
    return ""
