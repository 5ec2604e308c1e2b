"""Where ``nuvom top`` reads and what it changes: a project's own store, or a dashboard's API.

Both speak the plain data of ``--json``.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
import threading
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from nuvom.cli.project import make_record
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.transitions import RETRYABLE
from nuvom.discovery.manifest import by_any_name, tasks_or_nothing
from nuvom.errors import (
    BackendUnavailable,
    InvalidArguments,
    JobNotFound,
    PayloadError,
    Refused,
    TaskNotFound,
)
from nuvom.inspection import views
from nuvom.inspection.formats import jsonable
from nuvom.inspection.inspector import COUNTED_JOBS
from nuvom.inspection.overview import job_details, overview, schedule_data
from nuvom.inspection.search import parse_search
from nuvom.scheduler.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.core.record import JobSnapshot, JobStatus
    from nuvom.inspection.inspector import Inspector
    from nuvom.runtime import Runtime

Data = dict[str, Any]

MOST_JOBS = 200
_TIMEOUT_SECS = 5.0
_MOST_BYTES = 64 * 1024 * 1024
_REDIRECTS = range(300, 400)
_DENIED = (401, 403)


class ChangeRequest(NamedTuple):
    """What a user asks for.

    Attributes:
        kind: ``jobs``, ``queues`` or ``schedules``.
        name: The id of the job, or the name.
        verb: ``retry``, ``cancel``, ``discard``, ``repeat``; ``pause``, ``resume``; ``run``.
        seen: The job's status that the user saw; if it has another one now, nothing changes.
        call: For ``repeat``: the arguments, ``{"args": [...], "kwargs": {...}}``.
    """

    kind: str
    name: str
    verb: str
    seen: str = ""
    call: Data | None = None


class Source(Protocol):
    """A place to read and change. Every method may take long, and may raise NuvomError.

    Attributes:
        address: The dashboard's address, or empty.
    """

    address: str

    def now(self) -> float:
        """Return the time by which ages are told, in seconds since the epoch."""
        ...

    def overview(self) -> Data:
        """Return the state of the whole project."""
        ...

    def rows(self, kind: str, query: str = "", limit: int = MOST_JOBS) -> list[Data]:
        """Return ``jobs``, ``workers``, ``schedules`` or ``errors``; queues are in the overview.

        Of jobs these are the newest that match ``query``.

        Raises: InvalidSearch.
        """
        ...

    def job(self, job_id: str) -> Data:
        """Return everything about a job.

        ``editable`` is its call as JSON text, in which integers of any size are exact, or None.
        Raises: JobNotFound.
        """
        ...

    def change(self, change: ChangeRequest) -> str:
        """Make a change; return the id of the job that it made, if any.

        Raises: Refused: the state is not what the user saw, or does not allow it.
        """
        ...


# ---- the project's own store ------------------------------------------------------------


class StoreSource:
    """The store of a project on this machine."""

    address = ""

    def __init__(self, runtime: Runtime, inspector: Inspector) -> None:
        self._runtime = runtime
        self._inspector = inspector

    def now(self) -> float:
        """Return the store's time."""
        return self._runtime.clock.now()

    def overview(self) -> Data:
        """Return the state of the whole project."""
        return jsonable(overview(self._runtime, self._inspector, COUNTED_JOBS))

    def rows(self, kind: str, query: str = "", limit: int = MOST_JOBS) -> list[Data]:
        """Return what there is of one kind."""
        inspector = self._inspector
        found: list[Data]
        match kind:
            case "jobs":
                found = [views.job_data(one) for one in self._found(query, limit)]
            case "workers":
                found = [views.worker_data(one) for one in inspector.processes()]
            case "schedules":
                found = [schedule_data(one) for one in inspector.schedules()]
            case _:
                found = [views.group_data(one) for one in inspector.error_groups()]
        return [jsonable(one) for one in found]

    def _found(self, query: str, limit: int) -> list[JobSnapshot]:
        search = parse_search(query)
        return self._inspector.search(search, limit=limit).jobs

    def job(self, job_id: str) -> Data:
        """Return everything about a job."""
        snapshot, editable = self._inspector.snapshot(job_id), None
        with suppress(PayloadError):
            args, kwargs = self._inspector.editable_arguments(snapshot.record)
            editable = json.dumps({"args": args, "kwargs": kwargs}, indent=2)
        return {
            **jsonable(job_details(self._inspector, snapshot)),
            "editable": editable,
        }

    def change(self, change: ChangeRequest) -> str:
        """Make a change."""
        control, name = self._runtime.control, change.name
        if change.kind == "jobs":
            return self._change_job(change)
        if change.kind == "schedules":
            return Schedule(self._inspector.schedule(name), self._runtime).run_now().id
        if change.verb == "pause":
            control.pause(name, f"{getpass.getuser()}@{socket.gethostname()}")
        else:
            control.resume(name)
        return ""

    def _change_job(self, change: ChangeRequest) -> str:
        control, job_id = self._runtime.control, change.name
        snapshot = self._inspector.snapshot(job_id)
        short = views.short_id(job_id)
        if change.seen not in ("", snapshot.status):
            raise Refused(f"Job {short} is {snapshot.status} now", "Look at it again.")
        before: JobStatus | None = snapshot.status
        match change.verb:
            case "retry":
                before = control.retry(job_id)
                is_done = before in RETRYABLE
            case "cancel":
                before = control.cancel(job_id)
                is_done = before is not None and not before.is_final
            case "discard":
                is_done = control.discard(job_id)
            case _:
                return self._repeat(snapshot, change.call or {})
        if before is None:
            raise JobNotFound(job_id)
        if not is_done:
            raise Refused(f"Job {short} is {before}, which {change.verb} does not fit", "")
        return ""

    def _repeat(self, snapshot: JobSnapshot, saved: Data) -> str:
        runtime, old = self._runtime, snapshot.record
        known = by_any_name(tasks_or_nothing(runtime.settings.manifest_file))
        if old.func_name not in known:
            raise TaskNotFound(old.func_name, known)
        if not _is_call(saved):
            raise InvalidArguments(old.func_name, NO_CALL)
        call = self._inspector.edited_arguments(old, saved["args"], saved["kwargs"])
        called = make_record(runtime, known[old.func_name], call)
        return runtime.control.repeat(
            old, args=called.args, kwargs=called.kwargs, unique_key=None, unique_for=None
        )


