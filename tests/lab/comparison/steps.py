"""What one step of a compared history can be, and how often it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.comparison import controls, deliveries

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.lab.comparison.stores import StoreGroup

STEPS: tuple[Callable[[StoreGroup, Random], None], ...] = (
    *[deliveries.enqueue] * 16,
    *[deliveries.enqueue_again] * 3,
    *[deliveries.enqueue_many] * 4,
    deliveries.enqueue_badly,
    *[deliveries.claim] * 20,
    deliveries.claim_badly,
    *[deliveries.start] * 14,
    *[deliveries.settle] * 14,
    *[deliveries.settle_many] * 5,
    *[deliveries.work] * 8,
    *[deliveries.release] * 6,
    *[deliveries.extend] * 6,
    *[deliveries.progress] * 5,
    *[deliveries.reap] * 5,
    *[deliveries.lose_all] * 2,
    *[deliveries.crash] * 3,
    *[deliveries.pass_time] * 8,
    *[controls.announce] * 5,
    controls.retire,
    *[controls.command] * 4,
    *[controls.commands] * 3,
    *[controls.cancel] * 4,
    *[controls.retry] * 6,
    *[controls.pause_or_resume] * 4,
    controls.purge,
    *[controls.prune] * 2,
    *[controls.unpark] * 3,
    *[controls.look] * 6,
    *[controls.glance] * 6,
    *[controls.page] * 4,
    *[controls.find_ids] * 2,
    controls.keep_totals,
)
"""What a step chooses from; what stands here several times is chosen as much more often."""
