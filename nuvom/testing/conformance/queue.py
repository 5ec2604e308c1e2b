"""All laws of a queue backend in one class."""

from __future__ import annotations

from nuvom.testing.conformance.queue_laws.bulk import Bulk
from nuvom.testing.conformance.queue_laws.control import Control
from nuvom.testing.conformance.queue_laws.counters import Counters
from nuvom.testing.conformance.queue_laws.fencing import Fencing
from nuvom.testing.conformance.queue_laws.five_methods import FiveMethods
from nuvom.testing.conformance.queue_laws.honesty import Honesty
from nuvom.testing.conformance.queue_laws.inspection import Inspection
from nuvom.testing.conformance.queue_laws.leases import Leases
from nuvom.testing.conformance.queue_laws.limits import Limits
from nuvom.testing.conformance.queue_laws.order import Order
from nuvom.testing.conformance.queue_laws.parked import Parked
from nuvom.testing.conformance.queue_laws.persistence import Persistence
from nuvom.testing.conformance.queue_laws.processes import Processes
from nuvom.testing.conformance.queue_laws.scheduled import Scheduled
from nuvom.testing.conformance.queue_laws.suspects import Suspects
from nuvom.testing.conformance.queue_laws.threads import Threads
from nuvom.testing.conformance.queue_laws.totals import Totals
from nuvom.testing.conformance.queue_laws.unique import Unique
from nuvom.testing.conformance.queue_laws.waking import Waking
from nuvom.testing.conformance.queue_laws.workers import Workers


class QueueConformance(
    Honesty,
    FiveMethods,
    Bulk,
    Order,
    Scheduled,
    Unique,
    Leases,
    Fencing,
    Counters,
    Suspects,
    Parked,
    Control,
    Inspection,
    Workers,
    Totals,
    Waking,
    Limits,
    Threads,
    Persistence,
    Processes,
):
    """The laws of a queue backend; subclass it in a test module and write ``make``.

    Laws that need a capability run where it is declared. Write ``reopen`` and
    ``process_factory``, too, if the store can be shared.
    """
