"""Each proof that docs/guarantees.md names exists, and no promise goes without a word on it."""

from __future__ import annotations

import re

import pytest

from tests.docs.snippets import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
PROMISES = re.split(r"^## (?=\d)", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
PROOF = re.compile(r"\[`(\w+)`\]\(([^)]+)\)")
NOTHING_TO_PROVE = {"11. Schedules", "12. What is not promised"}


def title(promise: str) -> str:
    return promise.partition("\n")[0]


def test_there_are_twelve_promises() -> None:
    assert list(range(1, 13)) == [int(title(one).partition(".")[0]) for one in PROMISES]


@pytest.mark.parametrize("promise", PROMISES, ids=title)
def test_a_promise_has_a_proof_or_says_that_it_has_none(promise: str) -> None:
    has_proof = PROOF.search(promise) is not None
    assert (
        has_proof
        or "not yet proved by a test" in promise.lower()
        or title(promise) in NOTHING_TO_PROVE
    )


@pytest.mark.parametrize(
    "proof", sorted({found for one in PROMISES for found in PROOF.findall(one)})
)
def test_a_proof_is_where_the_page_says(proof: tuple[str, str]) -> None:
    name, place = proof
    text = (PAGE.parent / place).read_text(encoding="utf-8")
    assert re.search(rf"^ *(async )?def {name}\(", text, re.MULTILINE)
