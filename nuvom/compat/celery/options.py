"""Options of tasks and calls: Celery's names on one side, Nuvom's on the other.

What cannot be kept is refused by name. What holds on Nuvom by itself, or concerns the broker alone,
is accepted; both are listed here and in ``docs/celery-shim.md``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from nuvom.compat.celery.conf import NOT_A_SERIALIZER, SERIALIZERS
from nuvom.compat.celery.exceptions import NotSupported
from nuvom.core.options import CallOptions, TaskOptions, call_options, known_options, task_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuvom.compat.celery.conf import Conf

MOST_RETRIES = 2**31 - 1  # max_retries=None: without an end
_USE_QUEUE = "there is no exchange; name a queue by queue= or task_routes."
REFUSED = {
    "rate_limit": "Nuvom has no rate limits yet.",
    "link_error": "a failed job starts no other one; use on_failure or the signal task_failure.",
    "chain": "Nuvom has no workflows yet.",
    "chord": "Nuvom has no workflows yet.",
    "group_id": "Nuvom has no workflows yet.",
    "exchange": _USE_QUEUE,
    "routing_key": _USE_QUEUE,
    "pydantic": "annotate the parameters with dataclasses; Nuvom rebuilds those.",
    "reply_to": "results are in the store.",
    "replaced_task_nesting": "Nuvom has no workflows yet.",
}
"""Options that are refused unless they have no value, with the reason."""

REFUSED_VALUES = (
    (
        "acks_late",
        False,
        "a job whose worker dies is always run again; leave it out, and make the task idempotent.",
    ),
    ("typing", False, "calls are always checked when they are made."),
)
"""Single values that are refused, with the reason."""

WITHOUT_EFFECT = frozenset(
    {"retry", "retry_policy", "producer", "publisher", "connection", "router", "compression"}
    | {"delivery_mode", "mandatory", "immediate", "add_to_parent", "shadow", "ignore_results"}
    | {"root_id", "parent_id", "reject_on_worker_lost", "acks_on_failure_or_timeout"}
    | {"track_started", "send_events", "store_errors_even_if_ignored", "trail", "typing"}
)
"""Options that concern the broker alone, or hold on Nuvom anyway."""

OF_CALLS = frozenset(
    {"countdown", "eta", "expires", "queue", "priority", "headers", "task_id", "link"}
    | {"time_limit", "soft_time_limit", "ignore_result", "serializer", *REFUSED, *WITHOUT_EFFECT}
)
FROM_TASK = ("queue", "priority", "expires", "time_limit", "soft_time_limit", "ignore_result")


def check_options(options: Any, of: str) -> None:
    """Raise NotSupported for the first option that Nuvom cannot keep.

    Args:
        options: A mapping, or a task with its attributes.
        of: What has these options, for the message.
    """
    value_of = options.get if hasattr(options, "get") else partial(_attribute, options)
    for name, why in REFUSED.items():
        value = value_of(name)
        if value:
            raise NotSupported(f"{name}={value!r} of {of}", why)
    for name, value, why in REFUSED_VALUES:
        if value_of(name) is value:
            raise NotSupported(f"{name}={value} of {of}", why)
    if value_of("serializer") not in SERIALIZERS:
        raise NotSupported(f"serializer={value_of('serializer')!r} of {of}", NOT_A_SERIALIZER)


def _attribute(task: Any, name: str) -> Any:
    return getattr(task, name, None)


def definition_options(task: Any) -> tuple[TaskOptions, frozenset[str]]:
    """Return Nuvom's options of a task with Celery's attributes, and the names of those given.

    The task itself decides what is retried. Back-off and limit are also stored with each job, for
    attempts whose process dies.
    """
    delay = task.default_retry_delay
    growth, most, jitter = "constant", float(max(delay, 0)), False
    if task.autoretry_for and task.retry_backoff:
        delay, growth = max(1, int(task.retry_backoff)), "exponential"
        most, jitter = float(task.retry_backoff_max), bool(task.retry_jitter)
    given = {
        "retries": MOST_RETRIES if task.max_retries is None else max(0, task.max_retries),
        "retry_delay_secs": delay,
        "backoff": growth,
        "max_retry_delay_secs": most,
        "jitter": jitter,
        "retry_on": (),
        "queue": task.queue,
        "timeout_secs": task.time_limit or None,
        "soft_timeout_secs": soft_limit(task.soft_time_limit, task.time_limit),
        "store_result": None if task.ignore_result is None else not task.ignore_result,
    }
    return task_options(given), known_options(given)


def soft_limit(soft: float | None, hard: float | None) -> float | None:
    """Return the soft limit, unless the task is ended before it."""
    return None if not soft or (hard and soft >= hard) else soft


def job_options(
    name: str, args: Any, kwargs: Any, conf: Conf, *, own: Mapping[str, Any], given: dict[str, Any]
) -> CallOptions:
    """Return Nuvom's options of one call.

    Args:
        name: The task's.
        own: The task's options.
        given: Those of the call, which come first.
    Raises: NotSupported; TypeError: there is no such option; InvalidTaskOption.
    """
    for option in given.keys() - OF_CALLS:
        raise NotSupported(f"{option}= of a call", "apply_async() has no such option.")
    route = conf.route(name, args, kwargs, given)
    check_options(given, f"a call of {name}")
    check_options(route, f"the route of {name}")
    options = {
        "queue": conf.task_default_queue,
        "priority": conf.task_default_priority,
        "time_limit": conf.task_time_limit,
        "soft_time_limit": conf.task_soft_time_limit,
        "ignore_result": conf.task_ignore_result or None,
    }
    for source in (route, own, given):
        options |= {option: value for option, value in source.items() if value is not None}
    return _translated(options, conf)


def _translated(options: Mapping[str, Any], conf: Conf) -> CallOptions:
    priority, ignored = options.get("priority"), options.get("ignore_result")
    if priority is not None:
        priority = 5 + priority if conf.zero_is_first else 5 - priority
    result_ttl = conf.result_expires
    return call_options(
        {},
        {
            "queue": options.get("queue"),
            "priority": priority,
            "delay": options.get("countdown"),
            "run_at": _aware(options.get("eta"), conf),
            "expires": _aware(options.get("expires"), conf),
            "timeout_secs": options.get("time_limit") or None,
            "soft_timeout_secs": soft_limit(
                options.get("soft_time_limit"), options.get("time_limit")
            ),
            "store_result": None if ignored is None else not ignored,
            "result_ttl_secs": getattr(result_ttl, "total_seconds", lambda: result_ttl)(),
        },
    )


def _aware(moment: Any, conf: Conf) -> Any:
    """Return a time with the time zone of the settings, as Celery takes it; others unchanged."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime) or moment.tzinfo is not None:
        return moment
    zone = conf.timezone
    if zone is None:
        return moment.replace(tzinfo=UTC)
    return moment.replace(tzinfo=ZoneInfo(zone) if isinstance(zone, str) else zone)
