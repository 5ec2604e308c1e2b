from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.config import Settings
from nuvom.result_backends.file import FileResultBackend
from nuvom.testing.conformance.results import ResultConformance

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.result_backends.base import BaseResultBackend


class TestFileResultBackend(ResultConformance):
    def make(self, tmp_path: Path, **settings: Any) -> FileResultBackend:
        return FileResultBackend(Settings(root=tmp_path, **settings))

    def reopen(self, backend: BaseResultBackend) -> FileResultBackend:
        assert isinstance(backend, FileResultBackend)
        return FileResultBackend(backend.store.settings)
