"""A project with many stored jobs, as after months of work, to measure what reads them.

    python -m tests.lab.seeded PATH --jobs 1000000

makes a project folder with 23 tasks and fills its SQLite file directly, a million jobs in less
than a minute. ``fill`` does the same for a few jobs in any store, through its contract.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nuvom.config.settings import Settings
from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.ids import timed_id
from nuvom.core.outcome import Settlement
from nuvom.core.record import Attempt, JobRecord, JobStatus, StoredError
from nuvom.discovery.manifest import write_manifest
from nuvom.discovery.scan import scan
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.queue_backends.sqlite.queue import SQLiteJobQueue
from tests.lab.past import PastJob, write

DAY = 86_400.0
SPAN = 30 * DAY
GROUPS = 300
QUEUES = ("default", "mail", "billing", "images", "reports", "search")
TASKS = {
    "shop.mail": ("send_receipt", "send_newsletter", "remind", "unsubscribe"),
    "shop.billing": ("charge", "refund", "invoice_pdf", "close_month"),
    "shop.images": ("resize", "thumbnail", "remove_background", "to_avif"),
    "shop.reports": ("nightly", "stock", "sales_by_region", "export_csv"),
    "shop.search": ("reindex_product", "reindex_all", "suggest"),
    "shop.tasks": ("sync_inventory", "clean_carts", "warm_cache", "geocode"),
}
NAMES = [f"{module}.{name}" for module, names in TASKS.items() for name in names]
_SOURCE = '''
@task(queue="{queue}", retries=3)
def {name}(order_id: int, to: str = "", *, options: dict | None = None) -> int:
    """Do something for an order."""
    return order_id
'''
_ERRORS = ("TimeoutError", "ValueError", "KeyError", "ConnectionError", "OSError", "SMTPError")
_TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/{file}.py", line {line}, in {task}
    return step_{number}(order_id)
           ^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/shop/{file}.py", line {other}, in step_{number}
    raise {type}("order " + str(order_id))
{type}: {message}
"""
# How jobs are shared out; what is left over succeeded.
MIXED = {
    "FAILED": 0.02,
    "DEAD": 0.0003,
    "CANCELLED": 0.004,
    "PARKED": 0.0005,
    "scheduled": 0.01,
    "retrying": 0.004,
    "ready": 0.06,
}
MIXTURES = {"mixed": MIXED, "ready": {"ready": 1.0}}
_PAUSE = "INSERT OR IGNORE INTO queues (name, paused_by, paused_at) VALUES ('reports', 'ada', ?)"


