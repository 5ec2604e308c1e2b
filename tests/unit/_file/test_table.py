"""The table and its lines: what entries amount to, whatever their order."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from nuvom._file.frames import CHANGES, JOB, NOTE, REMOVED
from nuvom._file.line import Line, first
from nuvom._file.rows import Change, Commanded, Progressed, Retired, encode
from nuvom._file.table import Table
from nuvom.core.record import JobStatus
from nuvom.testing.builders import make_job

if TYPE_CHECKING:
    from nuvom._file.rows import Row

S = JobStatus


class Feed:
    """A table fed with entries at rising places."""

    def __init__(self) -> None:
        self.table = Table()
        self.at = 0

    def __call__(self, kind: int, body: Any) -> None:
        self.at += 1000
        self.table.apply((kind, 0, self.at, body if isinstance(body, bytes) else encode(body)))

    def job(self, job_id: str, **fields: Any) -> Row:
        self(JOB, make_job("shop.send", id=job_id, **fields).encode())
        return self.table.rows[job_id]


def test_a_line_gives_jobs_by_key_and_then_by_age() -> None:
    feed, rng = Feed(), Random(1)
    rows = [feed.job(f"j{number}") for number in range(200)]
    line = Line()
    keys = {row.id: rng.randint(0, 5) for row in rows}
    for row in rng.sample(rows, len(rows)):
        line.put(keys[row.id], row)
    gone = set(rng.sample(range(200), 50))
    for number in gone:
        rows[number].token += 10**6
    expected = sorted(
        (row for number, row in enumerate(rows) if number not in gone),
        key=lambda row: (keys[row.id], row.seq),
    )
    assert {row.id for row in line} == {row.id for row in expected}
    assert [row.id for row in first([line], 10**6)] == [row.id for row in expected]
    assert line.head() is None


def test_several_lines_are_served_as_if_one() -> None:
    feed, rng = Feed(), Random(2)
    lines = [Line() for _ in range(4)]
    entries = []
    for number in range(100):
        row = feed.job(f"j{number}")
        key = rng.randint(0, 3)
        entries.append((key, row.seq, row.id))
        rng.choice(lines).put(key, row)
    expected = [job_id for *_, job_id in sorted(entries)]
    taken = [row.id for _ in range(10) for row in first(lines, 10)]
    assert taken == expected
    assert first(lines, 10) == []
    assert first([], 10) == []


def test_a_job_enqueued_again_changes_nothing() -> None:
    feed = Feed()
    row = feed.job("a", priority=1)
    feed(CHANGES, [Change("a", S.RUNNING, 1, owner="w")])
    assert feed.job("a", priority=9) is row
    assert (row.priority, row.state.status) == (1, S.RUNNING)
    assert feed.table.queues["default"].counts[S.RUNNING] == 1


def test_entries_about_unknown_jobs_and_workers_are_passed_over() -> None:
    feed = Feed()
    feed(CHANGES, [Change("a", S.RUNNING, 1, owner="w")])
    feed(REMOVED, ["a"])
    feed(NOTE, Progressed("a", 1, (1.0, None, "")))
    feed(NOTE, Retired("w"))
    assert (feed.table.rows, feed.table.holders, feed.table.damaged) == ({}, {}, [])


def test_progress_of_an_earlier_delivery_is_passed_over() -> None:
    feed = Feed()
    row = feed.job("a")
    feed(CHANGES, [Change("a", S.RUNNING, 2, owner="w")])
    feed(NOTE, Progressed("a", 1, (1.0, None, "")))
    assert row.progress is None
    feed(NOTE, Progressed("a", 2, (2.0, None, "")))
    assert row.progress == (2.0, None, "")


def test_a_note_that_a_later_nuvom_added_is_set_aside_and_harmless() -> None:
    feed = Feed()
    feed(NOTE, ["newer", 1, 2])
    assert len(feed.table.damaged) == 1
    feed.job("a")


def test_a_worker_is_forgotten_with_its_last_job_unless_it_is_shown() -> None:
    feed = Feed()
    feed.job("a")
    feed(CHANGES, [Change("a", S.RUNNING, 1, owner="w")])
    feed(NOTE, Commanded("w", "quiet"))
    feed(NOTE, Retired("w"))
    assert feed.table.holders["w"].commands == []
    feed(CHANGES, [Change("a", S.PENDING, 1, owner="w")])
    assert feed.table.holders == {}


def test_counts_agree_with_the_jobs_after_any_history() -> None:
    feed, rng = Feed(), Random(3)
    for number in range(600):
        job_id = f"j{rng.randint(0, 30)}"
        what = rng.random()
        if what < 0.3:
            feed.job(job_id, queue=f"q{number % 3}", unique_key=f"k{number % 5}")
        elif what < 0.9:
            feed(CHANGES, [Change(job_id, rng.choice(list(S)), number, owner=f"w{number % 4}")])
        else:
            feed(REMOVED, [job_id])
    table = feed.table
    counted = {
        (queue.name, status): count
        for queue in table.queues.values()
        for status, count in queue.counts.items()
        if count
    }
    expected: dict[tuple[str, S], int] = {}
    for row in table.rows.values():
        key = (row.queue, row.state.status)
        expected[key] = expected.get(key, 0) + 1
    assert counted == expected
    held = {job_id for holder in table.holders.values() for job_id in holder.held}
    assert held == {one.id for one in table.rows.values() if one.state.status is S.RUNNING}
    assert set(table.parked) == {o.id for o in table.rows.values() if o.state.status is S.PARKED}
    assert table.live_bytes == sum(row.size + row.extra for row in table.rows.values())
    ready = table.pick(10**6, table.queues.values(), (), suspects=False)
    assert {row.id for row in ready} == {
        one.id for one in table.rows.values() if one.state.status is S.PENDING
    }
