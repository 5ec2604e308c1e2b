"""The pictures of README and docs: small, used, and of a store that has something of everything."""

from __future__ import annotations

from pathlib import Path

from nuvom.config.sources import load
from nuvom.core.record import JobStatus
from nuvom.core.views import ENDS
from nuvom.inspection import figures
from nuvom.inspection.inspector import Inspector
from nuvom.inspection.overview import attention
from nuvom.runtime import build_runtime
from tests.docs.snippets import ROOT
from tools.screenshots import FOLDER, MOST_BYTES, PICTURES
from tools.showcase.store import showcase


def test_no_picture_is_large_and_each_is_made_by_the_tool() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sizes.keys() == {"top.svg", *(f"dashboard-{one.name}.png" for one in PICTURES)}
    assert max(sizes.values()) <= MOST_BYTES


def test_the_picture_of_the_terminal_loads_nothing() -> None:
    text = (ROOT / "docs" / "images" / "top.svg").read_text(encoding="utf-8")
    assert "url(http" not in text
    assert "@import" not in text


def test_the_shop_has_something_of_everything(tmp_path: Path) -> None:
    with showcase(tmp_path / "shop", per_day=200) as shop:
        runtime = build_runtime(load(shop.settings.root), clock=shop.clock)
        try:
            seen, now = Inspector(runtime), shop.clock.now()
            assert all(count.n for count in seen.status_counts().values())
            assert seen.status_counts().keys() == set(JobStatus)
            kinds = {check.kind for check in attention(runtime, seen)}
            assert {"silent", "paused", "dead", "parked", "slow"} <= kinds
            week = seen.history(now - 7 * figures.DAY, now, figures.DAY)
            assert {one.kind for one in week} >= {*ENDS, "retried", "waited"}
            assert len({one.at for one in week}) >= 7
            job = seen.snapshot(shop.job)
            assert job.status is JobStatus.FAILED
            assert len(seen.attempts(shop.job)) == 4
            assert seen.links(job).retried_by
            assert max(seen.error_groups(), key=lambda one: one.count).fingerprint == shop.group
        finally:
            runtime.stop()
