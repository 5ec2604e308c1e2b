"""Each proof that docs/proofs.md names exists, and no promise goes without one."""

from __future__ import annotations

import re

import pytest

from tests.docs.snippets import ROOT

PROMISES = re.findall(
    r"^## (\d+\. .+)$", (ROOT / "docs" / "guarantees.md").read_text("utf-8"), re.MULTILINE
)
PAGE = ROOT / "docs" / "proofs.md"
PROOFS = dict(re.findall(r"^## (\d+\. .+)\n([^#]+)", PAGE.read_text("utf-8"), re.MULTILINE))
PROOF = re.compile(r"\[`(\w+)`\]\(([^)]+)\)")
NOTHING_TO_PROVE = {"12. What is not promised"}


def test_there_are_twelve_promises() -> None:
    assert list(range(1, 13)) == [int(title.partition(".")[0]) for title in PROMISES]


@pytest.mark.parametrize("promise", PROMISES)
def test_each_promise_has_a_proof(promise: str) -> None:
    is_proved = PROOF.search(PROOFS.get(promise, "")) is not None
    assert is_proved != (promise in NOTHING_TO_PROVE)


@pytest.mark.parametrize("proof", sorted(set(PROOF.findall(PAGE.read_text("utf-8")))))
def test_a_proof_is_where_the_page_says(proof: tuple[str, str]) -> None:
    name, place = proof
    text = (PAGE.parent / place).read_text(encoding="utf-8")
    assert re.search(rf"^ *(async )?def {name}\(", text, re.MULTILINE)
