"""Commands that take several ids: all of them are acted on, and the highest exit code counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.cli import exit_codes
from nuvom.errors import NuvomError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.cli.invocation import Invocation


class Outcomes:
    """What became of each id.

    Attributes:
        done: What ``action`` returned, in the order of the ids.
        errors: What it raised.
        code: The highest exit code so far.
    """

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []
        self.errors: list[NuvomError] = []
        self.code = exit_codes.OK

    def error_data(self) -> list[dict[str, Any]]:
        """Return the errors as ``--json`` writes them."""
        return [
            {
                "code": type(error).__name__,
                "message": error.what,
                "hint": error.fix,
                "exit": exit_codes.exit_code(error),
            }
            for error in self.errors
        ]


def for_each(
    invocation: Invocation, ids: Sequence[str], action: Callable[[str], dict[str, Any]]
) -> Outcomes:
    """Call ``action`` for each id once, and report what it raises; a sole id's error is raised.

    Raises: NuvomError: there is one id only, and it failed.
    """
    outcomes = Outcomes()
    for job_id in dict.fromkeys(ids):
        try:
            outcomes.done.append(action(job_id))
        except NuvomError as error:
            if len(ids) == 1:
                raise
            outcomes.errors.append(error)
            outcomes.code = max(outcomes.code, exit_codes.exit_code(error))
            if not invocation.out.as_json:
                invocation.out.error([("Error", error.what), ("Fix", error.fix)])
    return outcomes
