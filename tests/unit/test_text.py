"""Text from outside, made fit to be shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.core.text import mask_text, mask_value, one_line

from .logging_cases import FORGERIES


@given(st.text() | st.sampled_from(FORGERIES))
def test_no_text_breaks_its_line_or_holds_a_control_character(text: str) -> None:
    shown = one_line(text)

    assert [shown] == (shown.splitlines() or [""])
    assert all(unicodedata.category(char) not in ("Cc", "Cs") for char in shown)
    shown.encode()


@pytest.mark.parametrize(
    "text",
    [
        "login failed: password=CANARY",
        "login failed: password = 'CANARY and more'",
        "{'user': 'x', 'api_key': 'CANARY'}",
        '{"token": "CANARY"}',
        "Authorization: Bearer CANARY",
        "authorization: basic CANARY",
        "x-api-key: CANARY",
        "Cookie: CANARY",
        "?access_token=CANARY&user=x",
        "postgresql://me:CANARY@host/db",
        "redis://:CANARY@host:6379",
        "DB_PASSWORD=CANARY",
        "Secret(client_secret='CANARY')",
    ],
)
def test_what_follows_a_telling_name_is_masked(text: str) -> None:
    masked = mask_text(text)

    assert "CANARY" not in masked
    assert "***" in masked


@pytest.mark.parametrize(
    "text", ["pass" * 20_000, "pass=" * 13_000, "://" + "a" * 65_000, "-" * 65_000]
)
def test_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    """A pattern that backtracks would not end within the time limit of the tests."""
    for _ in range(5):
        mask_text(f"password {text}")


def test_values_are_masked_by_name_at_any_depth() -> None:
    given_ = {"user": "x", "auth": [{"token": "CANARY", "n": 1}, ("a", 2)], "password": {"a": 1}}

    masked = mask_value("payload", given_)

    assert {"user": "x", "auth": [{"token": "***", "n": 1}, ["a", 2]], "password": "***"} == masked
