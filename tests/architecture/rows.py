"""Rows of the reliability design: each has a test that is named after it, or a reason for none.

F01 to F40 are faults, S01 to S14 threats, R01 to R27 goals, A01 to A09 what an interruption inside
the engine once broke, B01 to B23 other races. ``tests/deferred.toml`` says what no name can say.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.architecture.source import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.architecture.source import Module

LISTED = "tests/deferred.toml"
IDS = tuple(
    f"{letter}{number:02}"
    for letter, last in (("F", 40), ("S", 14), ("R", 27), ("A", 9), ("B", 23))
    for number in range(1, last + 1)
)
_TEST = re.compile(r"^(?:    )?def (test_\w+)|^class (Test\w+)", re.MULTILINE)
_ID = re.compile(r"_([abfsr]\d\d)(?=_)")


def tests_in(modules: Sequence[Module]) -> dict[str, set[str]]:
    """Return the names of the tests in each file, classes of tests included."""
    return {
        module.place: {function or cls for function, cls in _TEST.findall(module.text)}
        for module in modules
    }


def named_after(tests: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Return the tests that carry each row's id: ``test_f01_...``, ``test_s01_r23_...``."""
    found: dict[str, list[str]] = defaultdict(list)
    for place, names in tests.items():
        for name in names:
            ids = re.match(r"test((?:_[abfsr]\d\d)+)_", name)
            for one in _ID.findall(ids.group(0)) if ids else ():
                found[one.upper()].append(f"{place}::{name}")
    return found


def rows(tests: Mapping[str, set[str]], listed: str) -> Iterator[Finding]:
    """Rows that nothing proves and nobody excuses, and entries of the list that are not true.

    Args:
        listed: The text of ``tests/deferred.toml``.
    """
    given = tomllib.loads(listed)
    proved, deferred = given["proved_by"], given["deferred"]
    named = named_after(tests)
    for row in IDS:
        if row not in named and row not in proved and row not in deferred:
            yield _finding(row, "no test is named after it, and the list does not name it")
        if row in deferred and (row in named or row in proved):
            yield _finding(row, "it has a test now: take it out of [deferred]")
    for row in sorted(({*proved} | {*deferred}) - set(IDS)):
        yield _finding(row, "there is no such row")
    for row, reason in deferred.items():
        if not str(reason).strip():
            yield _finding(row, "without a reason")
    for row, names in proved.items():
        for one in names:
            place, _, name = one.partition("::")
            if name not in tests.get(place, ()):
                yield _finding(row, f"there is no test {one}")


def _finding(row: str, text: str) -> Finding:
    return Finding("rows", f"{LISTED} {row}", 0, text)
