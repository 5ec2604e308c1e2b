"""Processes that act on a store while a law watches, and that die on its command.

``KitChild`` is the parent's side. It runs ``python -m nuvom.testing.conformance.child TASK``, which
opens a queue, waits for ``go``, acts and reports. Both sides speak JSON, one value per line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from nuvom.core.views import WorkerInfo
from nuvom.testing.builders import make_job, make_settlement

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.queue_backends.base import BaseJobQueue
    from nuvom.queue_backends.leased import LeasedJobQueue


_PATIENCE_SECS = 60.0
_MODULE = "nuvom.testing.conformance.child"


class KitChild:
    """A child process. It prints ``"ready"`` when its queue is open, then waits for ``go``.

    Args:
        factory: Opens the queue; see ``QueueKit.process_factory``.
        action: A top-level function of a module, called with the queue and ``parameters``.
        parameters: Plain data for the action.
    """

    def __init__(
        self,
        factory: Callable[[], BaseJobQueue],
        action: Callable[..., None],
        parameters: dict[str, Any],
    ) -> None:
        task = {
            "factory": describe(factory),
            "action": [action.__module__, action.__name__],
            "parameters": parameters,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def hear(self, limit_secs: float = _PATIENCE_SECS) -> Any:
        """Return the next value that the child reports."""
        try:
            line = self._lines.get(timeout=limit_secs)
        except Empty:
            raise AssertionError(f"a process said nothing for {limit_secs:g} s") from None
        assert line is not None, f"a process ended with exit code {self._process.wait()}"
        return json.loads(line)

    def expect(self, said: object) -> None:
        """Wait for the child to report exactly this value."""
        heard = self.hear()
        assert heard == said, f"a process said {heard!r} instead of {said!r}"

    def go(self) -> None:
        """Tell the child to begin."""
        self.tell("go")

    def tell(self, line: str) -> None:
        """Send the child a line; its meaning is up to the action."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def start(self) -> None:
        """Wait until the child is ready and let it begin."""
        self.expect("ready")
        self.go()

    def rest(self) -> list[Any]:
        """Return everything that the child reports until it ends."""
        said = []
        while (line := self._lines.get(timeout=_PATIENCE_SECS)) is not None:
            said.append(json.loads(line))
        return said

    def kill(self) -> None:
        """Kill the child (SIGKILL) and wait for it to end. Safe to call twice."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None, "it is a pipe"
            with suppress(OSError):  # the last line did not reach the dead child
                stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        for line in self._process.stdout:
            if line.endswith("\n"):  # a killed process may leave half a line
                self._lines.put(line)
        self._lines.put(None)


def describe(factory: Callable[[], BaseJobQueue]) -> dict[str, Any]:
    """Return plain data from which another process can make the same call."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    if isinstance(factory, partial):
        args, kwargs, factory = list(factory.args), dict(factory.keywords), factory.func
    name = getattr(factory, "__qualname__", "<locals>")
    if not name.isidentifier():
        raise TypeError(
            f"process_factory returned {factory!r}: it has to be a function or class at the top "
            "level of a module, or functools.partial of one"
        )
    return {"module": factory.__module__, "name": name, "args": args, "kwargs": kwargs}


def main(task: str) -> None:
    """Run the task that ``KitChild`` described."""
    told = json.loads(task)
    queue = _open(told["factory"])
    say("ready")
    sys.stdin.readline()
    act = getattr(import_module(told["action"][0]), told["action"][1])
    act(queue, **told["parameters"])
    queue.stop()


def pop_all(queue: BaseJobQueue, batch: int, rounds: int) -> None:
    """Take jobs until nothing is left; report the id of each.

    Args:
        rounds: Number of batches after which something must be wrong.
    """
    for _ in range(rounds):
        jobs = queue.pop_batch(batch)
        if not jobs:
            return
        for job in jobs:
            say(job.id)


def hold(queue: LeasedJobQueue, owner: str, jobs: int, started: int) -> None:
    """Claim jobs, start the first few, report all ids, and stay until killed."""
    claimed = queue.claim(jobs, owner)
    for job in claimed[:started]:
        queue.mark_started(job)
    say([job.id for job in claimed])
    sys.stdin.read()


def stay(queue: LeasedJobQueue, owner: str) -> None:
    """Announce a worker, report its id, and stay until killed."""
    queue.announce(WorkerInfo(id=owner))
    say(owner)
    sys.stdin.read()


def settle_one(queue: LeasedJobQueue, owner: str) -> None:
    """Claim one job and settle it, report its id, and stay until killed."""
    (job,) = queue.claim(1, owner)
    queue.mark_started(job)
    accepted = queue.settle([make_settlement(job)])
    say([job.id, accepted])
    sys.stdin.read()


def produce(queue: BaseJobQueue, most: int) -> None:
    """Enqueue jobs one by one; report each id once it is accepted."""
    for _ in range(most):
        job = make_job()
        queue.enqueue(job)
        say(job.id)


def produce_bulks(queue: BaseJobQueue, most: int, size: int) -> None:
    """Enqueue jobs in bulk; report the number of jobs once a bulk is accepted."""
    for _ in range(most):
        queue.enqueue_many([make_job() for _ in range(size)])
        say(size)


def enqueue_unique(queue: BaseJobQueue, key: str) -> None:
    """Enqueue one job with a unique key; report its id and what ``enqueue`` returned."""
    job = make_job(unique_key=key)
    say([job.id, queue.enqueue(job)])


def _open(factory: dict[str, Any]) -> BaseJobQueue:
    made = getattr(import_module(factory["module"]), factory["name"])
    queue: BaseJobQueue = made(*factory["args"], **factory["kwargs"])
    queue.start()
    return queue


def say(value: object) -> None:
    """Report a value to the parent."""
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