NO_CALL = 'what you saved must be an object with a list "args" and an object "kwargs"'


def _is_call(saved: Data) -> bool:
    match saved:
        case {"args": list(), "kwargs": dict(), **rest} if not rest:
            return True
    return False


# ---- a dashboard's API ------------------------------------------------------------------


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: it would show the token to whoever it leads to."""

    def redirect_request(self, *_: Any) -> None:  # as the base class has it
        """Refuse."""


class ApiSource:
    """The API of a dashboard, ``/api/v1``.

    Args:
        address: Such as ``https://jobs.example.com``.
        token: What the dashboard gave to this user.
    """

    def __init__(self, address: str, token: str) -> None:
        self.address = address.rstrip("/")
        self._token = token
        # No proxy: it would see the token as well.
        self._opener = build_opener(ProxyHandler({}), _NoRedirect)

    def now(self) -> float:
        """Return this machine's time."""
        return SYSTEM_CLOCK.now()

    def overview(self) -> Data:
        """Return the state of the whole project."""
        return self._ask("overview")

    def rows(self, kind: str, query: str = "", limit: int = MOST_JOBS) -> list[Data]:
        """Return what there is of one kind."""
        asked = f"?{urlencode({'q': query, 'limit': limit})}" if kind == "jobs" else ""
        found = self._ask(kind + asked).get(kind)
        if not isinstance(found, list):
            raise self._unusable(f"its answer has no list of {kind}")
        return found

    def job(self, job_id: str) -> Data:
        """Return everything about a job."""
        return self._ask(f"jobs/{quote(job_id, safe='')}")

    def change(self, change: ChangeRequest) -> str:
        """Make a change."""
        body = {**(change.call or {}), **({"status": change.seen} if change.seen else {})}
        answer = self._ask(f"{change.kind}/{quote(change.name, safe='')}/{change.verb}", body)
        made = answer.get("job") or (answer.get("id") if change.verb == "repeat" else "")
        return str(made or "")

    def _ask(self, path: str, body: Data | None = None) -> Data:
        """Make one request. Raises: BackendUnavailable; Refused: the dashboard says no."""
        headers = {"Accept": "application/json", "Authorization": f"Bearer {self._token}"}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.address))
            headers |= {"Content-Type": "application/json", "Origin": origin}
        request = Request(f"{self.address}/api/v1/{path}", content, headers)  # noqa: S310  # checked by the command
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECS) as response:
                return self._parsed(response.read(_MOST_BYTES))
        except HTTPError as error:
            with error:
                raise self._told(error) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise self._unusable(str(reason)) from error

    def _parsed(self, content: bytes) -> Data:
        try:
            data = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._unusable("its answer is not JSON") from error
        if not isinstance(data, dict):
            raise self._unusable("its answer is no object")
        return data

    def _told(self, error: HTTPError) -> Exception:
        """Return what an answer means that is not a success."""
        if error.code in _REDIRECTS:
            return self._unusable("it sends this request elsewhere")
        try:
            data = self._parsed(error.read(_MOST_BYTES))
        except (BackendUnavailable, OSError, HTTPException):
            data = {}
        told = data.get("error") if isinstance(data.get("error"), dict) else data
        message = str((told or {}).get("message") or f"it answered {error.code} {error.reason}")
        hint = str((told or {}).get("hint") or "")
        if error.code in _DENIED:
            return Refused(message.rstrip("."), hint or "Give a token that allows this: --token")
        if error.code < 500:  # noqa: PLR2004  # the first code of a server's failure
            return Refused(message.rstrip("."), hint)
        return self._unusable(message.rstrip("."))

    def _unusable(self, reason: str) -> BackendUnavailable:
        repair = "Start it: nuvom dashboard"
        return BackendUnavailable(self.address, reason, repair)


