"""The settings of an application, ``app.conf``: which count on Nuvom, and which cannot be kept."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

from nuvom.compat.celery.exceptions import CeleryWarning, ImproperlyConfigured, NotSupported
from nuvom.compat.celery.schedules import rule_options, warn_if_late
from nuvom.scheduler.trigger import checked_rule

_DEFAULTS: dict[str, Any] = {
    "task_always_eager": False,
    "task_eager_propagates": False,
    "task_default_queue": None,
    "task_default_priority": None,
    "task_routes": None,
    "task_time_limit": None,
    "task_soft_time_limit": None,
    "task_ignore_result": False,
    "task_acks_late": True,
    "task_create_missing_queues": True,
    "task_serializer": "json",
    "result_serializer": "json",
    "result_expires": None,
    "result_backend": None,
    "broker_url": None,
    "beat_schedule": None,
    "beat_cron_starting_deadline": None,
    "timezone": None,
    "enable_utc": True,
    "imports": (),
    "include": (),
}
_OLD_NAMES = {
    "celery_always_eager": "task_always_eager",
    "celery_eager_propagates_exceptions": "task_eager_propagates",
    "celery_default_queue": "task_default_queue",
    "celery_routes": "task_routes",
    "celery_ignore_result": "task_ignore_result",
    "celery_acks_late": "task_acks_late",
    "celery_timezone": "timezone",
    "celery_enable_utc": "enable_utc",
    "celery_result_backend": "result_backend",
    "celery_task_result_expires": "result_expires",
    "celery_annotations": "task_annotations",
    "celery_imports": "imports",
    "celery_include": "include",
    "celerybeat_schedule": "beat_schedule",
    "celerybeat_schedule_filename": "beat_schedule_filename",
    "celeryd_task_time_limit": "task_time_limit",
    "celeryd_task_soft_time_limit": "task_soft_time_limit",
}
# Without a meaning where there is no broker; each is named in one warning.
_OF_BROKER = re.compile(
    "broker_(?!url$)|result_(?!expires$|serializer$|backend$)|worker_|redis_|event_|control_|beat_(?!schedule$|cron_starting_deadline$)"
    "|database_|cache_|mongodb_|elasticsearch_|cassandra_|s3_|security_|accept_content"
    "|task_(queues|queue_|default_(exchange|routing_key|delivery)|publish_|protocol|compression"
    "|send_sent|track_started|reject_on|create_missing|store_errors|remote_tracebacks|allow_error"
    "|inherit_parent|acks_on)"
)
_REFUSED = {
    "task_annotations": "set the options on the tasks.",
    "task_default_rate_limit": "Nuvom has no rate limits yet.",
    "task_store_eager_result": "an eager task leaves nothing in the store.",
}
SERIALIZERS = (None, "json", "msgpack", "auto")
NOT_A_SERIALIZER = (
    "arguments and results are always stored as MessagePack, and pickle executes what it reads."
)


class Conf(MutableMapping[str, Any]):
    """Settings by their new, lower-case names; also as attributes.

    Attributes:
        calls: Options of earlier calls, which hold until a setting changes.
    """

    calls: dict[Any, Any]
    _values: dict[str, Any]
    _sources: list[tuple[Any, str]]

    def __init__(self) -> None:
        self.__dict__.update(calls={}, _values={}, _sources=[], _ineffective=set())

    def add_source(self, source: Any, namespace: str = "") -> None:
        """Take the settings from an object, once one is needed.

        Args:
            source: An object, a mapping, or the path of one such as ``proj.settings`` or
                ``django.conf:settings``.
            namespace: The start of the names that count, such as ``CELERY``.
        """
        self._sources.append((source, namespace))
        self.calls.clear()

    # ---- a mapping ------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        values, key = self._loaded(), _new_name(name)
        if key == "beat_schedule":  # programs add entries to it
            return values.setdefault(key, {})
        return values[key] if key in values else _DEFAULTS[key]

    def __setitem__(self, name: str, value: Any) -> None:
        self._set(_new_name(name), value)
        self._warn_of_ineffective()

    def __delitem__(self, name: str) -> None:
        del self._loaded()[_new_name(name)]
        self.calls.clear()

    def __iter__(self) -> Iterator[str]:
        return iter({**_DEFAULTS, **self._loaded()})

    def __len__(self) -> int:
        return len({**_DEFAULTS, **self._loaded()})

    def update(self, *others: Any, **settings: Any) -> None:
        """Change several settings."""
        for name, value in dict(*others, **settings).items():
            self._set(_new_name(name), value)
        self._warn_of_ineffective()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no setting {name}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    # ---- what is set ----------------------------------------------------------------------

    def _loaded(self) -> dict[str, Any]:
        while self._sources:
            source, namespace = self._sources.pop(0)
            for name, value in _settings_in(source, namespace).items():
                # What the program sets itself counts; an empty beat_schedule was only looked at.
                if name not in self._values or self._values[name] == {}:
                    self._set(name, value)
        self._warn_of_ineffective()
        return self._values

    def _set(self, key: str, value: Any) -> None:
        if key in _REFUSED and value:
            raise NotSupported(f"the setting {key}", _REFUSED[key])
        if key in ("task_serializer", "result_serializer") and value not in SERIALIZERS:
            raise NotSupported(f"the setting {key}={value!r}", NOT_A_SERIALIZER)
        if key == "task_acks_late" and not value:
            why = "a job whose worker dies is always run again."
            self._ineffective.add(f"task_acks_late=False ({why.rstrip('.')})")
        if key == "beat_schedule":
            warn_if_late(key)
            for entry in (value or {}).values():
                checked_rule(rule_options(entry, _DEFAULTS), 0.0)  # its time zone may be set later
        if _OF_BROKER.match(key):
            self._ineffective.add(key)
        self._values[key] = value
        self.calls.clear()

    def _warn_of_ineffective(self) -> None:
        if self._ineffective:
            named = ", ".join(sorted(self._ineffective))
            self._ineffective.clear()
            text = f"Nuvom has no broker, and its own settings; without effect are: {named}."
            warnings.warn(text, CeleryWarning, stacklevel=4)

    # ---- what follows ---------------------------------------------------------------------

    def route(
        self, task: str, args: Any, kwargs: Any, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the options that ``task_routes`` gives to a call."""
        for router in _routers(self["task_routes"]):
            found = router(task, args, kwargs, options) if callable(router) else None
            if not callable(router) and _matches(router[0], task):
                found = router[1]
            if found:
                return {"queue": found} if isinstance(found, str) else dict(found)
        return {}

    @property
    def routes_by_call(self) -> bool:
        """Whether a function of the user chooses the route of each call."""
        return any(map(callable, _routers(self["task_routes"])))

    @property
    def zero_is_first(self) -> bool:
        """Whether priority 0 is the highest, as with Redis; with AMQP it is the lowest."""
        return str(self["broker_url"] or "").startswith(("redis", "sentinel", "valkey"))


