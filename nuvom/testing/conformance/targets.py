"""Kits for backends and plugins that have none: built from the class alone."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from nuvom.config.settings import Settings
from nuvom.core.ids import new_id
from nuvom.plugins.contracts import looks_like_plugin, missing_of_plugin
from nuvom.plugins.loader import build_backend
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.result_backends.base import BaseResultBackend
from nuvom.serialization.base import Codec
from nuvom.testing.builders import make_job
from nuvom.testing.conformance.law import Kit
from nuvom.testing.conformance.laws.bench import takes_clock
from nuvom.testing.conformance.laws.codec import CodecConformance
from nuvom.testing.conformance.laws.plugin import PluginConformance
from nuvom.testing.conformance.laws.queue import QueueConformance
from nuvom.testing.conformance.laws.results import ResultConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuvom.core.clock import Clock


def kit_for(target: object, kind: str | None, settings: Mapping[str, Any]) -> type[Kit]:
    """Return a kit that tests ``target``.

    Args:
        target: A kit; a backend's, codec's or plugin's class; or an instance of a codec or plugin.
        kind: A kit's ``contract``; None: inferred from the target.
        settings: What the backend needs besides the kit's own settings.

    Raises: TypeError: no kit fits.
    """
    if isinstance(target, type) and issubclass(target, Kit):
        return target
    kind = kind or _kind_of(target)
    if kind not in _BASES:
        raise TypeError(f"there is no kit for {kind!r}; there are {', '.join(_BASES)}")
    cls = target if isinstance(target, type) else type(target)
    parts: dict[str, Any]
    if kind == CodecConformance.contract:
        parts = {"make": lambda _: target() if isinstance(target, type) else target}
    elif kind == PluginConformance.contract:
        parts = {"make": lambda _: cls(), "settings": lambda _: dict(settings)}
    else:
        return type("GeneratedKit", (_Built, _BASES[kind]), {"cls": cls, "given": dict(settings)})
    return type("GeneratedKit", (_BASES[kind],), parts)


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


class _Built:
    """The part of a kit that builds a class as the runtime does, and again on the same store."""

    cls: ClassVar[type[Any]]
    given: ClassVar[dict[str, Any]]

    def make(self, tmp_path: Path, **settings: Any) -> Any:
        """Build a backend with an empty store."""
        self.opened = tmp_path, settings
        return self._build(tmp_path, **settings)

    def reopen(self, backend: Any) -> Any:
        """Build a second backend on the same store, or return None if the store would differ."""
        del backend
        root, settings = self.opened
        return self._build(root, **settings) if self._shares_its_store() else None

    def process_factory(self, backend: Any) -> Callable[[], Any] | None:
        """Return what builds one in another process, or None if the store would differ."""
        del backend
        home, name = self.cls.__module__, self.cls.__name__
        is_found = getattr(import_module(home), name, None) is self.cls
        if not is_found or not self._shares_its_store():
            return None
        root, settings = self.opened
        plain = {key: value for key, value in settings.items() if key != "clock"}
        return partial(open_backend, f"{home}:{name}", str(root), {**self.given, **plain})

    def takes_clock(self) -> bool:
        """Tell whether the class can be given a clock."""
        return takes_clock(self.cls)

    def _build(self, root: Path, clock: Clock | None = None, **settings: Any) -> Any:
        built = Settings(root=root, **{**self.given, **settings})
        return build_backend(self.cls, built) if clock is None else self.cls(built, clock=clock)

    def _shares_its_store(self) -> bool:
        """Whether two instances with equal settings share a store."""
        with TemporaryDirectory(prefix="nuvom-law-", ignore_cleanup_errors=True) as folder:
            one, other = (self._build(Path(folder)) for _ in range(2))
            is_queue = isinstance(one, BaseJobQueue)
            one.enqueue(make_job()) if is_queue else one.set_result(new_id(), 1)
            one.stop()  # so that a store that writes late counts too
            found = other.qsize() if is_queue else other.list_jobs()
            other.stop()
        return bool(found)


_BASES: dict[str, type[Kit]] = {
    one.contract: one
    for one in (QueueConformance, ResultConformance, CodecConformance, PluginConformance)
}
_CONTRACTS: dict[type, str] = {
    BaseJobQueue: QueueConformance.contract,
    BaseResultBackend: ResultConformance.contract,
    Codec: CodecConformance.contract,
}
