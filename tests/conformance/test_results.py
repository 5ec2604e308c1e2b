"""Holds every result backend that comes with Nuvom to the laws of result backends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nuvom.config.settings import Settings
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.result_backends.base import BaseResultBackend
from nuvom.result_backends.file import FileResultBackend
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.result_backends.sqlite import SQLiteResultBackend
from nuvom.testing.conformance import ResultConformance


class TestMemory(ResultConformance):
    def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
        return MemoryResultBackend(Settings(root=tmp_path))

    def queue_beside(self, backend: BaseResultBackend) -> LeasedJobQueue:
        return MemoryJobQueue()


class TestFile(ResultConformance):
    def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
        self.root = tmp_path
        return FileResultBackend(Settings(root=tmp_path))

    def reopen(self, backend: BaseResultBackend) -> BaseResultBackend:
        return FileResultBackend(Settings(root=self.root))

    def queue_beside(self, backend: BaseResultBackend) -> LeasedJobQueue:
        return FileJobQueue(Settings(root=self.root))


class TestSQLite(ResultConformance):
    def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
        self.root = tmp_path
        return SQLiteResultBackend(Settings(root=tmp_path))

    def reopen(self, backend: BaseResultBackend) -> BaseResultBackend:
        return SQLiteResultBackend(Settings(root=self.root))

    def queue_beside(self, backend: BaseResultBackend) -> LeasedJobQueue:
        return SQLiteJobQueue(Settings(root=self.root))


class TestMemoryBesideItsQueue(TestMemory):
    """The same laws for a backend that joined a queue."""

    def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
        backend = super().make(tmp_path)
        assert backend.joins(MemoryJobQueue())
        return backend


class TestFileBesideItsQueue(TestFile):
    def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
        backend = super().make(tmp_path)
        assert backend.joins(self.queue_beside(backend))
        return backend


class TestSQLiteBesideItsQueue(TestSQLite):
    def make(self, tmp_path: Path, **settings: Any) -> BaseResultBackend:
        backend = super().make(tmp_path)
        assert backend.joins(self.queue_beside(backend))
        return backend
