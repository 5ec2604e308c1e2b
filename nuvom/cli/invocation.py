"""One call of the command line: what its common options said, and how it speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nuvom.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

JSON_MAJOR = "1"


class Invocation:
    """Carried by click as the context's object; each command gets it first.

    Attributes:
        out: Where the command says things.
        project: The folder given with ``--project``, or None.
        debug: Whether unexpected errors show their traceback.
    """

    def __init__(self) -> None:
        self.out = Output()
        self.project: Path | None = None
        self.debug = False


def wants_json(args: Sequence[str]) -> bool:
    """Return whether ``args`` ask for JSON, also when they cannot be understood otherwise."""
    ours = args[: args.index("--")] if "--" in args else args
    return any(arg == "--json" or arg.startswith("--json=") for arg in ours)


def without_major(args: Sequence[str]) -> list[str]:
    """Return ``args`` with ``--json=1`` as plain ``--json``.

    The value asks for a major version of the schemas. It is taken off here because click would
    otherwise let ``--json`` swallow the word after it.

    Raises: click.UsageError: there is no such version.
    """
    rest = list(args)
    end = rest.index("--") if "--" in rest else len(rest)
    for index in range(end):
        name, equals, major = rest[index].partition("=")
        if name == "--json" and equals:
            if major != JSON_MAJOR:
                raise click.UsageError(
                    f"--json={major}: this Nuvom writes schemas of version {JSON_MAJOR}."
                )
            rest[index] = "--json"
    return rest


pass_invocation = click.make_pass_decorator(Invocation)
