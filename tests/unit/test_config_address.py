"""Addresses of stores: what they mean, and what of them people are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nuvom.config.address import StoreAddress
from nuvom.config.settings import Settings
from nuvom.errors import InvalidAddress, InvalidSetting

SECRET = "me:pass@word@db.example.com:5433"


@pytest.mark.parametrize(
    ("url", "name", "settings"),
    [
        ("sqlite:///srv/a%20b.db", "sqlite:///srv/a b.db", {"sqlite_path": "/srv/a b.db"}),
        ("sqlite:////srv/a.db", "sqlite:///srv/a.db", {"sqlite_path": "/srv/a.db"}),
        ("sqlite:x/../a.db", "sqlite://ROOT/a.db", {"sqlite_path": "ROOT/x/../a.db"}),
        ("file:///srv/jobs", "file:///srv/jobs", {"file_path": "/srv/jobs"}),
        ("FILE:jobs", "file://ROOT/jobs", {"file_path": "ROOT/jobs"}),
        (
            f"postgresql://{SECRET}/app?sslmode=require",
            "postgresql://db.example.com:5433/app",
            {"postgres_dsn": f"postgresql://{SECRET}/app?sslmode=require"},
        ),
        ("redis://:pass@c/1", "redis://c/1", {"redis_url": "redis://:pass@c/1"}),
    ],
)
def test_an_address_names_a_queue_and_its_results(
    tmp_path: Path, url: str, name: str, settings: dict[str, Any]
) -> None:
    given = Settings(root=tmp_path, sqlite_queue_path="apart.db", lease_secs=7.0)
    address = StoreAddress.of(url, given)
    assert name.replace("ROOT", str(tmp_path)) == address.name
    for key, value in settings.items():
        assert value.replace("ROOT", str(tmp_path)) == getattr(address.settings, key)
    backend = {"postgresql": "postgres"}.get(url.partition(":")[0].lower(), url.partition(":")[0])
    assert {backend.lower()} == {address.settings.queue_backend, address.settings.result_backend}
    assert (None, 7.0) == (address.settings.sqlite_queue_path, address.settings.lease_secs)


@pytest.mark.parametrize("url", ["", "jobs.db", "mysql://me:secret@host/db"])
def test_any_other_text_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidAddress) as raised:
        StoreAddress.of(url, Settings(root=tmp_path))
    assert "secret" not in str(raised.value)


def test_a_path_that_no_setting_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting):
        StoreAddress.of("sqlite:a%00b", Settings(root=tmp_path))
