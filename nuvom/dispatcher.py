"""Turns a call into a stored job.

The second of the six files that a job passes through: arguments are bound to the signature,
encoded, put into a ``JobRecord`` and enqueued. Everything that enqueues goes through here:
``.delay()``, ``.map()``, the command line, schedules. It does not know the queue's backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from nuvom.core.batch import RecordBatch
from nuvom.core.ids import CHILDREN, following_id, new_id
from nuvom.core.middleware import created_by, sent_by
from nuvom.core.options import NO_CALL_OPTIONS, CallOptions, check_time_limits
from nuvom.core.record import DEFAULT_RETRY, EMPTY_KWARGS, PARENT, JobRecord, RetryPolicy
from nuvom.errors import CapabilityMissing, InvalidTaskOption, NuvomError, PayloadTooLarge
from nuvom.events import EventBus, JobEnqueued
from nuvom.host.crashpoint import crashpoint
from nuvom.queue_backends.base import BaseJobQueue, Capability
from nuvom.registry.signature import Binder, TypedBinder, UniqueKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.core.options import TaskOptions
    from nuvom.registry.registry import TaskDefinition
    from nuvom.result_backends.base import BaseResultBackend
    from nuvom.serialization.base import Codec

_NO_KWARGS = bytes(EMPTY_KWARGS)
_TEMPLATES_KEPT = 1000  # templates of .options() created per call must not pile up


class Dispatcher:
    """Turns calls into stored jobs.

    Args:
        public_name: Called once for each task and set of options; returns the name by which
            workers know the task, or raises TaskNotImportable.
    """

    def __init__(
        self,
        queue: BaseJobQueue,
        results: BaseResultBackend,
        *,
        codec: Codec,
        settings: Settings,
        bus: EventBus,
        clock: Clock,
        public_name: Callable[[TaskDefinition], str],
    ) -> None:
        self._queue = queue
        self._results = results
        self._codec = codec
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._templates: dict[tuple[int, int], JobTemplate] = {}
        self._can_inspect = Capability.INSPECTION in queue.capabilities
        self._missing = {Capability.SCHEDULED, Capability.UNIQUE} - queue.capabilities
        self._public_name = public_name

    def dispatch(
        self,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: CallOptions = NO_CALL_OPTIONS,
        *,
        job_id: str | None = None,
    ) -> tuple[JobRecord, str | None]:
        """Store one job. See ``Task.delay`` for the errors raised.

        Args:
            job_id: A UUID in place of a new one; if a job has it, nothing is stored.
        Returns: its record, and the id of the existing job when its ``unique_key`` is taken.
        """
        record = self.make_record(definition, args, kwargs, options)
        if job_id is not None:
            record = record.replace(id=job_id)
        if options and "connection" in options:
            with self._sent(record) as accompanied:
                existing = self._queue.enqueue_into(options["connection"], (accompanied,))
            return accompanied, existing.get(record.id)
        if not self._bus.middleware:
            return record, self.enqueue(record)
        with self._sent(record) as accompanied:
            return accompanied, self.enqueue(accompanied)

    def make_child(
        self,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: CallOptions = NO_CALL_OPTIONS,
        *,
        parent: str,
        number: int,
        kind: str = CHILDREN[0],
    ) -> JobRecord:
        """Return the record of a call to be stored together with another job's success.

        Args:
            parent: Id of that job.
            number: Tells it from others of that job and ``kind``.
        Raises: InvalidTaskOption: it is to be stored in a transaction of the caller's as well.
        """
        if "connection" in options:
            given, expected = options["connection"], "no connection: the job comes with a success"
            raise InvalidTaskOption("connection", given, expected)
        record = self.make_record(definition, args, kwargs, options)
        new_id = following_id(parent, kind, number)
        with self._sent(record.replace(id=new_id, headers={PARENT: parent})) as accompanied:
            return accompanied

    def make_for_later(
        self,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: CallOptions = NO_CALL_OPTIONS,
    ) -> JobRecord:
        """Return the record of a call that ``enqueue`` is to store later, with all its headers."""
        return self.accompanied((self.make_record(definition, args, kwargs, options),))[0]

    def make_record(
        self,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: CallOptions = NO_CALL_OPTIONS,
    ) -> JobRecord:
        """Return the bound, encoded and checked record of a call, without storing it."""
        template = self._templates.get((id(definition), id(options)))
        if template is None:
            template = self._template(definition, options)
        now = self._clock.now()
        record = template.record(args, kwargs, now)
        if self._missing:
            self._refuse_missing(record, now)
        return record

    def enqueue(self, record: JobRecord) -> str | None:
        """Store ``record``; return the id of the existing job if its key is taken."""
        existing = self._queue.enqueue(record) if self._can_inspect else self.store(record)
        if existing is None and JobEnqueued in self._bus.active:
            self._bus.emit(JobEnqueued(record))
        return existing

    def store(self, record: JobRecord) -> str | None:
        """Do as ``enqueue``, but for telling subscribers."""
        if self._can_inspect:
            return self._queue.enqueue(record)
        with self._shown((record,)):
            return self._queue.enqueue(record)

    def accompanied(self, records: Iterable[JobRecord]) -> list[JobRecord]:
        """Return records with the headers of all middleware, to be stored by the caller.

        Each is sent on its own, also where all are stored in one step.
        """
        if not self._bus.middleware:
            return list(records)
        sent = []
        for record in records:
            with self._sent(record) as accompanied:
                sent.append(accompanied)
        return sent

    def tell_enqueued(self, records: Iterable[JobRecord]) -> None:
        """Emit that jobs were stored."""
        if JobEnqueued in self._bus.active:
            for record in records:
                self._bus.emit(JobEnqueued(record))

    def dispatch_many(
        self,
        definition: TaskDefinition,
        items: Iterable[tuple[Any, ...] | list[Any] | Mapping[str, Any]],
        options: CallOptions = NO_CALL_OPTIONS,
    ) -> tuple[bytearray, dict[str, str]]:
        """Store one job for each item, all or nothing. See ``Task.map``.

        Returns: the ids, 16 bytes each, in the order of the items; and, for each job refused
        by its ``unique_key``, its id and that of the existing job.

        Items are bound, encoded and spooled as they arrive. So a generator of any length needs
        bounded memory and never runs while the store is locked.
        """
        template, now = self._template(definition, options), self._clock.now()
        if isinstance(template, VaryingTemplate) and template.is_each_unique:
            return self._dispatch_each(template, items, options)
        with (
            self._sent(template.like(now)) as like,
            RecordBatch(like, self._headers_of(like)) as batch,
        ):
            self._refuse_missing(like, now)
            batch.extend(template.pack_items(items))
            return batch.ids, self._store(batch, options)

    def _dispatch_each(
        self, template: VaryingTemplate, items: Iterable[Any], options: CallOptions
    ) -> tuple[bytearray, dict[str, str]]:
        """Store records that differ in more than their arguments; all are in memory at once."""
        now = self._clock.now()
        with self._sent(template.like(now)) as like:
            self._refuse_missing(like, now)
            headers_of = self._headers_of(like)
            records = [
                one.replace(headers=like.headers if headers_of is None else headers_of(one.id))
                for one in template.records(items, now)
            ]
            ids = bytearray.fromhex("".join(one.id.replace("-", "") for one in records))
            return ids, self._store(records, options)

    def _headers_of(self, like: JobRecord) -> Callable[[str], dict[str, str]] | None:
        """Return what gives each job of a ``.map()`` its headers; None if all have the same."""
        return created_by(self._bus.middleware, like, self._bus.report)

    def _sent(self, record: JobRecord) -> AbstractContextManager[JobRecord]:
        """Return the context for storing ``record``, which adds the middleware's headers."""
        if not self._bus.middleware:
            return nullcontext(record)
        return sent_by(self._bus.middleware, record, self._bus.report)

    def _store(self, batch: RecordBatch | list[JobRecord], options: CallOptions) -> dict[str, str]:
        """Store all jobs or none; see ``dispatch_many`` for what is returned."""
        if "connection" in options:
            return self._queue.enqueue_into(options["connection"], batch)
        if not len(batch):
            return {}
        with nullcontext() if self._can_inspect else self._shown(batch):
            crashpoint("dispatch.before_store")
            existing = self._queue.enqueue_many(batch)
        crashpoint("dispatch.stored")
        self.tell_enqueued(record for record in batch if record.id not in existing)
        return existing

    @contextmanager
    def _shown(self, records: Iterable[JobRecord]) -> Iterator[None]:
        """Store jobs with the results too while they go to a queue that cannot show them."""
        try:
            for record in records:
                self._results.set_record(record)
            yield
        except BaseException:
            with suppress(NotImplementedError):  # not every backend can delete
                for record in records:
                    self._results.forget(record.id)
            raise

    def _refuse_missing(self, record: JobRecord, now: float) -> None:
        """Refuse options that the queue does not support, rather than ignore them silently."""
        name = self._queue.name or type(self._queue).__name__
        if record.run_at > now and Capability.SCHEDULED in self._missing:
            raise CapabilityMissing(name, str(Capability.SCHEDULED), "this job has a run_at")
        if record.unique_key is not None and Capability.UNIQUE in self._missing:
            raise CapabilityMissing(name, str(Capability.UNIQUE), "this job has a unique_key")

    def forget_templates(self) -> None:
        """Drop all templates, so that each task's public name is looked up again."""
        self._templates.clear()

    def _template(self, definition: TaskDefinition, options: CallOptions) -> JobTemplate:
        if len(self._templates) >= _TEMPLATES_KEPT:
            self._templates.clear()
        own = definition.options_under(self._settings.task_defaults)
        is_varying = own.unique or own.unique_by or "expires" in options
        template = (VaryingTemplate if is_varying else JobTemplate)(
            self._public_name(definition),
            definition,
            options,
            own=own,
            settings=self._settings,
            codec=self._codec,
        )
        if "connection" not in options:  # which must not be kept
            self._templates[(id(definition), id(options))] = template
        return template


