"""The dashboard as an ASGI application, which FastAPI, Starlette and others can mount."""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import anyio
from anyio import to_thread
from starlette.datastructures import ImmutableMultiDict
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route, Router

from nuvom.contrib.dashboard import actions, frame, signin
from nuvom.contrib.dashboard.events import EventStream
from nuvom.contrib.dashboard.guards import RIGHTS, RequestGuard
from nuvom.contrib.dashboard.pages import (
    audit,
    errors,
    job,
    jobs,
    overview,
    queues,
    schedules,
    system,
    tasks,
    workers,
)
from nuvom.contrib.dashboard.problems import HttpError
from nuvom.contrib.dashboard.site import Site
from nuvom.contrib.dashboard.visit import Done, Form, Page, Visit
from nuvom.runtime import current_runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from nuvom.contrib.dashboard.access import Access
    from nuvom.contrib.dashboard.signin import SignIn

    Endpoint = Callable[[Request], Awaitable[Response]]

FORM_BYTES = 64 * 1024
ARGUMENTS_BYTES = 1024 * 1024  # of a form with a job's arguments
BODY_SECS = 30.0  # for a body to arrive
_MOST_FIELDS = 5000
_CSRF, _MESSAGE = "nuvom_csrf", "nuvom_message"
_MESSAGE_SECS = 60
_MOST_MESSAGE = 2000  # characters
_CSRF_FORM = re.compile(r"[\w-]{40,60}", re.ASCII)

PAGES: dict[str, Callable[[Visit], Page]] = {
    "/": overview.overview,
    "/jobs": jobs.jobs,
    "/jobs/chosen": jobs.chosen,
    "/jobs/{id:path}": job.job,
    "/errors": errors.errors,
    "/tasks": tasks.tasks,
    "/tasks/{name:path}": tasks.task,
    "/queues": queues.queues,
    "/queues/{name:path}": queues.queue,
    "/workers": workers.workers,
    "/workers/{id:path}": workers.worker,
    "/schedules": schedules.schedules,
    "/schedules/{name:path}": schedules.schedule,
    "/audit": audit.audit,
    "/system": system.system,
}
"""What each page shows. ``{name:path}`` may have slashes, as names of queues and tasks may."""


class Post(NamedTuple):
    """What a form does.

    Attributes:
        call: Its function, which writes through ``actions.perform`` and nothing else.
        right: The action that it needs; empty if the form itself says which.
        most: How many bytes it may send.
    """

    call: Callable[[Visit], Done | Page]
    right: str
    most: int = FORM_BYTES


POSTS: dict[str, Post] = {
    "/jobs/act": Post(actions.act_on_jobs, ""),
    "/jobs/{id:path}/retry": Post(actions.job_form("retry"), "retry"),
    "/jobs/{id:path}/cancel": Post(actions.job_form("cancel"), "cancel"),
    "/jobs/{id:path}/discard": Post(actions.job_form("discard"), "discard"),
    "/jobs/{id:path}/duplicate": Post(actions.duplicate, "repeat"),
    "/jobs/{id:path}/repeat": Post(job.repeat, "repeat", ARGUMENTS_BYTES),
    "/tasks/{name:path}/enqueue": Post(tasks.enqueue, "enqueue", ARGUMENTS_BYTES),
    "/errors/{fingerprint:path}/retry": Post(actions.group_form("retry"), "retry"),
    "/errors/{fingerprint:path}/discard": Post(actions.group_form("discard"), "discard"),
    "/queues/{name:path}/pause": Post(actions.pause_queue, "pause"),
    "/queues/{name:path}/resume": Post(actions.resume_queue, "pause"),
    "/queues/{name:path}/purge": Post(actions.purge_queue, "purge"),
    "/workers/{id:path}/quiet": Post(actions.worker_form("quiet"), "worker"),
    "/workers/{id:path}/resume": Post(actions.worker_form("resume"), "worker"),
    "/workers/{id:path}/stop": Post(actions.worker_form("stop"), "worker"),
    "/schedules/{name:path}/run": Post(actions.run_schedule, "schedule"),
    "/schedules/{name:path}/pause": Post(actions.pause_schedule, "schedule"),
    "/schedules/{name:path}/resume": Post(actions.resume_schedule, "schedule"),
}