# ---- what a view shows at one moment ----------------------------------------------------


class Wanted(NamedTuple):
    """What to read: a kind of rows, which jobs, and whose details."""

    kind: str
    query: str
    detail: str | None


class Frame(NamedTuple):
    """What was read at one moment."""

    wanted: Wanted
    at: float
    overview: Data
    rows: Sequence[Data]
    detail: Data | None


def read_frame(source: Source, wanted: Wanted, last: Frame | None = None) -> Frame:
    """Read what is wanted. Raises: NuvomError.

    Args:
        last: A frame whose rows are as good as new ones; only the details are read.
    """
    if last is None:
        overview = source.overview()
        is_queues = wanted.kind == "queues"
        rows = overview["queues"] if is_queues else source.rows(wanted.kind, wanted.query)
        last = Frame(wanted, source.now(), overview, rows, None)
    detail = None
    if wanted.detail is not None:
        with suppress(JobNotFound, Refused):  # it was removed meanwhile
            detail = source.job(wanted.detail)
    return last._replace(wanted=wanted, detail=detail)


class Reader:
    """Runs calls one after the other in a thread, which never keeps the program from ending."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._work, name="nuvom-top", daemon=True).start()

    def run(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """Return what ``call`` will return or raise."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._calls.put(partial(_answer, call, loop, future))
        return future

    def _work(self) -> None:
        while True:
            self._calls.get()()


def _answer(
    call: Callable[[], Any], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]
) -> None:
    try:
        tell = partial(_settle, future, future.set_result, call())
    except Exception as error:  # noqa: BLE001  # it is raised where the answer is awaited
        tell = partial(_settle, future, future.set_exception, error)
    with suppress(RuntimeError):  # the view has ended meanwhile
        loop.call_soon_threadsafe(tell)


def _settle(future: asyncio.Future[Any], settle: Callable[[Any], None], value: Any) -> None:  # noqa: ANN401  # any answer
    if not future.done():
        settle(value)
