"""The address of a store, as one text: ``sqlite:///srv/app/nuvom.db``, ``redis://db.example.com``."""

from __future__ import annotations

import os
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

import msgspec

from nuvom.config.settings import SETTINGS, Settings
from nuvom.errors import InvalidAddress

_BACKENDS = {
    "sqlite": ("sqlite", "sqlite_path"),
    "file": ("file", "file_path"),
    "postgresql": ("postgres", "postgres_dsn"),
    "postgres": ("postgres", "postgres_dsn"),
    "redis": ("redis", "redis_url"),
    "rediss": ("redis", "redis_url"),
    "unix": ("redis", "redis_url"),
}


class StoreAddress(NamedTuple):
    """A store that holds a queue and its results.

    Attributes:
        name: What people are shown: the address without user, password and options.
        settings: Those of a project that uses the store.
    """

    name: str
    settings: Settings

    @classmethod
    def of(cls, url: str, settings: Settings) -> Self:
        """Return the address that ``url`` is.

        A path is absolute after ``sqlite:///`` or ``file:///``, and relative to the project's root
        in ``sqlite:PATH`` or ``file:PATH``. Schema and prefix are those of ``settings``.

        Raises: InvalidAddress.
        """
        scheme, colon, rest = url.partition(":")
        if not colon or scheme.lower() not in _BACKENDS:
            raise InvalidAddress(_without_secrets(url))
        backend, setting = _BACKENDS[scheme.lower()]
        changed = {"queue_backend": backend, "result_backend": backend}
        is_path = backend in ("sqlite", "file")
        if is_path:
            path = unquote(rest.removeprefix("//"))
            url = str(settings.resolve("/" + path.lstrip("/") if path[:1] == "/" else path))
        value = SETTINGS[setting].check(url, "the address of a store")
        shown = f"{backend}://{os.path.realpath(url)}" if is_path else _without_secrets(url)
        separate = {"sqlite_queue_path": None, "sqlite_result_path": None}
        return cls(
            shown, msgspec.structs.replace(settings, **changed, **separate, **{setting: value})
        )


def _without_secrets(url: str) -> str:
    """Return an address of a server without its user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
