"""The parts of one dashboard that all its requests share: runtime, templates, static files."""

from __future__ import annotations

from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jinja2
from starlette.responses import Response

from nuvom._version import __version__
from nuvom.contrib.dashboard import charts
from nuvom.core.text import mask_text
from nuvom.inspection import formats, views

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuvom.runtime import Runtime

_HOME = Path(__file__).parent
_NEVER_CHANGES = "public, max-age=31536000, immutable"


class StaticFile(NamedTuple):
    """A file that browsers load: its content and type."""

    data: bytes
    type: str


class Site:
    """One dashboard over one runtime.

    Attributes:
        runtime: The runtime whose store is shown; its owner stops it.
        files: What browsers load, by name.
        stamp: A hash over all files, which is part of their addresses, so that they may be cached
            for ever.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.files = _static_files()
        digest = sha256()
        for name, file in sorted(self.files.items()):
            digest.update(name.encode() + b"\0" + file.data)
        self.stamp = digest.hexdigest()[:12]
        self._templates = _environment()

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
        short=views.short_id,
        mask=mask_text,
    )
    found.globals.update(version=__version__, charts=charts)
    return found
