"""One request to the dashboard: who asks, what they may do, and what pages need of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from starlette.datastructures import ImmutableMultiDict

from nuvom.contrib.dashboard.problems import HttpError
from nuvom.inspection.inspector import Inspector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import Scope

    from nuvom.contrib.dashboard.site import Site
    from nuvom.runtime import Runtime

Form = ImmutableMultiDict[str, str]
_LONGEST_NEXT = 4000  # characters of an address to go on to
_MOST_DIGITS = 18  # of a number in 64 bits


class Page(NamedTuple):
    """What a page function returns.

    Attributes:
        template: The name of a file in ``templates/``.
        context: What the template shows, besides ``visit``.
        status: The HTTP status.
    """

    template: str
    context: Mapping[str, object]
    status: int = 200


class Done(NamedTuple):
    """What a form's function returns once it has done its work.

    Attributes:
        message: What happened, in a sentence; the next page shows it once.
        to: The address of that page; empty for the one that the form names.
    """

    message: str
    to: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """One request.

    Attributes:
        site: The application that is asked.
        rights: Names of the actions that this person may do; see ``access.py``.
        csrf: What each form has to send back.
        message: What the last action did, to be shown once; or "".
        form: What a form has sent: ``visit.form.get("epoch", "")``, ``visit.form.getlist("id")``.
        revision: What the store looked like before the page was read: ``/events?since=...`` then
            tells of every later change.
    """

    site: Site
    request: Request
    rights: frozenset[str]
    csrf: str = ""
    message: str = ""
    form: Form = field(default_factory=Form)
    revision: str = ""

    @property
    def runtime(self) -> Runtime:
        """The runtime whose store is shown."""
        return self.site.runtime

    @property
    def inspector(self) -> Inspector:
        """Reads the store."""
        return Inspector(self.site.runtime, self.site.history)

    @property
    def now(self) -> float:
        """The time by the store's clock, in seconds since the epoch."""
        return self.site.runtime.clock.now()

    @property
    def who(self) -> str:
        """Who asks, as far as is known: the name of the application's user, or "dashboard"."""
        user = self.request.scope.get("user")
        is_known = getattr(user, "is_authenticated", False)
        return str(getattr(user, "display_name", user)) if is_known else "dashboard"

    @property
    def source(self) -> str:
        """From which address."""
        client = self.request.client
        return "" if client is None else client.host

    @property
    def by(self) -> str:
        """Who asks and from where, as stores keep it of a pause: ``dashboard@127.0.0.1``."""
        return f"{self.who}@{self.source}"

    @property
    def next(self) -> str:
        """Where a form wants to go on."""
        return self.local(self.form.get("next", ""))

    def local(self, given: str) -> str:
        """Return an address if it is that of a page of this dashboard, else that of the first."""
        root = self.request.scope.get("root_path", "")
        is_local = given.startswith(f"{quote(root)}/") and not given.startswith("//")
        is_plain = given.isprintable() and "\\" not in given and len(given) <= _LONGEST_NEXT
        return given if is_local and is_plain else self.url("/")

    def asked(self, name: str, default: str = "") -> str:
        """Return a value of the query, the last one if there are several."""
        return self.request.query_params.get(name, default)

    def named(self, name: str) -> str:
        """Return a part of the path, such as the id in ``/jobs/{id}``."""
        return str(self.request.path_params[name])

    def may(self, action: str) -> bool:
        """Return whether this person may do ``action``; hiding a button is no permission."""
        return action in self.rights

    def require(self, action: str) -> None:
        """Raise HttpError (403) unless this person may do ``action``."""
        if not self.may(action):
            what = f'You may not do this: "{action}".' if self.rights else "You may only read here."
            raise HttpError(403, what, "Ask whoever runs this dashboard to allow it.")

    def url(self, path: str, /, **query: object) -> str:
        """Return the address of a page, wherever the dashboard is mounted.

        Args:
            query: Values that are None or "" are left out.
        """
        kept = {name: value for name, value in query.items() if value not in (None, "")}
        end = f"?{urlencode(kept)}" if kept else ""
        return f"{quote(self.request.scope.get('root_path', ''))}{quote(path)}{end}"

    def here(self, /, **changes: object) -> str:
        """Return the address of this page with other values in its query."""
        path, query = route_path(self.request.scope), dict[str, object](self.request.query_params)
        if self.request.method == "POST":  # a form is shown again: its page is where it came from
            came = urlsplit(self.next)
            root = quote(self.request.scope.get("root_path", ""))
            path, query = unquote(came.path.removeprefix(root)), dict(parse_qsl(came.query))
        return self.url(path, **{**query, **changes})


def whole(text: str) -> int | None:
    """Return the whole number that somebody has sent; None if it is none, or a huge one."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def route_path(scope: Scope) -> str:
    """Return the path of a request below the place where the dashboard is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return (path.removeprefix(root) or "/") if path.startswith(f"{root}/") or path == root else path
