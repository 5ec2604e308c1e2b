"""All laws of the stores that come with Nuvom: those of the kit, and those of the lab.

The lab's laws try every point of a call, and say little to somebody who writes a backend for
one application: they take minutes, and what they find needs a debugger.
"""

from __future__ import annotations

from nuvom.testing.conformance import QueueConformance
from tests.lab.laws.crowd import Crowd
from tests.lab.laws.interruptions import Interruptions
from tests.lab.laws.preemptions import Preemptions


class LabLaws(Interruptions, Preemptions, Crowd):
    """The lab's laws, to be added to a kit."""

    # So that both take seconds; with 1 every point is tried.
    points_step = 24
    pauses_step = 32


class StoreConformance(QueueConformance, LabLaws):
    """All laws; subclass it and write ``make``, ``reopen`` and ``process_factory``."""