class JobTemplate:
    """Everything that is constant across the calls of one task with one set of options.

    Args:
        own: The task's options, with those of the project where it sets none.
    """

    def __init__(
        self,
        name: str,
        definition: TaskDefinition,
        options: CallOptions,
        *,
        own: TaskOptions,
        settings: Settings,
        codec: Codec,
    ) -> None:
        self._kept_alive = (definition, options)  # the cache is keyed by their identity
        self._name = name
        binder = TypedBinder if settings.check_types else Binder
        self._binder = binder(name, definition.func)
        self._fitting = frozenset(self._binder.fitting)
        self._quick = codec.quick_encoder(definition.func)
        self._encode = codec.call_encoder(definition.func, self._binder.names)
        self._max_bytes = settings.max_payload_bytes
        self._delay_secs, self._run_at = _start_of(options)
        routed = None if "queue" in definition.given else _route(name, settings.routes)
        self._queue = _first(options.get("queue"), routed, own.queue)
        self._priority = _first(options.get("priority"), own.priority)
        self._rest = _constant_fields(own, options, settings)

    def record(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], now: float) -> JobRecord:
        """Return the record of one call."""
        packed_args, packed_kwargs = self.pack(args, kwargs)
        return JobRecord(
            new_id(),
            self._name,
            Raw(packed_args),
            EMPTY_KWARGS if packed_kwargs is _NO_KWARGS else Raw(packed_kwargs),
            self._queue,
            self._priority,
            now,
            now + self._delay_secs if self._delay_secs else self._run_at,
            **self._rest,
        )

    def like(self, now: float) -> JobRecord:
        """Return a record with all fields that the calls have in common."""
        run_at = now + self._delay_secs if self._delay_secs else self._run_at
        return JobRecord(
            "",
            self._name,
            queue=self._queue,
            priority=self._priority,
            created_at=now,
            run_at=run_at,
            **self._rest,
        )

    def pack(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """Return checked and encoded arguments."""
        packed = self._quick(args) if not kwargs and len(args) in self._fitting else None
        if packed is not None and len(packed) < self._max_bytes:
            return packed, _NO_KWARGS
        kwargs = dict(kwargs)
        self._binder.check(args, kwargs)
        packed_args, packed_kwargs = self._encode(args, kwargs)
        size = len(packed_args) + len(packed_kwargs)
        if size > self._max_bytes:
            raise PayloadTooLarge(self._name, size, self._max_bytes)
        return packed_args, packed_kwargs

    def pack_items(self, items: Iterable[Any]) -> Iterator[bytes]:
        """Yield the packed arguments of each item of a ``.map()`` as it arrives, concatenated."""
        quick, fitting, max_bytes = self._quick, self._fitting, self._max_bytes
        for index, item in enumerate(items):
            packed = quick(item) if type(item) is tuple and len(item) in fitting else None
            if packed is not None and len(packed) < max_bytes:
                yield packed + _NO_KWARGS
            else:
                yield self._pack_item(index, item)

    def _pack_item(self, index: int, item: object) -> bytes:
        args, kwargs = _call_of(self._name, index, item)
        with _of_item(index):
            return b"".join(self.pack(args, kwargs))


@contextmanager
def _of_item(index: int) -> Iterator[None]:
    """Name the item of a ``.map()`` in the errors of the block."""
    try:
        yield
    except NuvomError as error:
        error.args = (f"item {index}: {error.what}",)
        raise


class VaryingTemplate(JobTemplate):
    """A template whose records differ in more than arguments and start: in expiry or unique key."""

    def __init__(
        self,
        name: str,
        definition: TaskDefinition,
        options: CallOptions,
        *,
        own: TaskOptions,
        settings: Settings,
        codec: Codec,
    ) -> None:
        super().__init__(name, definition, options, own=own, settings=settings, codec=codec)
        self._key_of: Callable[[tuple[Any, ...], Mapping[str, Any]], str] | None = None
        if (own.unique or own.unique_by) and options.get("unique_key") is None:
            self._key_of = UniqueKey(name, definition.func, own.unique_by, codec).of
        self._expires = options.get("expires")

    @property
    def is_each_unique(self) -> bool:
        """Whether each record gets a key from its arguments."""
        return self._key_of is not None

    def record(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], now: float) -> JobRecord:
        """Return the record of one call."""
        record = super().record(args, kwargs, now)
        changes: dict[str, Any] = {"expires_at": self._expires_at(record)}
        if self._key_of is not None:
            changes["unique_key"] = self._key_of(args, kwargs)
        return record.replace(**changes)

    def like(self, now: float) -> JobRecord:
        """Return a record with all fields that the calls have in common."""
        record = super().like(now)
        return record.replace(expires_at=self._expires_at(record))

    def records(self, items: Iterable[Any], now: float) -> Iterator[JobRecord]:
        """Yield the record of each item of a ``.map()``."""
        for index, item in enumerate(items):
            args, kwargs = _call_of(self._name, index, item)
            with _of_item(index):
                record = self.record(args, kwargs, now)
            yield record

    def _expires_at(self, record: JobRecord) -> float | None:
        """Raises: InvalidTaskOption: the job would expire before it may start."""
        if self._expires is None:
            return None
        at = _moment_of(self._expires, record.created_at)
        if at <= record.run_at:
            raise InvalidTaskOption("expires", self._expires, "later than the job's earliest start")
        return at


