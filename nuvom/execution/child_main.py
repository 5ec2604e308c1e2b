"""The program that a child of the process lane is: it puts the parts together, as a worker does.

Started by ``nuvom/execution/child_process.py`` with two pipes as standard input and output.
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
from typing import TYPE_CHECKING, ClassVar, NoReturn

from msgspec.structs import replace

from nuvom.config.settings import Settings
from nuvom.config.sources import Loaded
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import BackendUnavailable, NuvomError
from nuvom.events import EventBus, default_bus
from nuvom.execution.child import Child
from nuvom.execution.framing import Hello, Link, ToChild
from nuvom.execution.job_runner import JobRunner
from nuvom.host import processes as platforms
from nuvom.log import configure_logging
from nuvom.plugins.loader import import_object
from nuvom.plugins.registry import BackendKind, default_plugin_registry
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.result_backends.base import BaseResultBackend
from nuvom.runtime import Runtime, build_runtime, use_runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.core.middleware import Companion

_ELSEWHERE = "in-the-worker"
_STDERR = 2


def main() -> None:
    """Be a child of the process whose id is the first argument, until it needs none."""
    platforms.end_with_parent(int(sys.argv[1]))
    link = take_pipes()
    hello = link.receive()
    if not isinstance(hello, Hello):
        return  # the worker has changed its mind, or is gone
    if sys.stderr is not None:
        faulthandler.enable()  # shows where C code crashed; the worker can only tell that it did
    settings = Settings.from_dict(hello.settings)
    if hello.log_level is not None:
        configure_logging(hello.log_level, settings.log_format, worker=hello.worker)
    runtime = make_runtime(settings)
    use_runtime(runtime)
    make_child(link, runtime, hello.worker, load_companions(hello.companions)).serve()


def take_pipes() -> Link:
    """Return the link to the worker, and leave standard streams that user code may use freely.

    Standard input is empty from here on, and what is printed goes where the worker's standard
    error goes.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == _STDERR:  # the worker has none, and the pipes must not become it
        os.set_inheritable(_STDERR, True)
        nowhere = os.dup(nowhere)
    source, sink = os.dup(0), os.dup(1)
    os.dup2(nowhere, 0)
    os.dup2(_STDERR, 1)
    os.close(nowhere)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a TextIOWrapper at the start
    return Link(os.fdopen(source, "rb", 0), os.fdopen(sink, "wb", 0), ToChild)


def load_companions(targets: Sequence[str]) -> list[Companion]:
    """Return what goes along with jobs here; without what cannot be had, which is reported."""
    found = []
    for target in targets:
        try:
            found.append(import_object(target)())
        except Exception as error:  # noqa: BLE001  # a plugin's code: its part is left out
            default_bus.report(target, error)
    return found


def make_child(
    link: Link, runtime: Runtime, worker: str, companions: Sequence[Companion] = ()
) -> Child:
    """Return the child that runs tasks with the parts of ``runtime``."""
    # Of its own: subscribers in the worker hear of an attempt from the worker.
    bus = EventBus()
    for one in companions:
        bus.accompany(one)  # of what runs
        runtime.bus.accompany(one)  # of what the tasks send
    runner = JobRunner(
        runtime.registry,
        runtime.codec,
        runtime.settings,
        bus=bus,
        clock=runtime.clock,
        rng=random.Random(),  # noqa: S311  # only spreads retries
        mark_started=lambda _: None,
    )
    return Child(
        link,
        runner,
        runtime.registry,
        worker=worker,
        bus=bus,
        clock=SYSTEM_CLOCK,
        make_record=runtime.dispatcher.make_child,
    )


# ---- what a task may use --------------------------------------------------------------


def make_runtime(settings: Settings) -> Runtime:
    """Return a runtime like the worker's, for tasks that call ``.delay()`` and the like.

    A store that lives in the worker's memory, or that only the worker knows of, cannot be had:
    then whatever needs it raises BackendUnavailable, and tasks that need none run.
    """
    here = {
        kind.setting: _ELSEWHERE
        for kind in (BackendKind.QUEUE, BackendKind.RESULT)
        if getattr(settings, kind.setting) == "memory"
    }
    registry = default_plugin_registry()
    registry.register(BackendKind.QUEUE, _ELSEWHERE, QueueElsewhere)
    registry.register(BackendKind.RESULT, _ELSEWHERE, ResultsElsewhere)
    try:
        return build_runtime(Loaded(replace(settings, **here), {}, []))
    except NuvomError:  # a backend that was registered by the worker's own program, for one
        both = {"queue_backend": _ELSEWHERE, "result_backend": _ELSEWHERE}
        return build_runtime(Loaded(replace(settings, **both), {}, []))


def _refuse(*_args: object, **_kwargs: object) -> NoReturn:
    raise BackendUnavailable(
        "of this worker",
        "only the worker's own process has it, and this is a child of the process lane",
        "Use current_job().enqueue(), isolation='thread', or a store in a file or on a server.",
    )


class QueueElsewhere(BaseJobQueue):
    """Stands for a queue that this process cannot reach; refuses everything."""

    name: ClassVar[str] = _ELSEWHERE
    enqueue = dequeue = pop_batch = qsize = clear = _refuse


class ResultsElsewhere(BaseResultBackend):
    """Stands for results that this process cannot reach; refuses everything."""

    name: ClassVar[str] = _ELSEWHERE
    set_result = get_result = set_error = get_error = get_full = list_jobs = _refuse
