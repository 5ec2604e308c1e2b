"""The dashboard as an ASGI application, which FastAPI, Starlette and others can mount."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from anyio import to_thread
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, Router

from nuvom.contrib.dashboard import actions, frame
from nuvom.contrib.dashboard.access import SIGN_IN, TOO_MANY
from nuvom.contrib.dashboard.api import openapi
from nuvom.contrib.dashboard.events import EventStream, server_is_ending
from nuvom.contrib.dashboard.forms import (
    ARGUMENTS_BYTES,
    CSRF,
    FORM_BYTES,
    MESSAGE,
    cookie_path,
    leave_notice,
    notice_for,
    sent_form,
    set_cookie,
    visit_of,
)
from nuvom.contrib.dashboard.guards import RequestGuard
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
from nuvom.contrib.dashboard.visit import Done, Page, Visit
from nuvom.errors import MissingExtra, NuvomError
from nuvom.inspection.inspector import Inspector
from nuvom.runtime import current_runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from nuvom.contrib.dashboard.access import Access, SignIn
    from nuvom.runtime import Runtime

    Endpoint = Callable[[Request], Awaitable[Response]]

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
    "/queues/{name:path}/purge": Post(queues.purge, "purge"),
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
    return build(site_over(current_runtime), access, hosts=hosts)


def site_over(
    runtime: Callable[[], Runtime], is_ending: Callable[[], bool] = server_is_ending
) -> Site:
    """Return what all requests share; see ``Site``."""
    return Site(runtime, is_ending)


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
    found += openapi.routes(site)
    found.append(Route("/healthz", _healthz))
    found.append(Route("/readyz", _readyz(site)))
    found.append(Route("/metrics", _Metrics(site).answer))
    found.append(Route("/events", _events(site)))
    found.append(Route("/static/{stamp}/{name:path}", _static(site)))
    if sign_in is not None:
        found.append(Route(SIGN_IN, _sign_in_page(site, sign_in)))
        found.append(Route(SIGN_IN, _sign_in_form(site, sign_in), methods=["POST"]))
    return found


async def _not_found(*_: object) -> None:
    raise HttpError(404, "There is no such page.")


# ---- pages and forms --------------------------------------------------------------------------


def _page(site: Site, page: Callable[[Visit], Page]) -> Endpoint:
    """Return what answers a request: the page is made in a thread, since it reads the store."""

    async def answer(request: Request) -> Response:
        visit = visit_of(site, request, message=notice_for(request))
        response = await to_thread.run_sync(_shown, visit, page)
        if visit.message:
            response.delete_cookie(MESSAGE, path=cookie_path(request))
        return response

    return answer


def _file(site: Site, make: Callable[[Visit], Response]) -> Endpoint:
    """Return what answers a request for a file that is made of what is stored."""

    async def answer(request: Request) -> Response:
        return await to_thread.run_sync(make, visit_of(site, request))

    return answer


def _form(site: Site, post: Post) -> Endpoint:
    """Return what answers a form: it goes on to a page, which says what was done."""

    async def answer(request: Request) -> Response:
        form = await sent_form(request, post.most)
        visit = visit_of(site, request, form=form)
        if post.right or not visit.rights:
            visit.require(post.right)
        try:
            done = await to_thread.run_sync(post.call, visit)
        finally:
            site.forget()
        if isinstance(done, Page):
            return await to_thread.run_sync(_shown, visit, lambda _: done)
        response = RedirectResponse(done.to or visit.next, 303)
        leave_notice(request, response, done.message)
        return response

    return answer


def _shown(visit: Visit, page: Callable[[Visit], Page]) -> Response:
    template, context, status = page(visit)
    html = visit.site.render(template, {"visit": visit, **context})
    response = HTMLResponse(html, status)
    frame.remember(visit, response)
    if visit.request.cookies.get(CSRF) != visit.csrf:
        set_cookie(visit.request, response, CSRF, visit.csrf)
    return response


def _events(site: Site) -> Callable[[Request], Awaitable[Any]]:
    async def answer(request: Request) -> EventStream:
        since = request.headers.get("last-event-id") or request.query_params.get("since", "")
        return EventStream(site.changes, since)

    return answer


def _static(site: Site) -> Endpoint:
    async def answer(request: Request) -> Response:
        return site.static(request.path_params["name"])

    return answer


# ---- for those who watch the server -------------------------------------------------------------


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


def _readyz(site: Site) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        try:
            await to_thread.run_sync(Inspector(site.runtime).revision)
        except NuvomError:
            return PlainTextResponse("not ok\n", 503)
        return PlainTextResponse("ok\n")

    return answer


class _Metrics:
    """``/metrics``: the text of the Prometheus plugin, made when it is first asked for."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._text: Callable[[], bytes] | None = None

    async def answer(self, _: Request) -> Response:
        text = await to_thread.run_sync(self._read)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    def _read(self) -> bytes:
        if self._text is None:
            try:
                # Only here: the package behind it is one of its own.
                plugin = import_module("nuvom.contrib.prometheus.plugin")
            except MissingExtra as error:
                raise HttpError(404, error.what, error.fix) from None
            runtime = self._site.runtime
            inspector = Inspector(runtime)
            self._text = plugin.text_source(runtime, inspector, runtime.bus, runtime.clock)
        return self._text()


# ---- signing in -------------------------------------------------------------------------------


def _sign_in_page(site: Site, sign_in: SignIn) -> Endpoint:
    """Return what takes the token of the address that was printed, or shows a form for one."""

    async def answer(request: Request) -> Response:
        visit = visit_of(site, request)
        given = visit.asked("token")
        if sign_in.is_signed_in(request):
            return RedirectResponse(_wanted(visit), 303)
        if given:
            return _entered(visit, sign_in, given)
        return _sign_in_shown(visit, sign_in)

    return answer


def _sign_in_form(site: Site, sign_in: SignIn) -> Endpoint:
    async def answer(request: Request) -> Response:
        visit = visit_of(site, request, form=await sent_form(request, FORM_BYTES))
        return _entered(visit, sign_in, visit.form.get("token", "").strip())

    return answer


def _wanted(visit: Visit) -> str:
    return visit.local(visit.form.get("next") or visit.asked("next"))


def _entered(visit: Visit, sign_in: SignIn, token: str) -> Response:
    if sign_in.is_blocked(visit.request):
        problem = f"{TOO_MANY} Wait a minute, then try again."
        return _sign_in_shown(visit, sign_in, problem, 429)
    session = sign_in.open_session(visit.request, token)
    if session is None:
        problem = "This token is wrong, or was used before: the printed address works once."
        return _sign_in_shown(visit, sign_in, problem, 403)
    response = RedirectResponse(_wanted(visit), 303)
    set_cookie(visit.request, response, sign_in.cookie, session)
    return response


def _sign_in_shown(visit: Visit, sign_in: SignIn, problem: str = "", status: int = 200) -> Response:
    context = {"problem": problem, "has_token": sign_in.has_token, "next": _wanted(visit)}
    return _shown(visit, lambda _: Page("signin.html", context, status))