def asgi(*, access: Access, hosts: Iterable[str] = ()) -> ASGIApp:
    """Return the dashboard of the current project, to be mounted: ``app.mount("/nuvom", ...)``.

    Nothing is opened before the first request.

    Args:
        access: Called with each request (Starlette's ``Request``); it may be a coroutine function.
            It returns what the person may do: ``"none"``, ``"read_only"``, ``"all"``, or a set of
            actions. An exception denies.
        hosts: Names under which the application is reached, besides ``localhost``: requests under
            other names are refused with status 421, since pages of other sites send them.
    """
    return build(Site(current_runtime), access, hosts=hosts)


def build(
    site: Site, access: Access, *, hosts: Iterable[str] = (), sign_in: SignIn | None = None
) -> ASGIApp:
    """Return the application; see ``asgi``.

    Args:
        sign_in: How people without access can get it; None if that is not up to the dashboard.
    """
    site.share(frame=frame)
    router = Router(routes(site, sign_in), default=_not_found)
    return RequestGuard(router, site, access, hosts=frozenset(hosts), sign_in=sign_in)


def routes(site: Site, sign_in: SignIn | None = None) -> list[Route]:
    """Return all routes: the tests of permissions go through them."""
    found = [Route(path, _form(site, post), methods=["POST"]) for path, post in POSTS.items()]
    found.append(Route("/jobs/{id:path}/result", _file(site, job.result_file)))
    found += [Route(path, _page(site, page)) for path, page in PAGES.items()]
    found.append(Route("/events", _events(site)))
    found.append(Route("/static/{stamp}/{name:path}", _static(site)))
    if sign_in is not None:
        found.append(Route(signin.PATH, _sign_in_page(site, sign_in)))
        found.append(Route(signin.PATH, _sign_in_form(site, sign_in), methods=["POST"]))
    return found


async def _not_found(*_: object) -> None:
    raise HttpError(404, "There is no such page.")


# ---- pages and forms --------------------------------------------------------------------------


def _page(site: Site, page: Callable[[Visit], Page]) -> Endpoint:
    """Return what answers a request: the page is made in a thread, since it reads the store."""

    async def answer(request: Request) -> Response:
        visit = _visit(site, request, message=_notice_for(request))
        response = await to_thread.run_sync(_shown, visit, page)
        if visit.message:
            response.delete_cookie(_MESSAGE, path=_cookie_path(request))
        return response

    return answer


def _file(site: Site, make: Callable[[Visit], Response]) -> Endpoint:
    """Return what answers a request for a file that is made of what is stored."""

    async def answer(request: Request) -> Response:
        return await to_thread.run_sync(make, _visit(site, request))

    return answer


def _form(site: Site, post: Post) -> Endpoint:
    """Return what answers a form: it goes on to a page, which says what was done."""

    async def answer(request: Request) -> Response:
        form = await sent_form(request, post.most)
        visit = _visit(site, request, form=form)
        if post.right or not visit.rights:
            visit.require(post.right)
        done = await to_thread.run_sync(post.call, visit)
        if isinstance(done, Page):
            return await to_thread.run_sync(_shown, visit, lambda _: done)
        response = RedirectResponse(done.to or visit.next, 303)
        _set_cookie(request, response, _MESSAGE, _packed(done.message), max_age=_MESSAGE_SECS)
        return response

    return answer


def _visit(site: Site, request: Request, *, form: Form | None = None, message: str = "") -> Visit:
    known = request.cookies.get(_CSRF, "")
    csrf = known if _CSRF_FORM.fullmatch(known) else secrets.token_urlsafe(32)
    rights = request.scope[RIGHTS]
    return Visit(site, request, rights, csrf, message, form or Form(), site.changes.revision)


def _shown(visit: Visit, page: Callable[[Visit], Page]) -> Response:
    template, context, status = page(visit)
    html = visit.site.render(template, {"visit": visit, **context})
    response = HTMLResponse(html, status)
    frame.remember(visit, response)
    if visit.request.cookies.get(_CSRF) != visit.csrf:
        _set_cookie(visit.request, response, _CSRF, visit.csrf)
    return response


