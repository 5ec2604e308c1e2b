"""How a child of the process lane puts itself together."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobRecord
from nuvom.errors import BackendUnavailable
from nuvom.execution.child import QueueElsewhere, ResultsElsewhere, make_runtime
from nuvom.execution.frames import Hello, ProgressKept, Ready
from nuvom.plugins.registry import PluginRegistry, use_plugin_registry
from tests.unit.execution.test_frames import pair

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_stand_ins() -> Iterator[None]:
    """Leave no backend of a child registered in this process."""
    before = use_plugin_registry(PluginRegistry())
    yield
    use_plugin_registry(before)


@pytest.mark.parametrize(
    ("backend", "is_reachable"), [("memory", False), ("sqlite", True), ("no-such", False)]
)
def test_store_is_the_workers_where_another_process_can_have_it(
    project: Path, backend: str, *, is_reachable: bool
) -> None:
    settings = Settings(root=project, queue_backend=backend, result_backend=backend)
    runtime = make_runtime(settings)
    assert is_reachable != isinstance(runtime.queue, QueueElsewhere)
    assert is_reachable != isinstance(runtime.results, ResultsElsewhere)


def test_store_that_cannot_be_had_says_so(project: Path) -> None:
    runtime = make_runtime(Settings(root=project, queue_backend="memory", result_backend="memory"))
    for use in (runtime.queue.qsize, runtime.results.list_jobs):
        with pytest.raises(BackendUnavailable, match="only the worker's own process has it"):
            use()
    with pytest.raises(BackendUnavailable):
        runtime.queue.enqueue(JobRecord("id", "tasks.f"))


# ---- the program ----------------------------------------------------------------------

START = "from nuvom.execution.child import main; main()"


def start(*, more: str = "") -> subprocess.Popen[bytes]:
    command = shlex.join([sys.executable, "-c", START, str(os.getpid())])
    return subprocess.Popen(
        ["sh", "-c", f"exec {command} {more}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        bufsize=0,
    )


def frames(*sent: Hello | ProgressKept) -> bytes:
    """Return frames as they go through a pipe."""
    worker, child = pair()
    for frame in sent:
        worker.send(frame)
    worker.close_sink()
    data = child._source.read()
    for link in (worker, child):
        link.drop_in_child()
    return bytes(data)


posix = pytest.mark.skipif(sys.platform == "win32", reason="it uses a POSIX shell")


@posix
def test_child_that_is_not_greeted_ends() -> None:
    for data in (b"", frames(ProgressKept(1, is_ours=True))):
        child = start()
        assert (b"", b"") == child.communicate(data, timeout=60)
        assert 0 == child.returncode


@posix
@pytest.mark.parametrize("more", ["", "2>&-"])
@pytest.mark.parametrize("log_level", [None, 20])
def test_child_comes_up_with_and_without_a_standard_error(
    project: Path, more: str, log_level: int | None
) -> None:
    hello = Hello(Settings(root=project).to_dict(), "worker", log_level)
    child = start(more=more)
    out, err = child.communicate(frames(hello), timeout=60)
    assert Ready.__name__.lower().encode() in out
    assert b"" == err
    assert 0 == child.returncode
