"""The signals of ``celery.signals``, and which of them are sent.

Those around tasks are sent for tasks of this package, in the process that runs them. Those of
workers are sent if the module that connects them is imported before the worker starts: name it in
the setting ``hooks``.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

from nuvom.compat.celery.exceptions import CeleryWarning
from nuvom.core.job_context import current
from nuvom.hooks import on_worker_start, on_worker_stop

if TYPE_CHECKING:
    from collections.abc import Callable

    Receiver = Callable[..., Any]

_log = logging.getLogger("nuvom.celery")


class Signal:
    """A signal: its receivers are called with the sender and keyword arguments.

    Args:
        name: For messages.
        never: Why it is never sent, or ``""``.

    Attributes:
        receivers: Each with the sender that it is for, by itself or its ``dispatch_uid``.
    """

    def __init__(self, name: str, never: str = "") -> None:
        self.name = name
        self._never = never
        self.receivers: dict[object, tuple[Receiver, object]] = {}

    def connect(
        self, *args: Receiver, sender: object = None, dispatch_uid: object = None, **kwargs: Any
    ) -> Any:
        """Call a receiver with each signal; also a decorator, with and without arguments.

        Args:
            sender: Only signals of this sender, a task or its name.
            dispatch_uid: A receiver with the same one is replaced.
            kwargs: ``weak`` and ``retry`` are accepted; receivers are always kept.
        """
        if unknown := kwargs.keys() - {"weak", "retry"}:
            raise TypeError(f"{self.name}.connect() has no argument {min(unknown)}")

        def add(receiver: Receiver) -> Receiver:
            self.receivers[dispatch_uid or receiver] = receiver, sender
            self._warn_of(receiver)
            return receiver

        return add(args[0]) if args and args[0] is not None else add

    def disconnect(self, receiver: Receiver | None = None, dispatch_uid: object = None) -> bool:
        """Forget a receiver; return False if it was not connected."""
        return self.receivers.pop(dispatch_uid or receiver, None) is not None

    def send(self, sender: object, **named: Any) -> list[tuple[Receiver, Any]]:
        """Call the receivers; what they raise is logged, and returned in place of an answer."""
        answers: list[tuple[Receiver, Any]] = []
        for receiver, wanted in list(self.receivers.values()):
            if wanted is None or wanted is sender or wanted == getattr(sender, "name", sender):
                try:
                    answers.append((receiver, receiver(signal=self, sender=sender, **named)))
                except Exception as error:  # noqa: BLE001  # user code: a receiver changes no outcome
                    _log.exception("A receiver of %s failed", self.name)
                    answers.append((receiver, error))
        return answers

    send_robust = send

    def _warn_of(self, receiver: Receiver) -> None:
        label, why = getattr(receiver, "__qualname__", repr(receiver)), self._never
        if not why and self.name.startswith("worker_") and current.get() is not None:
            why = "the worker has started; name the module in the setting hooks"
        if why:
            text = f"{label} will not be called for the signal {self.name}: {why}."
            warnings.warn(text, CeleryWarning, stacklevel=4)

    def __repr__(self) -> str:
        return f"<Signal {self.name}>"


_NO_BROKER = "there is no broker that delivers messages"
_LOGGING = "Nuvom sets up logging by its own settings; configure yours in on_worker_start"
_NO_BEAT = "workers fire schedules; use worker_init"

before_task_publish = Signal("before_task_publish")
after_task_publish = Signal("after_task_publish")
task_prerun = Signal("task_prerun")
task_postrun = Signal("task_postrun")
task_success = Signal("task_success")
task_retry = Signal("task_retry")
task_failure = Signal("task_failure")
task_received = Signal("task_received", _NO_BROKER)
task_revoked = Signal("task_revoked", "a revoked job is not run, and no worker is told of it")
task_unknown = Signal("task_unknown", "a job without a task stays PARKED")
task_rejected = Signal("task_rejected", _NO_BROKER)
task_internal_error = Signal("task_internal_error", "see the log of the worker")

celeryd_init = Signal("celeryd_init", "use worker_init")
celeryd_after_setup = Signal("celeryd_after_setup", "use worker_init")
worker_init = Signal("worker_init")
worker_ready = Signal("worker_ready")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = Signal("worker_process_shutdown")
worker_shutting_down = Signal("worker_shutting_down", "use worker_shutdown")
worker_shutdown = Signal("worker_shutdown")
import_modules = Signal("import_modules", "discovery finds tasks without an import")
heartbeat_sent = Signal("heartbeat_sent", _NO_BROKER)
setup_logging = Signal("setup_logging", _LOGGING)
after_setup_logger = Signal("after_setup_logger", _LOGGING)
after_setup_task_logger = Signal("after_setup_task_logger", _LOGGING)
beat_init = Signal("beat_init", _NO_BEAT)
beat_embedded_init = Signal("beat_embedded_init", _NO_BEAT)


@on_worker_start
def worker_starts() -> None:
    """Tell receivers that a worker starts."""
    for signal in (worker_init, worker_process_init, worker_ready):
        signal.send(None)


@on_worker_stop
def worker_stops() -> None:
    """Tell receivers that a worker has stopped."""
    for signal in (worker_process_shutdown, worker_shutdown):
        signal.send(None)
