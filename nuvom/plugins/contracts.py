"""What a plugin is and what it is given: the interface that plugin authors write against.

A plugin may subclass ``Plugin`` or merely look like one. Names here are stable for as long as
the major part of ``API_VERSION`` stays the same.
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

API_VERSION = "1.0"


class Inspector(Protocol):
    """All that may be read of stored jobs, whatever the backends are.

    Lists are empty where the backend cannot tell.
    """

    def snapshot(self, job_id: str) -> JobSnapshot:
        """Return one job. Raises: JobNotFound."""
        ...

    def page(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobSnapshot]:
        """Return jobs, newest first; ``before`` is the last id of the page before."""
        ...

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the closed attempts that are kept, oldest first."""
        ...

    def stats(self) -> list[QueueStats]:
        """Return counts for each queue, by name."""
        ...

    def workers(self) -> list[WorkerInfo]:
        """Return the workers that are not known to be dead."""
        ...

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped by fingerprint, latest first."""
        ...

    def totals(self) -> list[Total]:
        """Return what the store has counted since ``Control.keep_totals``."""
        ...

    def store_size(self) -> StoreSize | None:
        """Return how large the store is; None where nobody can tell."""
        ...

    def is_manifest_stale(self) -> bool:
        """Return whether the list of tasks is out of date. Raises: InvalidManifest."""
        ...


class Control(Protocol):
    """Changes that people ask for. All raise CapabilityMissing where the queue cannot."""

    def cancel(self, job_id: str) -> JobStatus | None:
        """Cancel a job; return its status before, None when there is no such job."""
        ...

    def retry(self, job_id: str) -> JobStatus | None:
        """Run a FAILED, DEAD or CANCELLED job again; return its status before."""
        ...

    def pause(self, queue: str, by: str) -> None:
        """Let no job of ``queue`` start until it is resumed."""
        ...

    def resume(self, queue: str) -> bool:
        """Undo ``pause``; False when it was not paused."""
        ...

    def purge(self, queue: str) -> int:
        """Remove the waiting jobs of ``queue``; return how many."""
        ...

    def command(self, worker: str, word: str) -> bool:
        """Leave ``quiet``, ``resume``, ``stop`` or ``stacks`` for a worker."""
        ...

    def keep_totals(self) -> None:
        """Have the store count what happens from now on, for ``Inspector.totals``."""
        ...


class Extras(TypedDict):
    """What ``Plugin.start`` is given beside the settings.

    ``inspector`` and ``control`` may be kept, but not used before ``update_runtime`` was
    called: the backends they act on are built after plugins start, since plugins offer them.
    """

    events: EventBus
    inspector: Inspector
    control: Control
    clock: Clock


class RunningSystem(Protocol):
    """What ``update_runtime`` is given: the composed parts of this process."""

    @property
    def settings(self) -> Settings:
        """The settings in use."""
        ...

    @property
    def queue(self) -> BaseJobQueue:
        """The queue in use."""
        ...

    @property
    def results(self) -> BaseResultBackend:
        """The result backend in use."""
        ...

    @property
    def plugin_errors(self) -> Mapping[tuple[str, str], int]:
        """How often calls into plugins failed, by plugin (or subscriber) and hook."""
        ...


class PluginProtocol(Protocol):
    """The least that something needs to be a plugin, without deriving from ``Plugin``.

    Attributes:
        api_version: The version of this interface that it was written for.
        name: Short and unique; lower case by custom.
        provides: Words for what it offers: the keys of ``.nuvom_plugins.toml``
            (``queue_backend``, ``monitoring``), or words of its own.
        requires: Names or provided words of plugins that have to be started before it.
    """

    @property
    def api_version(self) -> str:
        """Such as ``1.0``."""
        ...

    @property
    def name(self) -> str:
        """Short and unique."""
        ...

    @property
    def provides(self) -> Sequence[str]:
        """Words for what it offers."""
        ...

    @property
    def requires(self) -> Sequence[str]:
        """What has to be started before it."""
        ...

    def start(self, settings: Settings, extras: Extras) -> None:
        """Register, subscribe, open; see ``Plugin.start``."""
        ...

    def stop(self) -> None:
        """Undo ``start``."""
        ...


class Plugin:
    """Base class of plugins; a subclass sets the attributes and overrides what it needs.

    It is built without arguments. Everything is called in a thread of its own with a time
    limit: a plugin that hangs is named and left behind.

    Attributes:
        api_version: As in ``PluginProtocol``. A subclass that says nothing means 1.0.
        name: Empty stands for the class's name in lower case.
    """

    api_version: str = "1.0"  # not API_VERSION: it says what was meant, not what is current
    name: str = ""
    provides: Sequence[str] = ()
    requires: Sequence[str] = ()

    def start(self, settings: Settings, extras: Extras) -> None:
        """Register backends, subscribe to events, open connections.

        Called once, after the plugins that it requires and before any backend is built. An
        exception means that the plugin is not used; its ``stop`` is then not called.
        """

    def stop(self) -> None:
        """Undo ``start``. Called once, before the plugins that it requires are stopped."""

    def update_runtime(self, runtime: RunningSystem) -> None:
        """Take note of the composed system; ``inspector`` and ``control`` work from now on.

        Optional: a plugin that only looks like one may lack it.
        """


def looks_like_plugin(value: object) -> TypeGuard[PluginProtocol]:
    """Return whether ``value``, an instance, has what ``PluginProtocol`` asks for."""
    return not missing_of_plugin(value)


def missing_of_plugin(value: object) -> list[str]:
    """Return what ``value``, an instance, lacks of a plugin, by name."""
    words = [name for name in ("api_version", "name") if not hasattr(value, name)]
    methods = [name for name in ("start", "stop") if not callable(getattr(value, name, None))]
    return words + methods


def is_compatible(api_version: object) -> bool:
    """Return whether a plugin written for ``api_version`` can be used: the same major number."""
    major, dot, _ = API_VERSION.partition(".")
    return isinstance(api_version, str) and (f"{api_version}.").startswith(f"{major}{dot}")
