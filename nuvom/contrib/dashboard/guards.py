"""What stands in front of every route: hosts, origins, access, headers and answers to errors.

Plain ASGI: nothing buffers what passes through, and streams end when their client leaves.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from nuvom.contrib.dashboard.access import SIGN_IN, TOO_MANY, rights_of
from nuvom.contrib.dashboard.problems import UNEXPECTED, HttpError, problem_of
from nuvom.contrib.dashboard.visit import Visit, route_path
from nuvom.errors import NuvomError
from nuvom.inspection.formats import jsonable
from nuvom.log import get_logger

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from nuvom.contrib.dashboard.access import Access, SignIn
    from nuvom.contrib.dashboard.site import Site

RIGHTS = "nuvom.rights"
"""The key of a scope under which routes find the rights of who asks."""

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Browsers take the last policy that they know. With "no-referrer" alone, they do not say where
    # a form comes from: "Origin: null".
    "Referrer-Policy": "no-referrer, same-origin",
}
_FOR_PROGRAMS = ("/api/", "/events", "/healthz", "/metrics", "/openapi.json", "/readyz")
_JSON = "application/json"
_PORT = re.compile(r":\d*$")
_LOG = get_logger("nuvom.dashboard")


class RequestGuard:
    """The outermost part of the application: lets a request pass, or answers it.

    Args:
        access: Says what a request may do.
        hosts: Names under which the dashboard may be called, besides those of this machine for
            itself; ``*`` adds all IP addresses. A page of another name would be somebody else's.
        sign_in: Where people without access are sent, if they can sign in here.
    """

    def __init__(
        self,
        app: ASGIApp,
        site: Site,
        access: Access,
        *,
        hosts: frozenset[str],
        sign_in: SignIn | None = None,
    ) -> None:
        self._app = app
        self._site = site
        self._access = access
        self._hosts = LOCAL_HOSTS | {one.lower() for one in hosts}
        self._sign_in = sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        request = Request(scope, receive)
        refusal: Response | None = None
        try:
            refusal = await self._refused(request)
            if refusal is None:
                await self._app(request.scope, receive, answer.send)
        except Exception as error:
            if answer.has_started:
                raise
            refusal = self.told(request, error)
        if refusal is not None:
            await refusal(scope, receive, answer.send)

    async def _refused(self, request: Request) -> Response | None:
        """Return the answer to a request without access, None if it may pass.

        Raises: HttpError.
        """
        self._check_host(request)
        _check_origin(request)
        path = route_path(request.scope)
        if "\0" in path or b"%00" in request.scope["query_string"]:
            raise HttpError(400, "The address has a NUL character, which no name has.")
        # A copy: the rights and the application are no business of who mounted this one.
        request.scope = {**request.scope, "app": self, RIGHTS: frozenset()}
        if path.startswith("/static/") or (self._sign_in is not None and path == SIGN_IN):
            return None
        rights = await rights_of(self._access, request)
        if rights is not None:
            request.scope[RIGHTS] = rights
            return None
        if self._sign_in is None:
            fix = "Ask whoever runs this dashboard for access."
            raise HttpError(403, "You may not see this dashboard.", fix)
        if _is_for_programs(path) or request.method not in {"GET", "HEAD"}:
            if self._sign_in.is_blocked(request):
                raise HttpError(429, TOO_MANY, "Wait a minute, then try again.")
            fix = "Open the address that nuvom dashboard has printed, or send its token."
            raise HttpError(401, "You are not signed in.", fix, www_authenticate="Bearer")
        visit = Visit(self._site, request, frozenset())
        return RedirectResponse(visit.url(SIGN_IN, next=visit.here()), 303)

    def _check_host(self, request: Request) -> None:
        given = request.headers.getlist("host")
        name = _host_name(given[0]) if len(given) == 1 else ""
        if name not in self._hosts and not ("*" in self._hosts and _is_address(name)):
            what = f'This dashboard does not answer under the name "{name}".'
            fix = "Start it with --allow-host NAME, or mount it with hosts=[NAME]."
            raise HttpError(421, what, fix)

    def told(self, request: Request, error: Exception) -> Response:
        """Return the answer that tells of an error: never where in the code it came from."""
        match error:
            case HttpError():
                problem = error
            case NuvomError():
                problem = problem_of(error)
            case HTTPException(status_code=404):
                problem = HttpError(404, f"There is no page {route_path(request.scope)}.")
            case HTTPException():
                what = f"{request.method} is not possible here."
                problem = HttpError(error.status_code, what)
            case _:
                _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
                problem = UNEXPECTED
        if problem.status >= 500:  # noqa: PLR2004  # it is not the sender's fault
            _LOG.log(logging.WARNING, "%s: %s", request.url.path, problem.what)
        return shown(self._site, request, problem)


def shown(site: Site, request: Request, problem: HttpError) -> Response:
    """Return a problem as JSON for programs and as a page for people."""
    if _is_for_programs(route_path(request.scope)):
        # What was sent may be half of a surrogate pair, which no answer can hold.
        return JSONResponse(jsonable(problem.data), problem.status, problem.headers)
    visit = Visit(site, request, request.scope.get(RIGHTS, frozenset()))
    text = site.render("error.html", {"visit": visit, "problem": problem})
    return HTMLResponse(text, problem.status, problem.headers)


class _Answer:
    """Adds the headers that every answer has, and notes that it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def _check_origin(request: Request) -> None:
    """Refuse what another site's page has sent. Raises: HttpError."""
    path, is_safe = route_path(request.scope), request.method in {"GET", "HEAD"}
    if is_safe and path != "/events":
        return
    headers = request.headers
    origins = headers.getlist("origin")
    is_for_programs = _is_for_programs(path)
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        origins = ["another site"]
    if not origins and (is_safe or is_for_programs):
        pass  # a program, which no page can make send what it wants
    elif len(origins) != 1 or not _is_own(origins[0], headers.get("host", "")):
        what = "The request does not come from a page of this dashboard, so nothing was done."
        fix = "Load the page again. A proxy in front has to pass the header Host unchanged."
        raise HttpError(403, what, fix)
    # Pages of other sites can send forms here, but no JSON without being asked first.
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if is_for_programs and not is_safe and kind != _JSON:
        raise HttpError(415, f"Content-Type has to be {_JSON}.")


def _is_own(origin: str, host: str) -> bool:
    try:
        found = urlsplit(origin)
    except ValueError:
        return False
    return found.scheme in {"http", "https"} and found.netloc.lower() == host.lower() != ""


def _host_name(given: str) -> str:
    return _PORT.sub("", given.lower()).rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_for_programs(path: str) -> bool:
    return path.startswith(_FOR_PROGRAMS)
