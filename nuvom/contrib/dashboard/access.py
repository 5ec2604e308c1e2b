"""Who may do what: the actions, what an access function grants, and the sign-in with a token."""

from __future__ import annotations

import hmac
import inspect
import secrets
import threading
from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from starlette.requests import HTTPConnection, Request

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
SIGN_IN = "/signin"
TOO_MANY = "Too many wrong tokens came from your address."
_MOST_FAILURES = 5  # wrong tokens from one address in ``_FAILURE_SECS``
_MOST_IN_ALL = 50  # from all addresses, since a proxy may pass on what a client says of its own
_FAILURE_SECS = 60.0
_MOST_SESSIONS = 1000
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


class SignIn:
    """The access function of ``nuvom dashboard``: whoever has a token may come in.

    The address that is printed at the start has a token that works once; it is exchanged for a
    cookie. A token that was chosen works as often as it is given, and as a bearer token.

    Args:
        answer: What a person who is signed in may do: ``read_only`` or ``all``.
        token: The token that was chosen, if any.
        port: Part of the cookie's name, since browsers do not keep the cookies of ports apart.

    Attributes:
        once: The token that works once.
        cookie: The name of the cookie.
        has_token: Whether a token was chosen.
    """

    def __init__(
        self,
        answer: Answer,
        token: str | None = None,
        *,
        port: int = 0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.once = secrets.token_urlsafe(32)
        self.cookie = f"nuvom_session_{port}"
        self.has_token = token is not None
        self._answer = answer
        self._token = token
        self._clock = clock
        self._is_used = False
        self._sessions: dict[bytes, None] = {}  # by hash, so that a look-up tells nothing
        self._failures: deque[tuple[str, float]] = deque(maxlen=_MOST_IN_ALL)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        """Return what the sender may do; ``none`` without a session or the token."""
        if self.is_signed_in(request):
            return self._answer
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._token is not None and not self.is_blocked(request):
            if _same(given.strip(), self._token):
                return self._answer
            self._note_failure(request)
        return "none"

    def is_signed_in(self, request: HTTPConnection) -> bool:
        """Return whether the request has the cookie of a session."""
        with self._lock:
            return _digest(request.cookies.get(self.cookie, "")) in self._sessions

    def is_blocked(self, request: HTTPConnection) -> bool:
        """Return whether too many wrong tokens came from this address of late, or from all."""
        since = self._clock.monotonic() - _FAILURE_SECS
        with self._lock:
            recent = [address for address, at in self._failures if at > since]
        return recent.count(_address(request)) >= _MOST_FAILURES or len(recent) >= _MOST_IN_ALL

    def open_session(self, request: HTTPConnection, given: str) -> str | None:
        """Return a new session for a token, None if that is wrong or was used before."""
        with self._lock:
            is_first = not self._is_used and _same(given, self.once)
            self._is_used = self._is_used or is_first
            if is_first or (self._token is not None and _same(given, self._token)):
                session = secrets.token_urlsafe(32)
                self._sessions[_digest(session)] = None
                while len(self._sessions) > _MOST_SESSIONS:
                    del self._sessions[next(iter(self._sessions))]
                return session
        self._note_failure(request)
        return None

    def _note_failure(self, request: HTTPConnection) -> None:
        with self._lock:
            self._failures.append((_address(request), self._clock.monotonic()))


def _address(request: HTTPConnection) -> str:
    return "" if request.client is None else request.client.host


def _digest(session: str) -> bytes:
    return sha256(session.encode("utf-8", "replace")).digest()


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), known.encode())
