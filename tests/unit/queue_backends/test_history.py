"""What is beyond the kit's laws of roll-ups and audit entries: limits, and that all ways agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuvom.core.totals import RollupSums, rollups_of
from nuvom.core.transitions import settled
from nuvom.core.views import ROLLUP_BOUNDS, AuditEntry
from nuvom.testing.builders import make_job, make_settlement
from tests.unit.queue_backends.any_store import opening

NOW = 1_800_000_000.0
WHERE_THE_LIMIT_IS = {
    "memory": "nuvom.queue_backends.table",
    "sqlite": "nuvom.queue_backends.sqlite.totals",
    "postgres": "nuvom.contrib.postgres.queue",
    "redis": "nuvom.contrib.redis.queue",
}


@pytest.mark.parametrize("kind", WHERE_THE_LIMIT_IS)
def test_the_newest_audit_entries_are_kept(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind in ("postgres", "redis"):
        pytest.importorskip({"postgres": "psycopg"}.get(kind, kind))
    with opening(tmp_path) as make:
        queue = make(kind)
        monkeypatch.setattr(f"{WHERE_THE_LIMIT_IS[kind]}.AUDIT_KEPT", 3)
        ids = [f"id-{number}" for number in range(5)]
        entries = [AuditEntry(id=one, at=NOW, actor="ann", action="retry") for one in ids]
        for one in entries:
            queue.record_audit(one)
        assert queue.audit() == entries[:1:-1]


def test_a_file_store_has_its_history_again_after_a_restart(tmp_path: Path) -> None:
    with opening(tmp_path) as make:
        queue = make("file")
        queue.enqueue(make_job())
        (job,) = queue.claim(1, "worker")
        queue.settle([make_settlement(job, started_at=NOW, finished_at=NOW + 1)])
        queue.record_audit(AuditEntry(id="a", at=NOW, actor="ann", action="retry"))
        before = queue.rollups(0.0, NOW + 60, 60)
        queue.stop()
        queue.settle([make_settlement(job, started_at=NOW, finished_at=NOW + 1)])
        assert queue.rollups(0.0, NOW + 60, 60) == before != []
        assert [one.id for one in queue.audit()] == ["a"]


def test_the_short_way_counts_as_a_change_does() -> None:
    """``succeeded`` takes runs of jobs together; ``changed`` looks at each."""
    successes = []
    for number, took in enumerate((0.0, 0.001, 0.005, 0.0051, 7200.0, -1.0, *ROLLUP_BOUNDS)):
        for waited in (0.0, 3.0, 90_000.0, -2.0):
            began = NOW + 17.0 * number
            job = make_job(
                f"tests.task{number % 3}",
                queue=f"q{number % 2}",
                created_at=began - waited - (5.0 if number % 4 == 0 else 0.0),
                run_at=began - waited if number % 4 == 0 else 0.0,
            )
            successes.append(make_settlement(job, started_at=began, finished_at=began + took))
            successes.append(make_settlement(job, started_at=0.0, finished_at=began + took))
    one_by_one = RollupSums()
    for one in successes:
        one_by_one.changed(settled(one, NOW))
    together = rollups_of(successes)
    assert together.sums.keys() == one_by_one.sums.keys()
    for key, (count, secs) in together.sums.items():
        other_count, other_secs = one_by_one.sums[key]
        assert count == other_count, key
        assert secs == pytest.approx(other_secs), key
