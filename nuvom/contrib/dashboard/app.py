"""The dashboard as an ASGI application, which FastAPI, Starlette and others can mount."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from nuvom.contrib.dashboard.pages import queues
from nuvom.contrib.dashboard.site import Site
from nuvom.contrib.dashboard.visit import Page, Visit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from nuvom.runtime import Runtime

_PAGES: dict[str, Callable[[Visit], Page]] = {
    "/queues": queues.queues,
}


def build(runtime: Runtime) -> Starlette:
    """Return the application over ``runtime``."""
    site = Site(runtime)
    routes = [Route(path, _endpoint(site, page)) for path, page in _PAGES.items()]
    routes.append(Route("/static/{stamp}/{name:path}", _static(site)))
    return Starlette(routes=routes)


def _endpoint(
    site: Site, page: Callable[[Visit], Page]
) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers a request: the page is made in a thread, since it reads the store."""

    async def answer(request: Request) -> Response:
        visit = Visit(site, request, frozenset())
        return await to_thread.run_sync(_shown, visit, page)

    return answer


def _shown(visit: Visit, page: Callable[[Visit], Page]) -> Response:
    template, context, status = page(visit)
    return HTMLResponse(visit.site.render(template, {"visit": visit, **context}), status)


def _static(site: Site) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return site.static(request.path_params["name"])

    return answer
