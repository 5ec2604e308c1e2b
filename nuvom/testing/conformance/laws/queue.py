"""All laws of a queue backend in one class."""

from __future__ import annotations

from nuvom.testing.conformance.laws.basics import (
    Bulk,
    FiveMethods,
    Honesty,
    LimitsLaws,
    Order,
    Scheduled,
    Unique,
)
from nuvom.testing.conformance.laws.control import ControlLaws, Inspection, Totals
from nuvom.testing.conformance.laws.leases import (
    Counters,
    Fencing,
    Leases,
    Parked,
    Suspects,
    Workers,
)
from nuvom.testing.conformance.laws.shared_store import Persistence, Processes, Threads, Waking


class QueueConformance(
    Honesty,
    FiveMethods,
    Bulk,
    Order,
    Scheduled,
    Unique,
    LimitsLaws,
    Leases,
    Fencing,
    Counters,
    Suspects,
    Parked,
    Workers,
    ControlLaws,
    Inspection,
    Totals,
    Waking,
    Threads,
    Persistence,
    Processes,
):
    """The laws of a queue backend; subclass it in a test module and write ``make``.

    Laws that need a capability run where it is declared. Write ``reopen`` and
    ``process_factory``, too, if the store can be shared.
    """
