"""The parts of one dashboard that all its requests share: runtime, templates, static files."""

from __future__ import annotations

import threading
from hashlib import sha256
from math import inf
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import jinja2
from starlette.responses import Response

from nuvom._version import __version__
from nuvom.contrib.dashboard import charts
from nuvom.contrib.dashboard.events import StoreWatch
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.text import mask_text
from nuvom.errors import NuvomError, plural
from nuvom.inspection import formats, views
from nuvom.inspection.history import KeptHistory
from nuvom.inspection.inspector import Inspector

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from nuvom.runtime import Runtime

T = TypeVar("T")

_HOME = Path(__file__).parent
_MOST_KEPT = 200  # answers of the store that are used again for a moment
_SLOW_SECS = 0.02  # what takes longer to read is read beside the requests
_SLOW_SHARE = 30  # and not again before so many times as long have passed
_STALE_SECS = 30.0  # unless it is so old, as nobody has asked
_NEVER_CHANGES = "public, max-age=31536000, immutable"


class StaticFile(NamedTuple):
    """A file that browsers load: its content and type."""

    data: bytes
    type: str


class _Kept:
    """An answer of the store that is used again for a moment.

    Attributes:
        lock: Held while it is read.
        read_at: When that began, by the monotonic clock.
        took_secs: How long it took.
        revision: What the store was like then, as far as known.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.read_at = -inf
        self.took_secs = 0.0
        self.revision = ""
        self.value: object = None


class Site:
    """One dashboard.

    Args:
        runtime: Returns the runtime whose store is shown; its owner stops it.
        is_ending: Whether the server is about to end.
        shared: What all templates know, by name.

    Attributes:
        changes: Tells open pages of changes.
        history: What was read of the history and changes no more.
        files: What browsers load, by name.
        stamp: A hash over all files, which is part of their addresses, so that they may be cached
            for ever.
    """

    def __init__(
        self,
        runtime: Callable[[], Runtime],
        is_ending: Callable[[], bool],
    ) -> None:
        self._runtime = runtime
        self.changes = StoreWatch(lambda: Inspector(self.runtime).revision(), is_ending)
        self.history = KeptHistory()
        self.files = _static_files()
        digest = sha256()
        for name, file in sorted(self.files.items()):
            digest.update(name.encode() + b"\0" + file.data)
        self.stamp = digest.hexdigest()[:12]
        self._templates = _environment()
        self._kept: dict[Hashable, _Kept] = {}
        self._lock = threading.Lock()

    @property
    def runtime(self) -> Runtime:
        """The runtime whose store is shown.

        Raises: ConfigError, UnknownBackend, PluginError, ProjectNotFound.
        """
        return self._runtime()

    def share(self, **values: object) -> None:
        """Let all templates use some values, by name."""
        self._templates.globals.update(values)

    def kept(
        self, key: Hashable, secs: float, read: Callable[[], T], *, until_change: bool = False
    ) -> T:
        """Return what ``read`` has returned at most ``secs`` ago, so that tabs share what they ask.

        Who asks while another one reads waits for that one: no read runs twice at a time. Of a
        large store, where a read takes long, the last answer is returned at once, and a thread
        reads the next one; open pages are told once it has changed.

        Args:
            until_change: Whether a change that open pages are told of makes it out of date sooner.
        """
        with self._lock:
            found = self._kept.setdefault(key, _Kept())
            self._keep_few(key)
        seen_at = found.read_at
        age = SYSTEM_CLOCK.monotonic() - seen_at
        is_current = not until_change or found.revision == self.changes.revision
        if age <= secs and is_current:
            return cast("T", found.value)
        if found.took_secs > _SLOW_SECS and age < _STALE_SECS:
            self._read_later(found, read, _SLOW_SHARE * found.took_secs - age)
            return cast("T", found.value)
        with found.lock:
            if found.read_at == seen_at:  # else another one has just read it
                self._read(found, read)
            return cast("T", found.value)

    def _read(self, kept: _Kept, read: Callable[[], object]) -> None:
        """Read an answer anew; the caller holds its lock."""
        revision, began = self.changes.revision, SYSTEM_CLOCK.monotonic()
        kept.value = read()
        kept.took_secs = SYSTEM_CLOCK.monotonic() - began
        kept.read_at, kept.revision = began, revision

    def _read_later(self, kept: _Kept, read: Callable[[], object], secs: float) -> None:
        """Read an answer in a thread, unless that is under way."""
        if not kept.lock.acquire(blocking=False):
            return
        try:
            timer = threading.Timer(max(0.0, secs), self._read_behind, (kept, read))
            timer.daemon = True
            timer.start()
        except BaseException:
            kept.lock.release()
            raise

    def _read_behind(self, kept: _Kept, read: Callable[[], object]) -> None:
        """Read an answer for which the lock was taken."""
        before = kept.value
        try:
            if not self.changes.is_closed:
                self._read(kept, read)
        except NuvomError:
            kept.read_at = -inf  # who asks next meets the error
        finally:
            kept.lock.release()
        if kept.value != before:
            self.changes.touch()

    def forget(self) -> None:
        """Read everything again: somebody has changed something here, and wants to see it."""
        with self._lock:
            self._kept.clear()

    def _keep_few(self, key: Hashable) -> None:
        """Leave out the oldest answers, since keys come from requests."""
        self._kept[key] = self._kept.pop(key)
        while len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]

    def render(self, template: str, context: Mapping[str, object]) -> str:
        """Return a page as HTML."""
        return self._templates.get_template(template).render(site=self, **context)

    def static(self, name: str) -> Response:
        """Return a file that browsers load, or 404."""
        file = self.files.get(name)
        if file is None:
            return Response("Not found\n", 404)
        headers = {"Cache-Control": _NEVER_CHANGES}
        return Response(file.data, media_type=file.type, headers=headers)


def _static_files() -> dict[str, StaticFile]:
    folder = _HOME / "static"
    return {
        path.relative_to(folder).as_posix(): StaticFile(
            path.read_bytes(), guess_type(path.name)[0] or "application/octet-stream"
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HOME / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        ago=formats.ago,
        duration=formats.duration,
        rfc3339=formats.rfc3339,
        utc=formats.utc_text,
        number="{:,}".format,
        plural=plural,
        rate=formats.rate_text,
        short=views.short_id,
        mask=mask_text,
    )
    found.globals.update(version=__version__, charts=charts)
    return found
