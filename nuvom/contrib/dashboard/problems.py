"""What is wrong with a request: a status and two sentences, shown as a page or as JSON."""

from __future__ import annotations

from http import HTTPStatus

from nuvom import errors
from nuvom.errors import NuvomError

_STATUSES: dict[type[NuvomError], int] = {
    NuvomError: 500,
    errors.Refused: 409,
    errors.TaskError: 422,
    errors.TaskNotFound: 404,
    errors.AmbiguousTask: 404,
    errors.QueueError: 409,
    errors.BackendUnavailable: 503,
    errors.StorageFull: 503,
    errors.QueueFull: 503,
    errors.CapabilityMissing: 501,
    errors.UnknownBackend: 500,
    errors.InvalidId: 422,
    errors.QueueNotFound: 404,
    errors.WorkerNotFound: 404,
    errors.JobNotFound: 404,
    errors.AmbiguousJob: 404,
    errors.FailureNotFound: 404,
    errors.SerializationError: 422,
    errors.InvalidSearch: 422,
    errors.InvalidSchedule: 422,
    errors.ScheduleNotFound: 404,
}
_TITLES = {
    403: "Not allowed",
    404: "Not found",
    409: "Not possible now",
    413: "Too much data",
    421: "Unknown host",
    422: "Not valid",
    500: "Something went wrong",
    501: "Not possible with this store",
    503: "The store cannot be reached",
}


class HttpError(Exception):
    """A request that cannot be answered as asked. Its status and texts become the answer.

    Attributes:
        status: The HTTP status.
        what, fix: What is wrong and what to do about it, or "", in sentences.
        code: A name for programs, such as ``JobNotFound`` or ``Forbidden``.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, what: str, fix: str = "", *, code: str = "", **headers: str
    ) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.fix = fix
        self.code = code or HTTPStatus(status).phrase.title().replace(" ", "")
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def title(self) -> str:
        """The heading of its page, in a few words."""
        return _TITLES.get(self.status, HTTPStatus(self.status).phrase)

    @property
    def data(self) -> dict[str, str]:
        """The problem for programs."""
        return {"code": self.code, "message": self.what, "hint": self.fix}


def problem_of(error: NuvomError) -> HttpError:
    """Return the problem that an error of Nuvom is to whoever sent the request."""
    bases = type(error).__mro__
    status = next(_STATUSES[base] for base in bases if base in _STATUSES)
    code = next(base.__name__ for base in bases if base.__module__ == NuvomError.__module__)
    return HttpError(status, error.what, error.fix, code=code)


UNEXPECTED = HttpError(
    500,
    "An error that nobody foresaw ended this request.",
    "The log of the dashboard has it, with where it comes from.",
    code="Unexpected",
)
