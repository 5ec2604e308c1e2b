"""Which texts may be names, and how ids are made."""

from __future__ import annotations

import re
import threading

import pytest

from nuvom import names
from nuvom.errors import InvalidId
from nuvom.names import new_id, new_ids, valid_name

GOOD = ["default", "a", "9", "mail-1", "a.b_c", "A" * 64, "01a20dec-dbda-7778-98ee-3c578a65eeb0"]
BAD = [
    "",
    "-a",
    ".a",
    "_a",
    "a" * 65,
    "a/b",
    "a\\b",
    "../a",
    "a b",
    "a\n",
    "a\0",
    "ä",
    "\u0661",  # a digit, but not one of ours
    "a;drop",
    5,
    None,
    b"a",
]


@pytest.mark.parametrize("name", GOOD)
def test_harmless_text_is_a_name(name: str) -> None:
    assert name == valid_name("a queue", name)


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_refused(name: object) -> None:
    with pytest.raises(InvalidId, match="is not allowed as a queue") as refusal:
        valid_name("a queue", name)
    assert isinstance(refusal.value, ValueError)


def test_id_is_a_uuid_of_version_7() -> None:
    form = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(form, new_id()) for _ in range(1000))
    assert all(valid_name("a job id", new_id()) for _ in range(10))


def test_many_ids_are_as_good_as_single_ones_and_in_order() -> None:
    form = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    ids = [*new_ids(1000), *new_ids(1000)]
    assert 2000 == len(set(ids))
    assert all(re.fullmatch(form, one) for one in ids)
    assert sorted(ids[:1000]) == ids[:1000]


def test_ids_sort_by_the_millisecond_in_which_they_were_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    millis = [1, 2, 0xFFFF, 0x10000, 1_750_000_000_000, 1_750_000_000_001, 2**48 - 1]
    ids = []
    for moment in millis:
        monkeypatch.setattr(names, "epoch_millis", lambda moment=moment: moment)
        ids.append(new_id())
    assert sorted(ids) == ids
    assert millis == [int(one.replace("-", "")[:12], 16) for one in ids]


def test_threads_never_make_the_same_id() -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    threads = [
        threading.Thread(target=lambda ids=ids: ids.extend(new_id() for _ in range(2000)))
        for ids in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 16_000 == len({one for ids in made for one in ids})
