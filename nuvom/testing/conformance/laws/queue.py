"""All laws of a queue backend in one class."""

from __future__ import annotations

from nuvom.testing.conformance.laws import (
    basics,
    control,
    history,
    leases,
    schedules,
    shared_store,
)


class QueueConformance(
    basics.Honesty,
    basics.FiveMethods,
    basics.Bulk,
    basics.Order,
    basics.Scheduled,
    basics.Unique,
    basics.LimitsLaws,
    leases.Leases,
    leases.Fencing,
    leases.Counters,
    leases.Suspects,
    leases.Parked,
    leases.Workers,
    control.ControlLaws,
    control.Inspection,
    control.Totals,
    history.History,
    schedules.ScheduleStoreLaws,
    shared_store.Waking,
    shared_store.Threads,
    shared_store.Persistence,
    shared_store.Processes,
):
    """The laws of a queue backend; subclass it in a test module and write ``make``.

    Laws that need a capability run where it is declared. Write ``reopen`` and
    ``process_factory``, too, if the store can be shared.
    """
