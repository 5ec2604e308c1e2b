"""Finds the jobs of the SQLite store that are old enough to be removed, reading few others.

There is no index of when jobs ended: each settlement would have to write to it. The jobs are
read in the order of their numbers instead, which is the order of their enqueueing, so that the
old ones come first.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from nuvom.queue_backends.sqlite.connection import Database

IS_OLD = """(status = 2
        AND finished_at < CASE WHEN keep_secs IS NULL THEN ?1 ELSE ?3 - keep_secs END
    OR status IN (3, 4, 5) AND finished_at < ?2)
    AND NOT coalesce(unique_key IS NOT NULL AND unique_until > ?3, 0)"""
"""Which rows of ``jobs`` may be removed, as SQL with ``Limits`` for its first three parameters."""

MOST_READ = 100_000
"""How many rows a worker reads on each of both ways in one call: that takes some 30 ms."""

_BLOCK = 1000
# The last number of a block, None where fewer are left, and the old jobs among them; and, where
# it is asked, whether all are young. A time that is still to come is wrong, and says nothing.
_FROM = "FROM jobs WHERE seq > ?4 AND seq <= coalesce(last, 9223372036854775807)"
_READ = f"""SELECT last, (SELECT json_group_array(seq) {_FROM} AND {IS_OLD}),
        CASE WHEN ?5 THEN NOT EXISTS (SELECT 1 {_FROM}
            AND NOT (created_at >= max(?1, ?2) AND created_at <= ?3)) END
    FROM (SELECT (SELECT seq FROM jobs WHERE seq > ?4 ORDER BY seq LIMIT 1 OFFSET {_BLOCK - 1})
        AS last LIMIT 1)"""  # noqa: S608  # constants only
_decode_seqs = msgspec.json.Decoder(list[int]).decode

Limits = tuple[float, float, float]
"""Before when a success, and before when any other job, must have ended; and the time now."""


class OldJobs:
    """Looks for the old jobs of one store, and remembers how far it has read.

    A job cannot end before it was made, so most old jobs come before the first block in which
    all are young. The others are successes with a ``result_ttl_secs`` of their own, and what
    follows many jobs with a wrong time; to find them all jobs are read, more slowly.
    """

    def __init__(self, db: Database) -> None:
        self._among_old = _Round(db, stops_at_young=True)
        self._among_all = _Round(db, stops_at_young=False)

    def find(self, limits: Limits, most: int, *, most_read: float = inf) -> list[int]:
        """Return the numbers of at most ``most`` old jobs.

        Args:
            most_read: How many rows may be read on each of both ways. The next call goes on
                where this one stops.
        """
        found = self._among_old.find(limits, most, most_read)
        if len(found) < most:
            found |= self._among_all.find(limits, most - len(found), most_read)
        return sorted(found)


class _Round:
    """Reads the jobs block by block, call after call, and begins again when it is through."""

    def __init__(self, db: Database, *, stops_at_young: bool) -> None:
        self._db = db
        self._stops_at_young = stops_at_young
        self._at = 0  # the last number that was read

    def find(self, limits: Limits, most: int, most_read: float) -> set[int]:
        """Return at most ``most`` old jobs; fewer once all were read, or ``most_read`` rows."""
        found: set[int] = set()
        at, end, read = self._at, self._at or inf, 0
        is_second_part = at == 0  # in which the jobs are read that come before ``end``
        while len(found) < most and read < most_read:
            last, seqs = self._read(limits, at)
            read += _BLOCK
            new = [seq for seq in seqs if seq not in found][: most - len(found)]
            found.update(new)
            if len(found) == most:
                at = new[-1]
            elif last is not None and not (is_second_part and last >= end):
                at = last
            else:
                at = 0
                if is_second_part:
                    break
                is_second_part = True
        self._at = at
        return found

    def _read(self, limits: Limits, at: int) -> tuple[int | None, list[int]]:
        """Return the last number of the next block, None where there is none behind it."""
        row = self._db.read_one(_READ, (*limits, at, self._stops_at_young))
        last, seqs, are_young = row or (None, "[]", False)
        return None if are_young else last, sorted(_decode_seqs(seqs))
