"""Kits for backends and plugins that nobody wrote a kit for: made from the class alone."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.config.settings import Settings
from nuvom.core.ids import new_id
from nuvom.plugins.contracts import looks_like_plugin, missing_of_plugin
from nuvom.plugins.loader import build_backend
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.result_backends.base import BaseResultBackend
from nuvom.serialization.base import Codec
from nuvom.testing.builders import make_job
from nuvom.testing.conformance.codec import CodecConformance
from nuvom.testing.conformance.law import Kit
from nuvom.testing.conformance.plugin import PluginConformance
from nuvom.testing.conformance.queue import QueueConformance
from nuvom.testing.conformance.queue_bench import takes_clock
from nuvom.testing.conformance.results import ResultConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuvom.core.clock import Clock
    from nuvom.plugins.contracts import PluginProtocol


def kit_for(target: object, kind: str | None, settings: Mapping[str, Any]) -> Kit:
    """Return a kit that tests ``target``.

    Args:
        target: A kit or a subclass of one; a backend's, codec's or plugin's class; or an
            instance of a codec or plugin.
        kind: A kit's ``contract``; None: as the target looks.
        settings: What the backend needs beside the kit's own settings.

    Raises: TypeError: no kit fits.
    """
    if isinstance(target, Kit):
        return target
    if isinstance(target, type) and issubclass(target, Kit):
        return target()
    kind = kind or _kind_of(target)
    if kind not in _MAKERS:
        raise TypeError(f"there is no kit for {kind!r}; there are {', '.join(_MAKERS)}")
    return _MAKERS[kind](target, dict(settings))


def open_backend(place: str, root: str, settings: dict[str, Any]) -> Any:
    """Build a backend in another process; see ``QueueKit.process_factory``."""
    module, _, name = place.partition(":")
    cls = getattr(import_module(module), name)
    return build_backend(cls, Settings(root=Path(root), **settings))


def _kind_of(target: object) -> str:
    cls = target if isinstance(target, type) else type(target)
    for contract, kind in _CONTRACTS.items():
        if issubclass(cls, contract):
            return kind
    if looks_like_plugin(target):
        return PluginConformance.contract
    if callable(getattr(target, "start", None)):
        lacking = ", ".join(missing_of_plugin(target))
        raise TypeError(f"{target!r} would be a plugin, but lacks {lacking}")
    raise TypeError(
        f"{target!r} is no backend, codec or plugin: it derives from none of "
        "BaseJobQueue, BaseResultBackend, Codec and Plugin"
    )


class _Made(NamedTuple):
    """With what a backend was built, so that it can be built again."""

    backend: Any
    root: Path
    settings: dict[str, Any]
    clock: Clock | None


class _Builder:
    """Builds one class as the runtime does, and a second time on the same store."""

    def __init__(self, cls: type[Any], settings: Mapping[str, Any]) -> None:
        self.cls = cls
        self._settings = dict(settings)
        self._made: list[_Made] = []
        self._is_shared: bool | None = None

    def make(self, root: Path, given: Mapping[str, Any]) -> Any:
        """Build a backend with an empty store."""
        settings = {**self._settings, **given}
        clock = settings.pop("clock", None)
        backend = self._build(root, settings, clock)
        self._made.append(_Made(backend, root, settings, clock))
        return backend

    def again(self, backend: Any) -> Any:
        """Build a second one on the same store, or return None where it would be another."""
        made = self._of(backend)
        if not self._shares(made):
            return None
        return self._build(made.root, made.settings, made.clock)

    def factory(self, backend: Any) -> Callable[[], Any] | None:
        """Return what builds one in another process, or None where it would be another store."""
        made = self._of(backend)
        home = import_module(self.cls.__module__)
        can_be_named = getattr(home, self.cls.__name__, None) is self.cls
        if not can_be_named or not self._shares(made):
            return None
        place = f"{self.cls.__module__}:{self.cls.__name__}"
        return partial(open_backend, place, str(made.root), made.settings)

    def _build(self, root: Path, settings: dict[str, Any], clock: Clock | None) -> Any:
        built = Settings(root=root, **settings)
        return build_backend(self.cls, built) if clock is None else self.cls(built, clock=clock)

    def _of(self, backend: Any) -> _Made:
        return next(made for made in self._made if made.backend is backend)

    def _shares(self, made: _Made) -> bool:
        """Tell, once and for all, whether two instances with the same settings share a store."""
        if self._is_shared is None:
            with TemporaryDirectory(prefix="nuvom-law-", ignore_cleanup_errors=True) as folder:
                one, other = (self._build(Path(folder), made.settings, None) for _ in range(2))
                _leave_a_trace(one)
                one.stop()  # so that also a store counts that is written late
                self._is_shared = _sees_a_trace(other)
                other.stop()
        return self._is_shared


def _leave_a_trace(backend: Any) -> None:
    if isinstance(backend, BaseJobQueue):
        backend.enqueue(make_job())
    else:
        backend.set_result(new_id(), 1)


def _sees_a_trace(backend: Any) -> bool:
    if isinstance(backend, BaseJobQueue):
        return backend.qsize() > 0
    return bool(backend.list_jobs())


def _queue_kit(cls: Any, settings: dict[str, Any]) -> Kit:
    builder = _Builder(cls, settings)

    class GeneratedQueueKit(QueueConformance):
        """Tests one class, built as the runtime builds it."""

        def make(self, tmp_path: Path, **settings: Any) -> BaseJobQueue:
            queue: BaseJobQueue = builder.make(tmp_path, settings)
            return queue

        def takes_clock(self) -> bool:
            return takes_clock(cls)

        def reopen(self, queue: BaseJobQueue) -> BaseJobQueue | None:
            other: BaseJobQueue | None = builder.again(queue)
            return other

        def process_factory(self, queue: BaseJobQueue) -> Callable[[], BaseJobQueue] | None:
            return builder.factory(queue)

    return GeneratedQueueKit()


def _result_kit(cls: Any, settings: dict[str, Any]) -> Kit:
    builder = _Builder(cls, settings)

    class GeneratedResultKit(ResultConformance):
        """Tests one class, built as the runtime builds it."""

        def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
            backend: BaseResultBackend = builder.make(tmp_path, settings)
            return backend

        def reopen(self, backend: BaseResultBackend) -> BaseResultBackend | None:
            other: BaseResultBackend | None = builder.again(backend)
            return other

    return GeneratedResultKit()


def _codec_kit(target: Any, settings: dict[str, Any]) -> Kit:
    del settings

    class GeneratedCodecKit(CodecConformance):
        """Tests one codec."""

        def make(self) -> Codec:
            codec: Codec = target() if isinstance(target, type) else target
            return codec

    return GeneratedCodecKit()


def _plugin_kit(target: Any, settings: dict[str, Any]) -> Kit:
    cls = target if isinstance(target, type) else type(target)

    class GeneratedPluginKit(PluginConformance):
        """Tests one plugin."""

        def make(self) -> PluginProtocol:
            plugin: PluginProtocol = cls()
            return plugin

        def settings(self) -> dict[str, Any]:
            return settings

    return GeneratedPluginKit()


_CONTRACTS: dict[type, str] = {
    BaseJobQueue: QueueConformance.contract,
    BaseResultBackend: ResultConformance.contract,
    Codec: CodecConformance.contract,
}
_MAKERS: dict[str, Callable[[Any, dict[str, Any]], Kit]] = {
    QueueConformance.contract: _queue_kit,
    ResultConformance.contract: _result_kit,
    CodecConformance.contract: _codec_kit,
    PluginConformance.contract: _plugin_kit,
}
