"""A database file on a network file system is refused, unless the setting allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nuvom.config.settings import Settings
from nuvom.errors import BackendUnavailable
from nuvom.host import files
from nuvom.queue_backends.sqlite import SQLiteJobQueue

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _on_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "network_kind", lambda _path: "nfs4")


def test_database_on_a_network_file_system_is_refused(tmp_path: Path) -> None:
    queue = SQLiteJobQueue(Settings(root=tmp_path))
    with pytest.raises(BackendUnavailable, match="network file system"):
        queue.start()
    assert not (tmp_path / ".nuvom" / "nuvom.db").exists()


def test_setting_allows_a_network_file_system(tmp_path: Path) -> None:
    queue = SQLiteJobQueue(Settings(root=tmp_path, allow_network_fs=True))
    queue.start()
    assert queue.qsize() == 0
    queue.stop()