def _route(task: str, routes: Mapping[str, str]) -> str | None:
    """Return the queue of the first pattern that matches a task's name, or None."""
    return next((queue for pattern, queue in routes.items() if fnmatchcase(task, pattern)), None)


def _constant_fields(own: TaskOptions, options: CallOptions, settings: Settings) -> dict[str, Any]:
    """Return the record fields that are the same for each call and differ from the defaults.

    Raises: InvalidTaskOption: the task's time limits and the call's do not fit together.
    """
    fields: dict[str, Any] = {
        "max_retries": _first(options.get("retries"), own.retries),
        "retry": _retry_policy(own, options, settings),
        "timeout_secs": _first(
            options.get("timeout_secs"), own.timeout_secs, settings.job_timeout_secs
        ),
        "soft_timeout_secs": _first(options.get("soft_timeout_secs"), own.soft_timeout_secs),
        "timeout_policy": _first(
            options.get("timeout_policy"), own.timeout_policy, settings.timeout_policy
        ),
        "store_result": _first(options.get("store_result"), own.store_result),
        "result_ttl_secs": _first(options.get("result_ttl_secs"), own.result_ttl_secs),
        "unique_key": options.get("unique_key"),
        "unique_for": options.get("unique_for"),
        "tags": _first(options.get("tags"), own.tags),
        "metadata": options.get("metadata"),
    }
    check_time_limits(fields["soft_timeout_secs"], fields["timeout_secs"])
    defaults = dict(
        zip(JobRecord.__struct_fields__[2:], JobRecord.__struct_defaults__, strict=True)
    )
    return {name: value for name, value in fields.items() if value != defaults[name]}


