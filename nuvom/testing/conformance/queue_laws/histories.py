"""Random histories, compared step by step with a plain model of a queue."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_kit import QueueKit
from nuvom.testing.conformance.runner import check_extra

if TYPE_CHECKING:
    from nuvom.testing.conformance.queue_bench import QueueBench


class Histories(QueueKit):
    """All that the other laws say, in any order."""

    @law(Capability.LEASES, Capability.INSPECTION, Capability.CONTROL, limit_secs=600.0)
    def test_random_histories_match_the_model(self, bench: QueueBench) -> None:
        """Whatever is done in whatever order, jobs are as a plain model says they have to be."""
        check_extra()
        # Only here, so that all other laws can be held without Hypothesis.
        machine = import_module("nuvom.testing.conformance.machine")
        machine.run_histories(self, bench.folder)