def _set_cookie(
    request: Request, response: Response, name: str, value: str, *, max_age: int | None = None
) -> None:
    """Set a cookie that only this dashboard gets, never a script, nor with others' requests."""
    is_secure = request.url.scheme == "https"
    path = _cookie_path(request)
    response.set_cookie(
        name, value, max_age, path=path, secure=is_secure, httponly=True, samesite="strict"
    )


def _cookie_path(request: Request) -> str:
    return request.scope.get("root_path") or "/"


def _notice_for(request: Request) -> str:
    """Return what the last action did; a page that reads itself again leaves it to the next one."""
    packed = request.cookies.get(_MESSAGE, "")
    if not packed or "hx-request" in request.headers:
        return ""
    try:
        return urlsafe_b64decode(packed).decode()
    except ValueError:
        return ""


def _packed(message: str) -> str:
    return urlsafe_b64encode(message[:_MOST_MESSAGE].encode("utf-8", "replace")).decode()


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
    form: Form = ImmutableMultiDict(fields)
    known = request.cookies.get(_CSRF, "")
    if not known or not hmac.compare_digest(form.get("csrf", "").encode(), known.encode()):
        what = "The form is not one that this dashboard has shown to you, so nothing was done."
        raise HttpError(403, what, "Load the page again; it needs cookies.")
    return form


async def sent_body(request: Request, most: int) -> bytes:
    """Return what was sent. Raises: HttpError: it is too long, or takes too long."""
    found = bytearray()
    with anyio.move_on_after(BODY_SECS) as limit:
        async for part in request.stream():
            found += part
            if len(found) > most:
                raise HttpError(413, f"More than {most // 1024} KiB were sent.")
    if limit.cancelled_caught:
        raise HttpError(408, f"The request did not arrive within {BODY_SECS:g} s.")
    return bytes(found)


def _events(site: Site) -> Callable[[Request], Awaitable[Any]]:
    async def answer(request: Request) -> EventStream:
        since = request.headers.get("last-event-id") or request.query_params.get("since", "")
        return EventStream(site.changes, since)

    return answer


def _static(site: Site) -> Endpoint:
    async def answer(request: Request) -> Response:
        return site.static(request.path_params["name"])

    return answer


# ---- signing in -------------------------------------------------------------------------------


def _sign_in_page(site: Site, sign_in: SignIn) -> Endpoint:
    """Return what takes the token of the address that was printed, or shows a form for one."""

    async def answer(request: Request) -> Response:
        visit = _visit(site, request)
        given = visit.asked("token")
        if sign_in.is_signed_in(request):
            return RedirectResponse(_wanted(visit), 303)
        if given:
            return _entered(visit, sign_in, given)
        return _sign_in_shown(visit, sign_in)

    return answer


def _sign_in_form(site: Site, sign_in: SignIn) -> Endpoint:
    async def answer(request: Request) -> Response:
        visit = _visit(site, request, form=await sent_form(request, FORM_BYTES))
        return _entered(visit, sign_in, visit.form.get("token", "").strip())

    return answer


def _wanted(visit: Visit) -> str:
    return visit.local(visit.form.get("next") or visit.asked("next"))


def _entered(visit: Visit, sign_in: SignIn, token: str) -> Response:
    if sign_in.is_blocked(visit.request):
        problem = "Too many wrong tokens came from your address. Wait a minute, then try again."
        return _sign_in_shown(visit, sign_in, problem, 429)
    session = sign_in.open_session(visit.request, token)
    if session is None:
        problem = "This token is wrong, or was used before: the printed address works once."
        return _sign_in_shown(visit, sign_in, problem, 403)
    response = RedirectResponse(_wanted(visit), 303)
    _set_cookie(visit.request, response, sign_in.cookie, session)
    return response


def _sign_in_shown(visit: Visit, sign_in: SignIn, problem: str = "", status: int = 200) -> Response:
    context = {"problem": problem, "has_token": sign_in.has_token, "next": _wanted(visit)}
    return _shown(visit, lambda _: Page("signin.html", context, status))
