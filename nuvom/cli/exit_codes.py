"""What the exit codes mean, and which error leads to which: the one table.

Scripts depend on these numbers, so they never change their meaning.
"""

from __future__ import annotations

from nuvom import errors
from nuvom.errors import NuvomError

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
CONFIG = 4
BACKEND = 5
TIMED_OUT = 6
CHECK_FAILED = 7
REFUSED = 8
INTERRUPTED = 130
TERMINATED = 143

MEANINGS: dict[int, str] = {
    OK: "success",
    FAILED: "the job ended FAILED, DEAD or CANCELLED; or an unexpected error",
    USAGE: "the command was not called as its help says",
    NOT_FOUND: "not found or ambiguous: a job, task, queue, worker, plugin or failure",
    CONFIG: "the configuration, the manifest, a plugin or a value cannot be used",
    BACKEND: "the store cannot be reached, is locked or full",
    TIMED_OUT: "timed out waiting; the job is untouched",
    CHECK_FAILED: "a check failed: discover --check, doctor, config check, plugin test",
    REFUSED: "refused: it needs --yes, or is not allowed here",
    INTERRUPTED: "ended by Ctrl-C (SIGINT)",
    TERMINATED: "ended by SIGTERM",
}

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
    errors.PluginError: CONFIG,
    errors.PluginNotFound: NOT_FOUND,
}


def exit_code(error: NuvomError) -> int:
    """Return the exit code for ``error``."""
    return exit_code_of(type(error))


def exit_code_of(cls: type[NuvomError]) -> int:
    """Return the exit code for a class of errors: its own, or that of the nearest base."""
    return next(_CODES[base] for base in cls.__mro__ if base in _CODES)
