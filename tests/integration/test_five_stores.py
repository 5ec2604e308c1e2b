"""One program on five stores: nothing but settings differ, and all that it prints is equal.

Its tasks are those of the README and of the checksums example, as they stand there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.servers import (
    POSTGRES,
    REDIS,
    drop_prefixes,
    drop_schemas,
    need_postgres,
    need_redis,
    new_prefix,
    new_schema,
)

ROOT = Path(__file__).resolve().parents[2]
Settings = dict[str, str]

PROGRAM = '''\
"""Uses what a store has to do: order, keys, retries, failures, delays, results and a cancel."""

import dataclasses
import json
import sysconfig
from pathlib import Path

import nuvom
from nuvom.errors import JobFailed
from example import checksum, count
from more import flaky, since
from tasks import add

package = sorted(Path(sysconfig.get_path("stdlib"), "json").glob("*.py"))
cancelled = add.options(delay=3600).delay(1, 1)
assert cancelled.cancel()
keyed = [add.options(unique_key="one").delay(2, 3) for _ in range(2)]
late = add.options(priority=9).delay(0, 9)
early = add.options(priority=1).delay(0, 1)

with nuvom.local_worker(threads=1):
    told = {
        "sums": add.map([(one, 1) for one in range(700)]).get(timeout=60),
        "checksums": checksum.map([(str(path),) for path in package]).get(timeout=60),
        "counts": [
            dataclasses.asdict(one)
            for one in count.map([(str(path),) for path in package]).get(timeout=60)
        ],
        "since": since.delay().get(timeout=60),
        "flaky": flaky.delay("second").get(timeout=60),
        "keyed": [keyed[0].id == keyed[1].id, keyed[1].get(timeout=60)],
        "ordered": [early.get(timeout=60), late.get(timeout=60)],
        "cancelled": str(cancelled.status),
    }
    hopeless = flaky.delay("never")
    try:
        hopeless.get(timeout=60)
    except JobFailed as error:
        told["hopeless"] = [type(error).__name__, str(hopeless.status)]
    starts = [job.snapshot().started_at for job in (early, keyed[0], late)]
    told["in order"] = starts == sorted(starts)
    told["attempt"] = hopeless.snapshot().record.attempt

print(json.dumps(told))
'''

MORE = """\
import time

from nuvom import Job, current_job, task


@task(retries=1, retry_delay_secs=0)
def flaky(succeeds: str) -> int:
    attempt = current_job().attempt
    if succeeds == "never" or attempt == 1:
        raise ValueError("not yet")
    return attempt


@task
def since() -> bool:
    claimed_at = Job.load(current_job().id).snapshot().claimed_at
    return claimed_at is not None and abs(time.time() - claimed_at) < 60
"""


@contextmanager
def local() -> Iterator[Settings]:
    yield {}


@contextmanager
def on_postgres() -> Iterator[Settings]:
    need_postgres()
    schema = new_schema()
    yield {"postgres_dsn": POSTGRES, "postgres_schema": schema}
    drop_schemas(schema)


@contextmanager
def on_redis() -> Iterator[Settings]:
    need_redis()
    prefix = new_prefix()
    yield {"redis_url": REDIS, "redis_prefix": prefix}
    drop_prefixes(prefix)


STORES: dict[str, Callable[[], Any]] = {
    "memory": local,
    "file": local,
    "sqlite": local,
    "postgres": on_postgres,
    "redis": on_redis,
}


def run(folder: Path, settings: Settings) -> dict[str, Any]:
    """Run the program in a project with these settings; return what it prints."""
    folder.mkdir()
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    (folder / "nuvom.toml").write_text("".join(lines), encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n# tasks\.py\n(.*?)```", readme, re.DOTALL)
    (folder / "tasks.py").write_text(snippet, encoding="utf-8")
    shutil.copy(ROOT / "examples" / "checksums" / "tasks.py", folder / "example.py")
    (folder / "more.py").write_text(MORE, encoding="utf-8")
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def by_memory(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    chosen = {"queue_backend": "memory", "result_backend": "memory"}
    return run(tmp_path_factory.mktemp("memory") / "project", chosen)


def test_the_program_does_what_it_says(by_memory: dict[str, Any]) -> None:
    assert by_memory["sums"] == list(range(1, 701))
    assert all(len(one) == 64 for one in by_memory["checksums"])
    assert by_memory["counts"][0].keys() == {"lines", "words", "functions"}
    rest = {name: by_memory[name] for name in by_memory.keys() - {"sums", "checksums", "counts"}}
    assert rest == {
        "flaky": 2,
        "keyed": [True, 5],
        "ordered": [1, 9],
        "cancelled": "CANCELLED",
        "hopeless": ["JobFailed", "FAILED"],
        "in order": True,
        "attempt": 2,
        "since": True,
    }


@pytest.mark.parametrize("backend", [name for name in STORES if name != "memory"])
def test_the_program_prints_the_same_on_every_store(
    tmp_path: Path, by_memory: dict[str, Any], backend: str
) -> None:
    chosen = {"queue_backend": backend, "result_backend": backend}
    with STORES[backend]() as place:
        assert run(tmp_path / "project", {**chosen, **place}) == by_memory
