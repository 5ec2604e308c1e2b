"""Who may do what: the actions, and what an access function grants."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from nuvom.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from starlette.requests import Request

    Answer = str | Collection[str]
    Access = Callable[[Request], Answer | Awaitable[Answer]]

ACTIONS = frozenset(
    {
        "retry",
        "cancel",
        "discard",
        "repeat",  # with edited arguments, or unchanged: always a new job
        "enqueue",
        "pause",  # and resume a queue
        "purge",
        "worker",  # quiet, resume, stop
        "schedule",  # run, pause, resume
    }
)
"""All actions that change something, by the names that an access function returns."""

_WORDS = {"read_only": frozenset[str](), "all": ACTIONS}
_LOG = get_logger("nuvom.dashboard")


async def rights_of(access: Access, request: Request) -> frozenset[str] | None:
    """Return the actions that ``access`` grants; None if it grants not even to read.

    An exception denies, and so does an answer that is none. A plain function is called in a thread,
    since it may wait for a database.
    """
    try:
        if inspect.iscoroutinefunction(access):
            answer: Any = await access(request)
        else:
            answer = await to_thread.run_sync(access, request)
            answer = await answer if inspect.isawaitable(answer) else answer
        return _granted(answer)
    except Exception as error:  # noqa: BLE001  # the application's own code: any failure denies
        _LOG.error("the access function failed, so access was denied", exc_info=error)
        return None


def _granted(answer: Answer) -> frozenset[str] | None:
    """Return the rights that an answer stands for. Raises: ValueError: it is none."""
    if answer == "none":
        return None
    if isinstance(answer, str):
        found = _WORDS.get(answer)
    else:
        found = frozenset(answer) if ACTIONS.issuperset(answer) else None
    if found is None:
        known = ", ".join(sorted(ACTIONS))
        msg = f'access has to return "none", "read_only", "all" or a set of {known}, not {answer!r}'
        raise ValueError(msg)
    return found
