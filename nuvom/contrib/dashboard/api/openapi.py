"""The routes of the API, and its description in OpenAPI: both made from one table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nuvom._version import __version__
from nuvom.contrib.dashboard.api.endpoints import ENDPOINTS
from nuvom.contrib.dashboard.forms import ARGUMENTS_BYTES, sent_body, visit_of
from nuvom.contrib.dashboard.problems import HttpError
from nuvom.inspection.formats import jsonable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from nuvom.contrib.dashboard.api.endpoints import Body, Data, Endpoint, Param
    from nuvom.contrib.dashboard.site import Site

ROOT = "/api/v1"


def routes(site: Site) -> list[Route]:
    """Return the routes of the API, and of its description."""
    # The longer path first: a name may have slashes.
    found = sorted(ENDPOINTS, key=lambda one: -one.path.count("/"))
    return [
        *(
            Route(_pattern(one.path), _answer(site, one), methods=[one.method], name=one.path)
            for one in found
        ),
        Route("/openapi.json", _openapi),
    ]


def _pattern(path: str) -> str:
    return f"{ROOT}{path.replace('}', ':path}')}"


def _answer(site: Site, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        visit = visit_of(site, request)
        body: Body = {}
        if endpoint.method == "POST":
            visit.require(endpoint.right)
            body = _checked(await sent_body(request, ARGUMENTS_BYTES), endpoint.body)
        data = await to_thread.run_sync(endpoint.call, visit, body)
        return JSONResponse({"schema": endpoint.schema, **jsonable(data)}, endpoint.status)

    return answer


_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "array": list,
    "object": dict,
}


def _checked(content: bytes, params: Mapping[str, Param]) -> Body:
    """Return what was sent, if it is what the table says. Raises: HttpError."""
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        raise HttpError(400, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise HttpError(422, "The body has to be a JSON object.")
    for name, value in body.items():
        if name not in params:
            known = f"It may have: {', '.join(params)}." if params else "It has to be empty: {}."
            raise HttpError(422, f"The body has {name[:50]!r}, which means nothing here. {known}")
        kind = params[name].kind
        if not isinstance(value, _TYPES[kind]) or isinstance(value, bool):
            raise HttpError(422, f"{name} has to be of the type {kind}.")
    missing = [name for name, one in params.items() if one.is_required and name not in body]
    if missing:
        raise HttpError(422, f"The body has to have {missing[0]!r}.")
    return body


# ---- OpenAPI ----------------------------------------------------------------------------------


async def _openapi(request: Request) -> Response:
    return JSONResponse(description(request.scope.get("root_path", "")))


def description(root: str = "") -> Data:
    """Return the description of the API in OpenAPI 3.1.

    Args:
        root: Where the dashboard is mounted.
    """
    paths: dict[str, Data] = {}
    for one in ENDPOINTS:
        paths.setdefault(f"{ROOT}{one.path}", {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Nuvom",
            "version": __version__,
            "description": "Data have the keys of the command line's --json. Integers beyond 2^53 "
            "are texts, under a key that ends in _str.",
        },
        "servers": [{"url": root or "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
    }


_ERROR: Data = {
    "type": "object",
    "required": ["code", "message", "hint"],
    "properties": {
        "code": {"type": "string", "description": "A name for programs, such as JobNotFound."},
        "message": {"type": "string", "description": "What is wrong, in a sentence."},
        "hint": {"type": "string", "description": "What to do about it, or empty."},
    },
}


def _operation(one: Endpoint) -> Data:
    names = [part[1:-1] for part in one.path.split("/") if part.startswith("{")]
    in_path: list[Data] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    in_query: list[Data] = [
        {"name": name, "in": "query", "description": it.text, "schema": {"type": it.kind}}
        for name, it in one.query.items()
    ]
    words = [part.strip("{}") for part in one.path.split("/") if part]
    operation: Data = {
        "operationId": "_".join([one.method.lower(), *words]),
        "summary": one.text,
        "parameters": [*in_path, *in_query],
        "responses": {
            str(one.status): _response("The data.", _answer_schema(one)),
            "default": _response("What is wrong.", {"$ref": "#/components/schemas/Error"}),
        },
    }
    if one.method == "POST":
        content = {"application/json": {"schema": _body_schema(one.body)}}
        operation["requestBody"] = {"required": True, "content": content}
        operation["x-nuvom-action"] = one.right
    return operation


def _response(text: str, schema: Data) -> Data:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _answer_schema(one: Endpoint) -> Data:
    known = {"schema": {"type": "string", "const": one.schema}}
    return {"type": "object", "required": ["schema"], "properties": known}


def _body_schema(params: Mapping[str, Param]) -> Data:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, one in params.items() if one.is_required],
        "properties": {
            name: {"type": one.kind, "description": one.text} for name, one in params.items()
        },
    }
