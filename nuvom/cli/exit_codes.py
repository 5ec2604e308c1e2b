"""The exit codes, and the single table that maps errors to them.

Scripts depend on these numbers, so their meaning never changes. ``docs/cli.md`` lists them.
"""

from __future__ import annotations

from nuvom import errors
from nuvom.errors import NuvomError

OK = 0
FAILED = 1  # the job failed, or an unexpected error
USAGE = 2
NOT_FOUND = 3  # or ambiguous
CONFIG = 4  # configuration, manifest, plugin or value
BACKEND = 5  # the store cannot be reached, is locked or full
TIMED_OUT = 6  # waiting; the job is untouched
CHECK_FAILED = 7
REFUSED = 8
INTERRUPTED = 130  # SIGINT
TERMINATED = 143  # SIGTERM

_CODES: dict[type[NuvomError], int] = {
    NuvomError: FAILED,
    errors.Refused: REFUSED,
    errors.ConfigError: CONFIG,
    errors.TaskError: CONFIG,
    errors.TaskNotFound: NOT_FOUND,
    errors.AmbiguousTask: NOT_FOUND,
    errors.InvalidArguments: USAGE,
    errors.QueueError: BACKEND,
    errors.UnknownBackend: CONFIG,
    errors.CapabilityMissing: CONFIG,
    errors.InvalidId: USAGE,
    errors.QueueNotFound: NOT_FOUND,
    errors.WorkerNotFound: NOT_FOUND,
    errors.ResultError: FAILED,
    errors.JobNotFound: NOT_FOUND,
    errors.AmbiguousJob: NOT_FOUND,
    errors.FailureNotFound: NOT_FOUND,
    errors.JobTimeout: TIMED_OUT,
    errors.SerializationError: CONFIG,
    errors.InvalidSearch: USAGE,
    errors.InvalidSchedule: USAGE,
    errors.ScheduleNotFound: NOT_FOUND,
    errors.PluginError: CONFIG,
    errors.PluginNotFound: NOT_FOUND,
}


def exit_code_of(cls: type[NuvomError]) -> int:
    """Return the exit code for an error class: its own, or that of its nearest base class."""
    return next(_CODES[base] for base in cls.__mro__ if base in _CODES)
