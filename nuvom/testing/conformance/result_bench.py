"""Where a result backend stands while a law is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from unittest import SkipTest

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.result_backends.base import BaseResultBackend


class ResultMaker(Protocol):
    """What a bench asks of its kit; see ``ResultConformance``."""

    @property
    def patience_secs(self) -> float:
        """A limit for what takes no time."""
        ...

    def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
        """Return a backend with an empty store."""
        ...

    def reopen(self, backend: BaseResultBackend) -> BaseResultBackend | None:
        """Return a second backend on the same store."""
        ...


class ResultBench:
    """One result backend under test.

    Attributes:
        backend: Made for this law, with an empty store.
        folder: Empty, of this law alone.
        patience_secs: A limit for what takes no time.
    """

    def __init__(self, kit: ResultMaker, folder: Path) -> None:
        self.folder = folder
        self._kit = kit
        self.patience_secs = kit.patience_secs
        self._opened: list[BaseResultBackend] = []
        self.backend = self.open()

    def open(self) -> BaseResultBackend:
        """Return another backend, with an empty store of its own."""
        store = self.folder / f"store{len(self._opened)}"
        store.mkdir()
        self._opened.append(self._kit.make(store))
        return self._opened[-1]

    def reopen(self) -> BaseResultBackend:
        """Return a second backend on the store of ``backend``. Skips where there can be none."""
        other = self._kit.reopen(self.backend)
        if other is None:
            raise SkipTest("the store is not shared between instances")
        self._opened.append(other)
        return other

    def full(self, job_id: str) -> dict[str, Any]:
        """Return ``get_full`` of a job that has to be there."""
        full = self.backend.get_full(job_id)
        assert full is not None, f"get_full({job_id}) gave None for a job that is kept"
        return full

    def close(self) -> None:
        """Stop everything."""
        for backend in self._opened:
            backend.stop()
