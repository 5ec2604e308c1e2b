"""The web dashboard: ``nuvom dashboard``, or mounted in an application on ASGI.

Needs the extra: ``pip install "nuvom[dashboard]"``.
"""

from nuvom.errors import MissingExtra

try:
    from nuvom.contrib.dashboard.app import asgi
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"anyio", "jinja2", "starlette"}:
        raise
    raise MissingExtra("nuvom.dashboard", "dashboard") from error

__all__ = ["asgi"]