def _new_name(name: str) -> str:
    lower = name.lower()
    if lower in _OLD_NAMES:
        return _OLD_NAMES[lower]
    return lower.removeprefix("celery_") if name.isupper() else lower


def _settings_in(source: Any, namespace: str) -> dict[str, Any]:
    if isinstance(source, str):
        source = _imported(source)
    if isinstance(source, Mapping):
        given = dict(source)
    else:
        given = {name: getattr(source, name) for name in dir(source) if not name.startswith("_")}
    if not namespace:
        is_old = any(name.isupper() and name.startswith(("CELERY", "BROKER")) for name in given)
        known = {
            _new_name(name): value for name, value in given.items() if name.isupper() == is_old
        }
        return {
            name: value
            for name, value in known.items()
            if name in _DEFAULTS or name in _REFUSED or _OF_BROKER.match(name)
        }
    prefix = f"{namespace}_"
    return {
        _new_name(name.removeprefix(prefix)): value
        for name, value in given.items()
        if name.startswith(prefix)
    }


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        found = import_module(module)
    except ModuleNotFoundError:
        if attribute or "." not in module:
            raise
        module, _, attribute = module.rpartition(".")
        found = import_module(module)
    return getattr(found, attribute) if attribute else found


def _routers(routes: Any) -> list[Any]:
    """Return functions, and pairs of a pattern and its route."""
    if not routes:
        return []
    found: list[Any] = []
    for one in routes if isinstance(routes, list | tuple) else [routes]:
        if isinstance(one, str):
            found.append(_imported(one))
        elif callable(one):
            found.append(one)
        elif isinstance(one, Mapping):
            found += one.items()
        elif isinstance(one, list | tuple) and len(one) == 2:  # noqa: PLR2004  # a pair
            found.append(one)
        else:
            raise ImproperlyConfigured(f"task_routes cannot contain {one!r}")
    return found


def _matches(pattern: Any, task: str) -> bool:
    if isinstance(pattern, str):
        return fnmatchcase(task, pattern)
    return pattern.match(task) is not None
