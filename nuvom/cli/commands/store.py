"""``nuvom migrate``: prepare the store that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.cli import exit_codes
from nuvom.cli.context import Invocation, command
from nuvom.cli.params import dry_run_option
from nuvom.cli.project import writer

if TYPE_CHECKING:
    from nuvom.core.views import Migration


@command()
@dry_run_option
def migrate(invocation: Invocation, *, dry_run: bool) -> int:
    """Make or change the tables of the store, in one transaction.

    Needed before the first use of PostgreSQL, and after an upgrade of Nuvom that says so. Stores in
    files need it never. With --dry-run it prints the SQL.
    """
    runtime, _ = writer(invocation)
    found: dict[str, Migration] = {}
    for backend in (runtime.queue, runtime.results):
        done = backend.migrate(dry_run=dry_run)
        if done is not None:
            found.setdefault(done.store, done)  # they may share one, which was done by then
    out = invocation.out
    shown = [
        {"store": one.store, "before": one.before, "after": one.after} for one in found.values()
    ]
    text = "\n".join(_text(one, dry_run=dry_run) for one in found.values())
    out.answer("nuvom.migrate/1", {"migrations": shown}, text or "The store needs no tables.")
    is_newer = any(one.before == one.after and not one.statements for one in found.values())
    return exit_codes.CHECK_FAILED if is_newer else exit_codes.OK


def _text(one: Migration, *, dry_run: bool) -> str:
    if dry_run:
        return "\n\n".join((f"-- {one.store}", *one.statements))
    if not one.statements:
        return (
            f"{one.store} has tables of a later version ({one.before}). "
            "Upgrade Nuvom here: pip install --upgrade nuvom"
        )
    if one.before == one.after:
        return f"{one.store} is at version {one.after}; its functions were renewed."
    return f"{one.store} is at version {one.after} now (it was at {one.before})."
