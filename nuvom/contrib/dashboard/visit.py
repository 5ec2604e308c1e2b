"""One request to the dashboard: who asks, what they may do, and what pages need of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

from nuvom.inspection.inspector import Inspector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from nuvom.contrib.dashboard.site import Site
    from nuvom.runtime import Runtime


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


@dataclass(frozen=True, slots=True)
class Visit:
    """One request.

    Attributes:
        site: The application that is asked.
        rights: Names of the actions that this person may do; see ``access.py``.
        csrf: What each form has to send back.
        message: What the last action did, to be shown once; or "".
    """

    site: Site
    request: Request
    rights: frozenset[str]
    csrf: str = ""
    message: str = ""

    @property
    def runtime(self) -> Runtime:
        """The runtime whose store is shown."""
        return self.site.runtime

    @property
    def inspector(self) -> Inspector:
        """Reads the store."""
        return Inspector(self.site.runtime)

    @property
    def now(self) -> float:
        """The time by the store's clock, in seconds since the epoch."""
        return self.site.runtime.clock.now()

    def asked(self, name: str, default: str = "") -> str:
        """Return a value of the query, the last one if there are several."""
        return self.request.query_params.get(name, default)

    def may(self, action: str) -> bool:
        """Return whether this person may do ``action``; hiding a button is no permission."""
        return action in self.rights

    def url(self, path: str, **query: object) -> str:
        """Return the address of a page, wherever the dashboard is mounted.

        Args:
            query: Values that are None or "" are left out.
        """
        kept = {name: value for name, value in query.items() if value not in (None, "")}
        end = f"?{urlencode(kept)}" if kept else ""
        return f"{self.request.scope.get('root_path', '')}{quote(path)}{end}"

    def here(self, **changes: object) -> str:
        """Return the address of this page with other values in its query."""
        query: dict[str, object] = {**self.request.query_params, **changes}
        root = self.request.scope.get("root_path", "")
        return self.url(self.request.url.path.removeprefix(root), **query)
