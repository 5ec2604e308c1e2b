"""What a request brings along, and what the browser keeps: forms, bodies, cookies, notices."""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import anyio
from starlette.datastructures import ImmutableMultiDict
from starlette.requests import ClientDisconnect

from nuvom.contrib.dashboard.guards import RIGHTS
from nuvom.contrib.dashboard.problems import HttpError
from nuvom.contrib.dashboard.visit import Form, Visit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from nuvom.contrib.dashboard.site import Site

FORM_BYTES = 64 * 1024
ARGUMENTS_BYTES = 1024 * 1024  # of a form with a job's arguments
BODY_SECS = 30.0  # for a body to arrive
_MOST_FIELDS = 5000
CSRF, MESSAGE = "nuvom_csrf", "nuvom_message"
_MESSAGE_SECS = 60
_MOST_MESSAGE = 2000  # characters
_CSRF_FORM = re.compile(r"[\w-]{40,60}", re.ASCII)


def visit_of(site: Site, request: Request, *, form: Form | None = None, message: str = "") -> Visit:
    """Return the visit that a request is."""
    known = request.cookies.get(CSRF, "")
    csrf = known if _CSRF_FORM.fullmatch(known) else secrets.token_urlsafe(32)
    rights = request.scope[RIGHTS]
    return Visit(site, request, rights, csrf, message, form or Form(), site.changes.revision)


def set_cookie(
    request: Request, response: Response, name: str, value: str, *, max_age: int | None = None
) -> None:
    """Set a cookie that only this dashboard gets, never a script, nor with others' requests."""
    is_secure = request.url.scheme == "https"
    path = cookie_path(request)
    response.set_cookie(
        name, value, max_age, path=path, secure=is_secure, httponly=True, samesite="strict"
    )


def cookie_path(request: Request) -> str:
    """Return where cookies count: where the dashboard is mounted."""
    return request.scope.get("root_path") or "/"


def notice_for(request: Request) -> str:
    """Return what the last action did; a page that reads itself again leaves it to the next one."""
    packed = request.cookies.get(MESSAGE, "")
    if not packed or "hx-request" in request.headers:
        return ""
    try:
        return urlsafe_b64decode(packed).decode()
    except ValueError:
        return ""


def leave_notice(request: Request, response: Response, message: str) -> None:
    """Have the next page say what was done."""
    packed = urlsafe_b64encode(message[:_MOST_MESSAGE].encode("utf-8", "replace")).decode()
    set_cookie(request, response, MESSAGE, packed, max_age=_MESSAGE_SECS)


async def sent_form(request: Request, most: int) -> Form:
    """Return the fields of a form. Raises: HttpError: it is none, or not of this dashboard."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HttpError(415, "A form has to be sent as application/x-www-form-urlencoded.")
    body = await sent_body(request, most)
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise HttpError(400, "The form cannot be read.") from None
    if any("\0" in value for _, value in fields):  # not every store could look for it
        raise HttpError(400, "The form has a NUL character.")
    form: Form = ImmutableMultiDict(fields)
    known = request.cookies.get(CSRF, "")
    if not known or not hmac.compare_digest(form.get("csrf", "").encode(), known.encode()):
        what = "The form is not one that this dashboard has shown to you, so nothing was done."
        raise HttpError(403, what, "Load the page again; it needs cookies.")
    return form


async def sent_body(request: Request, most: int) -> bytes:
    """Return what was sent. Raises: HttpError: it is too long, takes too long, or has no end."""
    try:
        with anyio.fail_after(BODY_SECS):
            return await _body(request, most)
    except TimeoutError:
        what = f"The request did not arrive within {BODY_SECS:g} s."
        raise HttpError(408, what) from None
    except ClientDisconnect:
        raise HttpError(400, "The connection ended before the request did.") from None


async def _body(request: Request, most: int) -> bytes:
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > most:
            raise HttpError(413, f"More than {most // 1024} KiB were sent.")
    return bytes(found)
