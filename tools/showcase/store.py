"""Puts the shop into a project's SQLite file, and keeps its workers alive."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from nuvom.queue_backends.sqlite.queue import SQLiteJobQueue
from tests.lab.past import PastJob, add_history, write
from tools.showcase import history, present
from tools.showcase.failures import FAULTS
from tools.showcase.shop import make_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from nuvom.config.settings import Settings

SEED = 20
_BEAT_SECS = 1.0


class Showcase(NamedTuple):
    """The shop, with all its workers alive but one.

    Attributes:
        clock: Stands at the moment that all of it was made for.
        job: Id of the job that is worth a look.
        group: Fingerprint of the largest group of failures.
    """

    settings: Settings
    clock: present.StillClock
    job: str
    group: str


@contextmanager
def showcase(
    folder: Path, *, per_day: int = history.PER_DAY, seed: int = SEED
) -> Iterator[Showcase]:
    """Make the project in a new folder, fill its store, and keep its workers alive meanwhile.

    Args:
        per_day: About how many jobs succeed in a day.
    """
    settings = make_project(folder)
    clock, rng = present.StillClock(), Random(seed)  # noqa: S311  # nothing here is a secret
    now = clock.now()
    ids = present.worker_ids(rng, now)
    shop = history.Shop(settings.root, rng, now, _served(ids))
    queue = SQLiteJobQueue(settings, clock=clock)
    planned = present.planned(shop)
    try:
        queue.store.db.open()
        connection = queue.store.db.connect()
        try:
            connection.execute("PRAGMA synchronous = OFF")
            _write_past(connection, shop, planned, per_day)
            _announce(queue, clock, shop, ids)
            present.start_jobs(queue, clock, shop, ids)
            write(connection, sorted(present.waiting(shop), key=_age))
            write(connection, [one for one in planned.jobs if one.end == "ready"])
        finally:
            connection.close()
        queue.schedules().apply(planned.changes)
        for entry in present.audit(shop):
            queue.record_audit(entry)
        clock.ago = 2 * history.HOUR + 4 * history.MINUTE
        queue.pause("reports", "maria")
        clock.ago = 0.0
        group = FAULTS[0].error(settings.root, {"key": ""}).fingerprint or ""
        with _beating(settings, ids):
            yield Showcase(settings, clock, planned.shown.record.id, group)
    finally:
        queue.stop()


def _served(ids: list[str]) -> dict[str, tuple[str, ...]]:
    """Return which workers serve each queue, and the silent one, which did until a moment ago."""
    names = ("billing", "default", "images", "mail", "reports", "search")
    served = {
        name: tuple(
            worker
            for worker, post in zip(ids, present.POSTS, strict=True)
            if (name in post.queues or not post.queues) and not post.silent_secs
        )
        for name in names
    }
    newest = ids[present.IMAGES]
    served["images"] = (newest, *(one for one in served["images"] if one != newest))
    return {**served, "silent": (ids[present.LOST],)}


def _write_past(
    connection: sqlite3.Connection, shop: history.Shop, planned: present.Planned, per_day: int
) -> None:
    runs = list(history.runs(shop, per_day))
    add_history(connection, history.rollups_of(runs, shop))
    ended = [one for one in planned.jobs if one.end != "ready"]
    past = [*history.successes(shop, runs), *history.failures(shop), *ended]
    past += [*present.cancelled(shop), *present.relatives(shop)]
    write(connection, sorted(past, key=_age))


def _age(one: PastJob) -> float:
    return one.record.created_at


def _announce(
    queue: SQLiteJobQueue, clock: present.StillClock, shop: history.Shop, ids: list[str]
) -> None:
    for info, silent_secs in present.announced(queue.store.settings, ids, shop.now):
        clock.ago = silent_secs
        queue.announce(info)
        clock.ago = 0.0


@contextmanager
def _beating(settings: Settings, ids: list[str]) -> Iterator[None]:
    """Renew the leases of all workers but the silent one, from a thread."""
    stop, queue = threading.Event(), SQLiteJobQueue(settings)
    alive = [one for place, one in enumerate(ids) if place != present.LOST]

    def beat() -> None:
        while True:
            for one in alive:
                queue.extend(one)
            if stop.wait(_BEAT_SECS):
                return

    thread = threading.Thread(target=beat, name="beats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        queue.stop()
