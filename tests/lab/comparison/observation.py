"""What can be seen of a store, in a form in which two stores can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.record import JobRecord, JobSnapshot
from nuvom.queue_backends.base import Capability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.core.views import ErrorGroup, Total
    from nuvom.queue_backends.leased import LeasedJobQueue

ALL = 100_000


def observed(queue: LeasedJobQueue, removed: Sequence[str]) -> dict[str, Any]:
    """Return everything that a store tells of its jobs, queues, workers, failures and totals.

    Args:
        removed: Ids that may be unknown by now.
    """
    page = queue.page(limit=ALL)
    ids = [one.record.id for one in page]
    groups = queue.error_groups(ALL)
    seen: dict[str, Any] = {
        "qsize": queue.qsize(),
        "next_due_secs": queue.next_due_secs(),
        "parked_tasks": dict(queue.parked_tasks),
        "page": [shown(one) for one in page],
        "error_groups": sorted(groups, key=_fingerprint),
        "groups come latest first": is_latest_first(groups),
    }
    seen |= {f"queue {one.queue}": one for one in queue.stats()}
    seen |= {f"worker {one.id}": one for one in queue.workers()}
    seen |= {f"failed_ids {one.fingerprint}": queue.failed_ids(one.fingerprint) for one in groups}
    seen |= {f"get {one}": plain(queue.get(one)) for one in [*ids, *removed]}
    seen |= {f"attempts {one}": queue.attempts(one) for one in [*ids, *removed]}
    if Capability.TOTALS in queue.capabilities:
        seen |= {f"total {one[:6]}": one for one in map(_rounded, queue.totals())}
    return seen


def shown(snapshot: JobSnapshot) -> JobSnapshot:
    """Return what a page has to show of a job: its result and traceback may be left out."""
    error = snapshot.error and msgspec.structs.replace(snapshot.error, traceback=None)
    found: JobSnapshot = plain(snapshot)
    return msgspec.structs.replace(found, result=None, error=error)


def is_latest_first(groups: Sequence[ErrorGroup]) -> bool:
    """Whether groups come in the promised order. Of equal times nothing is promised."""
    times = [one.last_at for one in groups]
    return times == sorted(times, reverse=True)


def plain(value: Any) -> Any:
    """Return an answer without the handles that are each store's own."""
    if isinstance(value, JobRecord):
        return value.replace(ref=0)
    if isinstance(value, JobSnapshot):
        return msgspec.structs.replace(value, record=plain(value.record))
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def by_id(records: list[JobRecord]) -> list[JobRecord]:
    """Return records in the order of their ids, where none is promised."""
    return sorted((record.replace(ref=0) for record in records), key=lambda one: one.id)


def by_queue(records: list[JobRecord]) -> tuple[bool, list[JobRecord]]:
    """Return whether suspects come first, and records as ordered within each queue."""
    kinds = [one.suspect for one in records]
    ordered = sorted(records, key=lambda one: (not one.suspect, one.queue))
    return kinds == sorted(kinds, reverse=True), [one.replace(ref=0) for one in ordered]


def differences(name: str, answer: Any, other_name: str, other: Any) -> str:
    """Return in words what differs between the answers of two stores."""
    if not (isinstance(answer, dict) and isinstance(other, dict)):
        one, two = _told_apart(answer, other)
        return f"  {name}: {one}\n  {other_name}: {two}"
    keys = [key for key in {**answer, **other} if answer.get(key) != other.get(key)]
    lines = []
    for key in keys:
        if key != "page" or len(keys) == 1:  # what is on it comes again, job by job
            one, two = _told_apart(answer.get(key), other.get(key))
            lines.append(f"  {key}\n    {name}: {one}\n    {other_name}: {two}")
    return "\n".join(lines)


def _told_apart(one: Any, two: Any) -> tuple[str, str]:
    """Return both in words; of two structures, or lists of them, only what differs."""
    if isinstance(one, msgspec.Struct) and type(one) is type(two):
        pairs = [
            (field, getattr(one, field), getattr(two, field)) for field in one.__struct_fields__
        ]
        told = [(field, _told_apart(x, y)) for field, x, y in pairs if x != y]
        ours = ", ".join(f"{field} {x}" for field, (x, _) in told)
        theirs = ", ".join(f"{field} {y}" for field, (_, y) in told)
        return f"({ours})", f"({theirs})"
    if isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        parts = [_told_apart(x, y) for x, y in zip(one, two, strict=True) if x != y]
        return " ".join(x for x, _ in parts), " ".join(y for _, y in parts)
    return repr(one), repr(two)


def _fingerprint(group: ErrorGroup) -> str:
    return group.fingerprint


def _rounded(total: Total) -> tuple[object, ...]:
    *key, took_secs, waited_secs = msgspec.structs.astuple(total)
    return *key, round(took_secs, 3), round(waited_secs, 3)
