"""The schema of PostgreSQL that its peers use, one after the other."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from peers.base import POSTGRES, SCHEMA, Adapter, survives

PLACE = make_conninfo(POSTGRES, options=f"-c search_path={SCHEMA}")


class PostgresAdapter(Adapter):
    """A peer that keeps everything in that schema.

    Attributes:
        direct: A connection of the benchmark's own.
    """

    def open(self) -> None:
        self.direct: Any = psycopg.connect(POSTGRES, autocommit=True)
        self.direct.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        self.direct.execute(f"CREATE SCHEMA {SCHEMA}")
        found = {name: self.shown(name) for name in ("fsync", "synchronous_commit")}
        told = ", ".join(f"{name}={value}" for name, value in found.items())
        is_safe = found["fsync"] == "on" and found["synchronous_commit"] != "off"
        self.durability = survives(told, power_cut=is_safe)

    def close(self) -> None:
        self.direct.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        self.direct.close()

    def truncate(self, *tables: str) -> None:
        """Empty tables of the schema."""
        self.direct.execute("TRUNCATE " + ", ".join(f"{SCHEMA}.{name}" for name in tables))

    def count(self, rows: str) -> int:
        """Return how many rows a table of the schema has; ``rows`` may end in a condition."""
        query = f"SELECT count(*) FROM {SCHEMA}.{rows}"  # noqa: S608  # constants
        return int(self.direct.execute(query).fetchone()[0])

    def shown(self, name: str) -> str:
        """Return a setting of the server."""
        return str(self.direct.execute(f"SHOW {name}").fetchone()[0])


def address(database: str = "", **options: str) -> str:
    """Return the address as a URL, for clients that know no other form.

    Args:
        database: Another one than that of ``BENCH_POSTGRES``.
        options: What follows the question mark.
    """
    told: dict[str, Any] = conninfo_to_dict(POSTGRES)
    user = ":".join(quote(str(told[name]), "") for name in ("user", "password") if told.get(name))
    place = f"{told.get('host', '127.0.0.1')}:{told.get('port', 5432)}"
    path = quote(database or str(told.get("dbname", "")), "")
    more = "&".join(f"{name}={quote(value, '')}" for name, value in options.items())
    return f"postgresql://{user}{'@' * bool(user)}{place}/{path}{'?' * bool(more)}{more}"
