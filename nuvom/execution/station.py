"""What the parts of one worker share: handed to each of them as one thing, never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.events import EventBus
    from nuvom.execution.delivery import Delivery
    from nuvom.execution.job_runner import JobRunner
    from nuvom.execution.running import InHand
    from nuvom.queue_backends.base import BaseJobQueue


class Station(NamedTuple):
    """One worker's workplace.

    Attributes:
        owner: The worker's id, under which it claims.
        services: What running code may ask of its worker: progress and new records.
        in_hand: The attempts that are not closed yet.
        lease_secs: How long a claim holds without a beat; ``inf`` where nothing is leased.
    """

    owner: str
    services: Any
    queue: BaseJobQueue
    delivery: Delivery
    runner: JobRunner
    settings: Settings
    clock: Clock
    bus: EventBus
    in_hand: InHand
    lease_secs: float
