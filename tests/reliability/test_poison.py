"""R18: jobs that kill, raise or return what they should not.

Each ends after exactly as many starts as its limit says, every neighbour gets done, and the
worker's slots are all there afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.inspection import Inspector
from tests.engine import LIMIT_SECS
from tests.reliability import poison, tasks
from tests.reliability.site import Crew, Site, unfinished, wait_for

MAX_DELIVERIES = 3
SLOTS = 4


def tend(site: Site, crew: Crew, is_over: Callable[[], bool]) -> int:
    """Start a worker for each one that dies, until it is over; return how many died."""
    deaths = 0

    def is_over_now() -> bool:
        nonlocal deaths
        for pid, member in list(crew.members.items()):
            if not member.is_running:
                member.close()
                site.log.write("kill", pid=pid)
                del crew.members[pid]
                deaths += 1
                crew.hire()
        return is_over()

    wait_for(is_over_now, LIMIT_SECS * 3, "the poison was never through")
    return deaths


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("file", marks=pytest.mark.slow)])
def test_r18_poison_ends_at_its_limit_and_harms_no_neighbour(
    tmp_path: Path, figures: Callable[[str], None], backend: str
) -> None:
    site = Site(tmp_path, backend, {"max_deliveries": MAX_DELIVERIES, "shutdown_timeout_secs": 1})
    with site.open() as runtime:
        in_child = site.enqueue(*(poison.deadly_in_child.delay(kind) for kind in poison.DEADLY))
        harmful = site.enqueue(*(poison.harmful.delay(kind) for kind in poison.HARMFUL))
        unfit = site.enqueue(*(poison.unfit.delay(kind) for kind in poison.UNFIT))
        hooked = site.enqueue(*(poison.hooked.delay(fails=fails) for fails in (False, True)))
        neighbours = site.enqueue(*tasks.plain.map([(number,) for number in range(400)]))
        deadly: list[str] = []
        with site.crew(1, threads=SLOTS) as crew:
            deaths = tend(site, crew, lambda: not unfinished(runtime))
            assert deaths == 0
            for kind in poison.DEADLY:  # one at a time, so that each death has one cause
                deadly += site.enqueue(poison.deadly_kind.delay(kind))
                neighbours += site.enqueue(*tasks.plain.map([(n,) for n in range(200)]))
                deaths += tend(site, crew, lambda: not unfinished(runtime))
            meeting = poison.meet.map([(SLOTS,)] * SLOTS)
            assert meeting.get(timeout=LIMIT_SECS) == [SLOTS] * SLOTS
        starts, found = site.starts(), site.snapshots(runtime)
        figures(
            f"{len(neighbours)} neighbours, {deaths} deaths of workers; starts of deadly jobs "
            f"{[starts[one] for one in deadly]}, in a child {[starts[one] for one in in_child]}, "
            f"of harmful ones {[starts[one] for one in harmful]}, of unfit ones "
            f"{[starts[one] for one in unfit]}"
        )
        status = {one: str(snapshot.status) for one, snapshot in found.items()}
        assert {status[one] for one in deadly} == {"DEAD"}
        assert [starts[one] for one in deadly] == [MAX_DELIVERIES] * len(deadly)
        assert deaths == MAX_DELIVERIES * len(deadly)
        for limited in (in_child, harmful):
            assert {status[one] for one in limited} == {"FAILED"}
            assert [starts[one] for one in limited] == [poison.RETRIES + 1] * len(limited)
        assert {status[one] for one in unfit} == {"FAILED"}
        errors = [Inspector(runtime).snapshot(one).error for one in unfit]
        assert {error and error.type for error in errors} == {"NotStorable", "ResultTooLarge"}
        assert [starts[one] for one in unfit] == [1] * len(unfit)
        assert [status[one] for one in hooked] == ["SUCCESS", "FAILED"]
        assert len(neighbours) == 1000
        assert {status[one] for one in neighbours} == {"SUCCESS"}
