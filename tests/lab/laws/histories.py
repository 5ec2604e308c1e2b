"""Random histories, compared step by step with a plain model of a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.laws.bench import QueueKit
from tests.lab.machine import run_histories

if TYPE_CHECKING:
    from nuvom.testing.conformance.laws.bench import QueueBench


class Histories(QueueKit):
    """All that the other laws say, in any order."""

    examples: ClassVar[int] = 100
    """How many random histories are compared with the model ..."""
    steps: ClassVar[int] = 30
    """... and how long each is."""
    keeps_examples: ClassVar[bool] = True
    """Whether Hypothesis may write histories that failed to its database, to try them first."""

    @law(Capability.LEASES, Capability.INSPECTION, Capability.CONTROL, limit_secs=600.0)
    def test_random_histories_match_the_model(self, bench: QueueBench) -> None:
        """Whatever is done in whatever order, jobs are as a plain model says they have to be."""
        run_histories(self, bench.folder)
