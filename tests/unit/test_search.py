"""The search language: what people write, its one form, and which jobs fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.errors import InvalidSearch
from nuvom.inspection.search import NAMES, TEXT, Condition, Search, parse_search

NOW = 1_800_000_000.0
DAY = 86_400.0
JOB = JobSnapshot(
    record=JobRecord(
        "01a20ddf-d734-7ee5-8b24-daafe036ac40",
        "shop.mail.send",
        queue="mail",
        tags=("weekly",),
        status=JobStatus.FAILED,
        created_at=NOW - 3600,
    ),
    error=StoredError("smtplib.SMTPError", "no", fingerprint="SMTPError:shop.mail.send"),
    worker="01a20ddf-0000-7000-8000-0000000k3f9b",
    started_at=NOW - 100,
    finished_at=NOW - 90,
)
ARGUMENTS = {
    "order": {"id": 5, "to": "a b", "lines": [{"n": 2**60}]},
    "card": "***",
    "rate": 1.5,
    "is_gift": True,
    "note": None,
}


def fits(text: str, job: JobSnapshot = JOB) -> bool:
    return parse_search(text).fits(job, NOW, lambda: ARGUMENTS)


@pytest.mark.parametrize(
    "text",
    [
        *("", "status:FAILED", "state:failed,dead", "-status:SUCCESS", "status:PENDING,FAILED"),
        *("task:shop.mail.send", "task:shop.*", "task:a,shop.mail.*", "-task:shop.images.*"),
        *("queue:mail", "-queue:sms,images", "tag:weekly", "tag:week*", "id:e036ac40"),
        *("id:01a20ddf-*", "worker:k3f9b", "error:SMTPError", "error:smtp*", "-error:ValueError"),
        *("error:smtplib.SMTPError", "error:SMTPError:shop.mail.send"),
        *("MAIL", "smtperr", '"mail.s"', "-images", "nothing,mail"),
        *("after:2h", "before:30m", "-after:30m", "after:2027-01-15", "before:2027-02-01"),
        *("after:2027-01-15T00:00", "after:2027-01-15T00:00+01:00"),
        *("dur>5s", "dur<1min", "dur>9500ms", "dur>5", "-dur>1h"),
        *("args.order.id:5", "args.order.id:4,5", 'args.order.to:"a b"', "args.order.to:a*"),
        *("args.rate:1.5", "args.is_gift:true", "args.note:null", "-args.order.id:6"),
        *("args.order.lines.0.n:1152921504606846976", "-args.other:5", "-args.order.lines.7:1"),
        "status:FAILED queue:mail mail dur>5s",
    ],
)
def test_a_job_fits(text: str) -> None:
    assert fits(text)


@pytest.mark.parametrize(
    "text",
    [
        *("status:DEAD", "-status:FAILED", "task:shop.mail", "task:mail.send", "queue:sms"),
        *("tag:week", "id:e036ac4", "worker:abc", "error:ValueError", "-error:smtp*", "images"),
        *("after:30m", "before:2h", "after:2027-02-01", "dur>10s", "dur<10", "-dur>5s"),
        *("args.order.id:6", "args.order:5", "args.other:5", "args.is_gift:1", "-args.rate:1.5"),
        "status:FAILED queue:sms",
    ],
)
def test_a_job_does_not_fit(text: str) -> None:
    assert not fits(text)


@pytest.mark.parametrize("text", ["args.card:***", "args.card:*", "args.card:4111", "args.none:*"])
def test_what_is_masked_fits_nothing(text: str) -> None:
    assert not fits(text)


@given(st.text("ab\n", max_size=8), st.text("ab*\n", min_size=1, max_size=8))
def test_a_star_stands_for_any_characters(value: str, text: str) -> None:
    job = JobSnapshot(record=JobRecord("1", "t", tags=(value,)))
    parts = (re.escape(one) for one in text.split("*"))
    is_like = re.fullmatch(".*".join(parts), value, re.DOTALL) is not None
    assert Search().with_("tag", text).fits(job, NOW, dict) is is_like


def test_no_text_keeps_a_search_busy() -> None:
    job = JobSnapshot(record=JobRecord("1", "t", tags=("a" * 1000,)))
    assert not parse_search(f"tag:{'a*' * 100}b").fits(job, NOW, dict)  # a pattern would take years


def test_arguments_are_read_only_if_the_search_is_about_them() -> None:
    def refuse() -> Mapping[str, Any]:
        raise AssertionError("nobody asked for arguments")

    assert parse_search("status:FAILED mail dur>5s").fits(JOB, NOW, refuse)


@pytest.mark.parametrize(
    ("text", "at", "said"),
    [
        ("mail statsu:FAILED", 5, "status"),
        ("mail status:FALED", 5, "FAILED"),
        ("queue:", 0, "queue:"),
        ("queue:a, mail", 0, "value"),
        ("mail ,b", 5, "value"),
        ('task:"shop', 5, "closed"),
        ('task:"shop"x', 11, "quotation"),
        ("- mail", 0, "value"),
        ("args:5", 0, "args.order_id:5"),
        ("shop.mail:5", 0, "quotes"),
        ("text:5", 0, "quotes"),
        ("dur:5s", 0, "dur>5s"),
        ("queue>5", 0, "queue:5"),
        ("dur>long", 0, "500ms"),
        ("dur>1s,2s", 0, "one value"),
        ("after:yesterday", 0, "2026-05-11"),
        ("after:5", 0, "24h"),
    ],
)
def test_a_mistake_is_shown_with_its_place(text: str, at: int, said: str) -> None:
    with pytest.raises(InvalidSearch) as caught:
        parse_search(text)
    assert caught.value.at == at
    assert said in str(caught.value)


def test_links_change_one_condition() -> None:
    search = parse_search("-queue:sms status:FAILED mail -status:DEAD")
    assert search.with_("status", "success", "DEAD").text == (
        "-queue:sms status:SUCCESS,DEAD mail -status:DEAD"
    )
    assert search.with_("queue", "mail").text == f"{search.text} queue:mail"
    assert search.with_("dur", "5s", sign=">").text == f"{search.text} dur>5s"
    assert search.without("status").text == "-queue:sms mail"
    assert search.without(search.conditions[1]).text == "-queue:sms mail -status:DEAD"
    with pytest.raises(InvalidSearch):
        search.with_("status", "LOST")


def test_a_store_can_be_asked_for_a_part() -> None:
    search = parse_search("status:FAILED,DEAD -status:DEAD queue:mail,sms task:shop.send")
    assert search.statuses == {JobStatus.FAILED}
    assert search.values("queue") == ("mail", "sms")
    assert (search.only("queue"), search.only("task")) == (None, "shop.send")
    assert not search.is_plain
    assert parse_search("status:FAILED,DEAD -status:DEAD queue:mail task:shop.send").is_plain
    assert parse_search("status:FAILED status:DEAD").statuses == set()
    assert parse_search("task:shop.*").only("task") is None
    times = parse_search("after:2h after:1h before:30m before:1d")
    assert times.since(NOW) == NOW - 3600
    assert times.until(NOW) == NOW - DAY


words = st.text(min_size=1, max_size=8)
conditions = st.one_of(
    st.builds(
        Condition,
        st.sampled_from(["task", "queue", "tag", "id", "worker", "error", TEXT, "args.a.b"]),
        st.lists(words, min_size=1, max_size=3, unique=True).map(tuple),
        st.booleans(),
        st.just(":"),
    ),
    st.builds(
        Condition,
        st.just("status"),
        st.lists(st.sampled_from([*map(str, JobStatus)]), min_size=1, unique=True).map(tuple),
        st.booleans(),
        st.just(":"),
    ),
    st.builds(
        Condition,
        st.sampled_from(["before", "after"]),
        st.just(("24h",)),
        st.booleans(),
        st.just(":"),
    ),
    st.builds(Condition, st.just("dur"), st.just(("5s",)), st.booleans(), st.sampled_from("<>")),
)


@given(st.lists(conditions, unique=True).map(lambda some: Search(tuple(some))))
def test_the_text_of_a_search_is_read_as_the_same_search(search: Search) -> None:
    assert parse_search(search.text) == search


pieces = st.sampled_from([*NAMES, "args.a", *':<>,-"\\ * ', "5s", "FAILED", "ä", "\n"])


@given(st.lists(st.one_of(pieces, words), max_size=12).map("".join))
def test_any_text_is_a_search_or_a_mistake_inside_it(text: str) -> None:
    parse: Callable[[str], Search] = parse_search
    try:
        found = parse(text)
    except InvalidSearch as error:
        assert 0 <= error.at <= len(text)
    else:
        assert parse(found.text) == found
