"""The plugin interface: what a plugin must provide and what it receives.

A plugin may subclass ``Plugin`` or just have the same attributes and methods. Names here are
stable as long as the major part of ``API_VERSION`` stays the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypedDict, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.core.record import Attempt, JobSnapshot, JobStatus
    from nuvom.core.views import ErrorGroup, QueueStats, StoreSize, Total, WorkerInfo
    from nuvom.events import EventBus
    from nuvom.queue_backends.base import BaseJobQueue
    from nuvom.result_backends.base import BaseResultBackend
    from nuvom.scheduler.store import BaseScheduleStore

API_VERSION = "1.0"


class Inspector(Protocol):
    """Read access to stored jobs, independent of the backends.

    A list is empty if the backend does not have the information.
    """

    def snapshot(self, job_id: str) -> JobSnapshot:
        """Return one job. Raises: JobNotFound."""

    def page(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobSnapshot]:
        """Return jobs, newest first; ``before`` is the last id of the previous page."""

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the closed attempts that are still stored, oldest first."""

    def stats(self) -> list[QueueStats]:
        """Return counts for each queue, ordered by name."""

    def backlog(self) -> list[QueueStats]:
        """Return the same, perhaps without counts of successes, which takes less time."""

    def workers(self) -> list[WorkerInfo]:
        """Return the workers that are not known to be dead."""

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped by fingerprint, latest first."""

    def totals(self) -> list[Total]:
        """Return the totals that the store has counted since ``Control.keep_totals``."""

    def store_size(self) -> StoreSize | None:
        """Return the size of the store, or None if it is unknown."""

    def is_manifest_stale(self) -> bool:
        """Return whether the list of tasks is out of date. Raises: InvalidManifest."""


class Control(Protocol):
    """Operator actions. All raise CapabilityMissing if the queue does not support them."""

    def cancel(self, job_id: str) -> JobStatus | None:
        """Cancel a job; return its previous status, or None if there is no such job."""

    def retry(self, job_id: str) -> JobStatus | None:
        """Run a FAILED, DEAD or CANCELLED job again; return its previous status."""

    def pause(self, queue: str, by: str) -> None:
        """Stop jobs of ``queue`` from starting until it is resumed."""

    def resume(self, queue: str) -> bool:
        """Undo ``pause``; return False if the queue was not paused."""

    def purge(self, queue: str) -> int:
        """Remove the waiting jobs of ``queue``; return how many were removed."""

    def command(self, worker: str, word: str) -> bool:
        """Send the command ``quiet``, ``resume``, ``stop`` or ``stacks`` to a worker."""

    def keep_totals(self) -> None:
        """Make the store start counting events, for ``Inspector.totals``."""


class Extras(TypedDict):
    """What ``Plugin.start`` receives besides the settings.

    A plugin may keep ``inspector`` and ``control``, but must not use them before the call of
    ``update_runtime``. Plugins provide backends, so backends are built after plugins start.
    """

    events: EventBus
    inspector: Inspector
    control: Control
    clock: Clock


class RunningSystem(Protocol):
    """What ``update_runtime`` receives: the assembled parts of this process."""

    @property
    def settings(self) -> Settings:
        """The settings in use."""

    @property
    def queue(self) -> BaseJobQueue:
        """The queue in use."""

    @property
    def results(self) -> BaseResultBackend:
        """The result backend in use."""

    @property
    def schedule_store(self) -> BaseScheduleStore | None:
        """Where schedules are kept; None if the backend keeps none."""

    @property
    def plugin_errors(self) -> Mapping[tuple[str, str], int]:
        """Number of failed calls into plugins, by plugin (or subscriber) and hook."""


class PluginProtocol(Protocol):
    """The minimum that an object needs to be a plugin without deriving from ``Plugin``.

    Attributes:
        api_version: The version of this interface that it was written for.
        name: Short and unique; lower case by convention.
        provides: Words for what it offers: keys of ``.nuvom_plugins.toml``
            (``queue_backend``, ``monitoring``) or words of its own.
        requires: Names or provided words of plugins that must start before it.
    """

    @property
    def api_version(self) -> str:
        """Such as ``1.0``."""

    @property
    def name(self) -> str:
        """Short and unique."""

    @property
    def provides(self) -> Sequence[str]:
        """Words for what it offers."""

    @property
    def requires(self) -> Sequence[str]:
        """What must start before it."""

    def start(self, settings: Settings, extras: Extras) -> None:
        """Register backends, subscribe, open connections; see ``Plugin.start``."""

    def stop(self) -> None:
        """Undo ``start``."""


class Plugin:
    """Base class for plugins; a subclass sets the attributes and overrides what it needs.

    It is built without arguments. Each call runs in its own thread with a time limit. A plugin
    that hangs is logged by name and abandoned.

    Attributes:
        api_version: As in ``PluginProtocol``. The default, for subclasses that do not set it, is
            1.0.
        name: If empty, the class's name in lower case.
    """

    api_version: str = "1.0"  # not API_VERSION: a plugin states what it was written for
    name: str = ""
    provides: Sequence[str] = ()
    requires: Sequence[str] = ()

    def start(self, settings: Settings, extras: Extras) -> None:
        """Register backends, subscribe to events, open connections.

        Called once, after the plugins that it requires have started and before any backend is
        built. If it raises, the plugin is not used and its ``stop`` is not called.
        """

    def stop(self) -> None:
        """Undo ``start``. Called once, before the plugins that it requires stop."""

    def update_runtime(self, runtime: RunningSystem) -> None:
        """Receive the assembled system; from this call on, ``inspector`` and ``control`` work.

        Optional: a plugin that does not derive from ``Plugin`` may omit it.
        """


def looks_like_plugin(value: object) -> TypeGuard[PluginProtocol]:
    """Return whether the instance ``value`` satisfies ``PluginProtocol``."""
    return not missing_of_plugin(value)


def missing_of_plugin(value: object) -> list[str]:
    """Return the names of the plugin members that the instance ``value`` lacks."""
    words = [name for name in ("api_version", "name") if not hasattr(value, name)]
    methods = [name for name in ("start", "stop") if not callable(getattr(value, name, None))]
    return words + methods


def is_compatible(api_version: object) -> bool:
    """Return whether ``api_version`` has the same major number, so that its plugin is usable."""
    major, dot, _ = API_VERSION.partition(".")
    return isinstance(api_version, str) and (f"{api_version}.").startswith(f"{major}{dot}")
