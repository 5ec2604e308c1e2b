"""Makes and changes the tables of a store, under a lock: ``nuvom migrate``."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 5
"""The version of the tables that this code works with."""

# What leads to each version from the one before.
_STEPS = {1: "tables.sql"} | {number: f"tables_{number}.sql" for number in range(2, VERSION + 1)}
_FUNCTIONS = ("functions.sql", "totals.sql")
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('nuvom migrate', 0))"
_DEFAULT_SCHEMA = re.compile(r"\bnuvom\.")


@cache
def qualified(statement: str, schema: str) -> Any:
    """Return a statement with the name of the schema in place of ``nuvom``."""
    return _DEFAULT_SCHEMA.sub(f"{sql.Identifier(schema).as_string(None)}.", statement)


def version_of(connection: psycopg.Connection[Any], schema: str) -> int:
    """Return the version of the tables in a schema, 0 where there are none."""
    table = qualified("nuvom.store", schema)
    (found,) = connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() or (None,)
    if found is None:
        return 0
    row = connection.execute(qualified("SELECT schema_version FROM nuvom.store", schema)).fetchone()
    return 0 if row is None else int(row[0])


def migrate(dsn: str, schema: str, *, dry_run: bool = False) -> tuple[int, list[str]]:
    """Bring the tables to the latest version, all in one transaction.

    Any number of processes may call it at once. Tables of a later version are left as they are.
    Returns: the version before, and the statements.
    Raises: psycopg.Error.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute(_LOCK)
        before = version_of(connection, schema)
        statements = [] if before > VERSION else list(_steps(before, schema))
        for statement in () if dry_run else statements:
            connection.execute(statement)
    return before, statements


def _steps(version: int, schema: str) -> Iterator[Any]:
    """Yield the statements that lead from a version to the latest."""
    if version == 0:
        yield f"CREATE SCHEMA IF NOT EXISTS {sql.Identifier(schema).as_string(None)};"
    for number in range(version + 1, VERSION + 1):
        yield qualified(_text(_STEPS[number]), schema)
    for name in _FUNCTIONS:  # may have changed without a change of the tables
        yield qualified(_text(name), schema)
    if version == 0:
        yield qualified("INSERT INTO nuvom.store (schema_version) VALUES (0);", schema)
    yield qualified(f"UPDATE nuvom.store SET schema_version = {VERSION};", schema)  # noqa: S608  # ours


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
