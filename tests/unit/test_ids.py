"""Which texts may be names, and how ids are made."""

from __future__ import annotations

import os
import re
import sys

import pytest

from nuvom.core.ids import MOST_IDS, id_texts, new_id, new_ids, valid_name
from nuvom.errors import InvalidId

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


def texts(ids: bytes) -> list[str]:
    return [text.decode() for text in id_texts(ids)]


def test_many_ids_are_as_good_as_single_ones_and_in_order() -> None:
    form = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    for _ in range(20):  # they count from another number each time
        ids = new_ids(MOST_IDS)
        assert len(set(texts(ids))) == MOST_IDS == len(ids) // 16
        assert all(re.fullmatch(form, one) for one in texts(ids))
        assert sorted(texts(ids)) == texts(ids)
    assert b"" == new_ids(0)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_makes_no_id_of_its_parent() -> None:
    new_id()  # there is noise left
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, new_id().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    assert 36 == len(theirs)
    assert theirs[14:] not in {new_id()[14:] for _ in range(100)}
