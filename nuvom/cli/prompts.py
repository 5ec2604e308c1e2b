"""Asking before something is destroyed, and refusing where nobody can be asked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli.text import clean
from nuvom.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.cli.invocation import Invocation


def yes_option() -> Callable[[Any], Any]:
    """Return the option ``--yes``."""
    return click.option("--yes", "-y", is_flag=True, help="Do it without asking.")


def dry_run_option() -> Callable[[Any], Any]:
    """Return the option ``--dry-run``."""
    return click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


def confirm(invocation: Invocation, what: str, *, yes: bool, word: str | None = None) -> None:
    """Return when the user agrees to ``what``.

    Args:
        what: Such as ``Purge 12 waiting jobs of queue mail``.
        word: What has to be typed; None asks for yes or no.

    Raises: Refused: nobody can be asked and ``--yes`` was not given, or the answer was no.
    """
    if yes:
        return
    if invocation.out.as_json or not _can_ask():
        raise Refused(f"{what}: this needs a confirmation", "Add --yes, or look with --dry-run.")
    question = clean(what)
    if word is None:
        agreed = click.confirm(f"{question}?", default=False, err=True)
    else:
        given = click.prompt(f"{question}. Type {word} to go on", default="", err=True)
        agreed = given == word
    if not agreed:
        raise Refused(f"{what}: you did not agree", "Run it again when you are sure.")


def _can_ask() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