def _retry_policy(own: TaskOptions, options: CallOptions, settings: Settings) -> RetryPolicy | None:
    policy = RetryPolicy(
        _first(options.get("retry_delay_secs"), own.retry_delay_secs, settings.retry_delay_secs),
        own.backoff,
        own.max_retry_delay_secs,
        own.jitter,
    )
    return None if policy == DEFAULT_RETRY else policy


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _start_of(options: CallOptions) -> tuple[float, float]:
    """Return the delay from each call in seconds, and the fixed time; one of them is 0."""
    delay, run_at = options.get("delay"), options.get("run_at")
    if delay is not None:
        return _moment_of(delay, 0.0), 0.0
    return 0.0, 0.0 if run_at is None else run_at.timestamp()


def _moment_of(given: float | timedelta | datetime, now: float) -> float:
    """Return seconds since the epoch: the given time, or so many seconds after ``now``."""
    if isinstance(given, int | float):
        return now + given
    return given.timestamp() if isinstance(given, datetime) else now + given.total_seconds()


def _call_of(task: str, index: int, item: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(item, tuple | list):
        return tuple(item), {}
    if isinstance(item, Mapping):
        kwargs = dict(item)
        for key in kwargs:
            if not isinstance(key, str):
                raise TypeError(f"{task}.map: item {index} has the key {key!r}; keys must be text")
        return (), kwargs
    raise TypeError(
        f"{task}.map: item {index} is of type {type(item).__name__}; each item must be a tuple or "
        "list of positional arguments or a mapping of keyword arguments. To pass it as the only "
        "argument, wrap it: (item,)"
    )