def make_project(folder: Path) -> Settings:
    """Write a project with all tasks and their manifest; return its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\n\n[tool.nuvom]\n')
    (folder / "shop").mkdir(exist_ok=True)
    (folder / "shop" / "__init__.py").write_text("")
    for module, names in TASKS.items():
        text = "".join(_SOURCE.format(queue=_queue_of(module), name=name) for name in names)
        path = folder / f"{module.replace('.', '/')}.py"
        path.write_text(f"from nuvom import task\n{text}")
    settings = load(folder).settings
    found = scan(folder)
    write_manifest(settings.manifest_file, found.tasks, root=folder)
    return settings


def _queue_of(module: str) -> str:
    last = module.rpartition(".")[2]
    return last if last in QUEUES else "default"


def made(count: int, mixture: str = "mixed", *, now: float | None = None) -> Iterator[PastJob]:
    """Yield jobs of the past month, oldest first, equal for equal arguments."""
    now = SYSTEM_CLOCK.now() if now is None else now
    rng = random.Random(18)
    shares = MIXTURES[mixture]
    ends = [*shares, "SUCCESS"]
    bounds = [*itertools.accumulate(shares.values()), 1.0]
    workers = [timed_id(now - SPAN, f"{number:018x}") for number in range(4)]
    args = [msgspec.msgpack.encode([number, f"user{number}@example.com"]) for number in range(997)]
    options = msgspec.msgpack.encode({"options": {"locale": "nl_NL", "retry": True}})
    errors = [_error_of(number) for number in range(GROUPS)]
    for number in range(count):
        chance = rng.random()
        end = next(end for end, bound in zip(ends, bounds, strict=True) if chance <= bound)
        task = NAMES[min(int(rng.expovariate(0.25)), len(NAMES) - 1)]
        created_at = now - SPAN * (count - number) / count
        error = None
        if end in ("FAILED", "DEAD", "retrying"):
            task, error = errors[min(int(rng.expovariate(0.02)), GROUPS - 1)]
        record = JobRecord(
            timed_id(created_at, f"{rng.getrandbits(72):018x}"),
            task,
            msgspec.Raw(args[number % 997]),
            msgspec.Raw(options),
            queue=_queue_of(task.rpartition(".")[0]),
            priority=5 if number % 10 else 0,
            created_at=created_at,
            run_at=now + rng.random() * DAY if end in ("scheduled", "retrying") else 0.0,
            max_retries=3,
            tags=("weekly",) if number % 50 == 0 else (),
        )
        yield _past_job(record, end, error, number, workers[number % 4])


def _past_job(
    record: JobRecord, end: str, error: StoredError | None, number: int, worker: str
) -> PastJob:
    if end in ("ready", "scheduled"):
        return PastJob(record, end)
    ended_at = record.created_at + 3.0
    if end in ("CANCELLED", "PARKED"):
        return PastJob(record, end, finished_at=ended_at)
    past = []
    runs = {"FAILED": 4, "DEAD": 3, "retrying": 1 + number % 3}.get(end, 0)
    for one in range(1, runs + 1):
        outcome = "lost" if end == "DEAD" else "failure" if one == 4 else "retry"
        at = record.created_at + one * 0.5
        past.append(
            Attempt(
                number=one,
                outcome=outcome,
                lease_epoch=one,
                worker=worker,
                started_at=at,
                finished_at=at + 0.5,
                error=error,
            )
        )
    return PastJob(
        record,
        end,
        tuple(past),
        started_at=ended_at - number % 900 / 300,
        finished_at=ended_at,
        worker=worker,
        result=b"\x05" if end == "SUCCESS" else None,
        error=error,
    )


def _error_of(number: int) -> tuple[str, StoredError]:
    task = NAMES[number % len(NAMES)]
    kind = _ERRORS[number % len(_ERRORS)]
    file = task.rpartition(".")[0].replace(".", "/").removeprefix("shop/")
    text = _TRACEBACK.format(
        file=f"shop/{file}",
        line=number + 10,
        other=number + 40,
        task=task.rpartition(".")[2],
        number=number,
        type=kind,
        message=f"order {number}",
    )
    return task, StoredError(kind, f"order {number}", text, f"{number:012x}")


def fill_sqlite(settings: Settings, count: int, mixture: str = "mixed") -> None:
    """Write jobs into the project's file, which must be new."""
    queue = SQLiteJobQueue(settings)
    connection = queue.store.db.connect()
    try:
        queue.store.db.open()
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_PAUSE, (SYSTEM_CLOCK.now() - DAY,))
        write(connection, made(count, mixture))
    finally:
        connection.close()
        queue.stop()


def fill(queue: LeasedJobQueue, count: int, mixture: str = "mixed") -> None:
    """Store jobs through the contract, for any store; about ten thousand take seconds."""
    jobs = made(count, mixture)
    while chunk := list(itertools.islice(jobs, 500)):
        later = ("scheduled", "ready")
        over = {one.record.id: one for one in chunk if one.end not in later}
        queue.enqueue_many(one.record.replace(run_at=0.0) for one in over.values())
        while claimed := queue.claim(500, "seeded"):
            queue.settle([_settlement(one, over[one.id]) for one in claimed])
        queue.enqueue_many(one.record for one in chunk if one.end in later)


def _settlement(claimed: JobRecord, one: PastJob) -> Settlement:
    is_over = one.end != "retrying"
    return Settlement(
        claimed,
        JobStatus(one.end) if is_over else JobStatus.PENDING,
        result=b"\x05" if one.end == "SUCCESS" else None,
        started_at=one.record.created_at + 1.0,
        finished_at=one.record.created_at + 3.0,
        outcome="success" if one.end == "SUCCESS" else "failure" if is_over else "retry",
        error=one.error,
        run_at=0.0 if is_over else one.record.run_at,
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.seeded")
    parser.add_argument("path", type=Path, help="the project's folder; made if it is missing")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--mixture", choices=MIXTURES, default="mixed")
    given = parser.parse_args(arguments)
    began = SYSTEM_CLOCK.monotonic()
    settings = make_project(given.path)
    fill_sqlite(settings, given.jobs, given.mixture)
    took = SYSTEM_CLOCK.monotonic() - began
    print(f"{given.jobs:,} jobs in {settings.db_path} after {took:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
