"""The check of the rows, on small lists with one fault each."""

from __future__ import annotations

import pytest

from tests.architecture import rows, source

NAMED = {f"test_{one.lower()}_holds" for one in rows.IDS} - {"test_f02_holds", "test_s10_holds"}
TESTS = {"tests/test_all.py": {*NAMED, "test_of_another_name"}}
LISTED = """
[proved_by]
F02 = ["tests/test_all.py::test_of_another_name"]
[deferred]
S10 = "not built yet"
"""


def found(tests: dict[str, set[str]], listed: str) -> list[str]:
    return [f"{one.where.split()[1]}: {one.text}" for one in rows.rows(tests, listed)]


def test_every_row_has_a_test_or_a_reason() -> None:
    assert [] == found(TESTS, LISTED)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("F02 =", "F04 =", "F02: no test is named after it, and the list does not name it"),
        ("S10 =", "S11 =", "S11: it has a test now: take it out of [deferred]"),
        ("S10 =", "S99 =", "S99: there is no such row"),
        ('"not built yet"', '" "', "S10: without a reason"),
        ("::test_of", "::test_off", "F02: there is no test tests/test_all.py::test_off_another"),
        ("test_all.py", "test_none.py", "F02: there is no test tests/test_none.py::test_of"),
    ],
)
def test_what_is_wrong_with_the_list_is_found(old: str, new: str, said: str) -> None:
    assert any(one.startswith(said) for one in found(TESTS, LISTED.replace(old, new)))


def test_a_row_whose_test_is_gone_is_found() -> None:
    tests = {"tests/test_all.py": TESTS["tests/test_all.py"] - {"test_r27_holds"}}
    assert ["R27: no test is named after it, and the list does not name it"] == found(tests, LISTED)


def test_one_test_may_prove_several_rows() -> None:
    text = "def test_s01_r23_x() -> None: ...\nclass TestIt:\n    def test_f01_y(self): ...\n"
    tests = rows.tests_in([source.Module("tests/test_x.py", text)])
    assert {"tests/test_x.py": {"test_s01_r23_x", "TestIt", "test_f01_y"}} == tests
    assert {"S01", "R23", "F01"} == rows.named_after(tests).keys()
