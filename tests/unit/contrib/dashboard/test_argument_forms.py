"""Jobs with edited arguments, and new ones: fields by the signature in the manifest."""

from __future__ import annotations

import json
import re
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nuvom.core.record import JobStatus
from nuvom.discovery.manifest import write_manifest
from nuvom.discovery.scan import scan
from nuvom.serialization.base import Shaped

from .conftest import Dashboard

SHOP = '''
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from nuvom import task

raise RuntimeError("nobody imports this")

@dataclass
class Order:
    id: int
    password: str

@task
def charge(order: Order, tags: list[str], day: date, note: str | None = None, *, cents: int = 5):
    """Charge a card."""

@task
def typed(count: int, share: float, is_last: bool, name: str, price: Decimal, days: list[date],
          sizes: dict[str, int], either: int | str = 1, *more: int, **others: bool): ...
'''
TYPES: dict[str, tuple[type, ...]] = {
    "count": (int,),
    "share": (float, int),
    "is_last": (bool,),
    "name": (str,),
    "either": (int, str),
}


@pytest.fixture
def shop(dashboard: Dashboard, project: Path) -> Dashboard:
    """Return a dashboard whose project has a module with tasks."""
    (project / "shop.py").write_text(SHOP)
    found = scan(project).tasks
    assert [one.name for one in found] == ["shop.charge", "shop.typed"]
    write_manifest(dashboard.runtime.settings.manifest_file, found, root=project)
    return dashboard


def _charged(shop: Dashboard) -> str:
    order = Shaped("Order", {"id": 7, "password": "hunter2"})
    return shop.add("shop.charge", order, ["a", "b"], date(2026, 5, 11), kwargs={"cents": 2**63})


def _fields(html: str) -> dict[str, str]:
    """Return what stands in the fields of a page's form for arguments, by parameter."""
    found = re.findall(r'<input class="field" name="arg\.(\w+)" value="([^"]*)"', html)
    return {name: unescape(text) for name, text in found}


def _edited(shop: Dashboard, job: str, **changes: str) -> Any:
    """Send the form of a job as the page shows it, with changes."""
    fields = _fields(shop.get(f"/jobs/{job}").text) | changes
    form = {f"arg.{name}": text for name, text in fields.items()}
    return shop.post(f"/jobs/{job}/repeat", form)


def _made(shop: Dashboard, answer: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the record that a form has made, and its arguments as stored."""
    assert answer.status_code == 303, answer.text
    job_id = answer.headers["location"].rpartition("/")[2].partition("#")[0]
    record = shop.see(job_id).record
    args, kwargs = shop.runtime.codec.decode_call(record.args, record.kwargs, shaped=True)
    return record, args, kwargs


def _order(args: tuple[Any, ...]) -> Any:
    assert isinstance(args[0], Shaped)
    assert args[0].name == "Order"
    return args[0].data


def test_a_field_shows_each_argument_and_hides_secrets(shop: Dashboard) -> None:
    html = shop.get(f"/jobs/{_charged(shop)}").text
    assert _fields(html) == {
        "order": '{"id": 7, "password": "***"}',
        "tags": '["a", "b"]',
        "day": "2026-05-11",
        "note": "",
        "cents": "9223372036854775808",
    }
    assert "hunter2" not in html


def test_an_edited_job_is_linked_and_keeps_what_nobody_touched(shop: Dashboard) -> None:
    old = _charged(shop)
    record, args, kwargs = _made(shop, _edited(shop, old, tags='["c"]', note="null"))
    assert record.retried_from == old
    assert _order(args) == {"id": 7, "password": "hunter2"}
    assert args[1:] == (["c"], date(2026, 5, 11), None)
    assert kwargs == {"cents": 2**63}
    assert shop.inspector.audit(1)[0].action == "repeat"


def test_a_hidden_field_keeps_its_value_while_others_beside_it_change(shop: Dashboard) -> None:
    changed = '{"id": 8, "password": "***"}'
    _, args, _ = _made(shop, _edited(shop, _charged(shop), order=changed, day="2026-05-12"))
    assert _order(args) == {"id": 8, "password": "hunter2"}
    assert args[2] == date(2026, 5, 12)


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("tags", "c", "Type a JSON list, such as [1, 2]."),
        ("tags", "[1]", "Type a JSON list, such as [1, 2]."),
        ("day", "yesterday", "Type a date, such as 2026-05-11."),
        ("cents", "five", "Type a whole number, such as 5."),
        ("order", '{"id": 1}', 'Type a JSON object, such as {"a": 1}.'),
        ("order", "", 'Type a JSON object, such as {"a": 1}.'),
        ("tags", "[" * 5000, "It is nested too deeply."),
    ],
)
def test_a_wrong_value_is_refused_at_its_field(
    shop: Dashboard, field: str, text: str, said: str
) -> None:
    job, before = _charged(shop), len(shop.inspector.page())
    answer = _edited(shop, job, **{field: text})
    assert answer.status_code == 200
    assert said in unescape(answer.text)
    assert len(shop.inspector.page()) == before


def test_a_task_outside_the_manifest_is_refused(shop: Dashboard) -> None:
    job = shop.add("os.system", "true")
    assert _edited(shop, job).status_code == 404
    assert shop.post("/tasks/os.system/enqueue", {"arg.command": "true"}).status_code == 404
    assert "Retry with edited arguments" not in shop.get(f"/jobs/{job}").text


def test_a_new_job_is_enqueued_with_defaults_for_what_is_left_out(shop: Dashboard) -> None:
    form = {"arg.order": '{"id": 1, "password": "x"}', "arg.tags": "[]", "arg.day": "2026-01-02"}
    record, args, kwargs = _made(shop, shop.post("/tasks/shop.charge/enqueue", form))
    assert (record.func_name, record.status) == ("shop.charge", JobStatus.PENDING)
    assert _order(args) == {"id": 1, "password": "x"}
    assert args[1:] == ([], date(2026, 1, 2))
    assert kwargs == {}


def test_who_may_not_repeat_sees_no_form_and_can_send_none(shop: Dashboard) -> None:
    job = _charged(shop)
    shop.grants = {"retry"}
    assert "arg." not in shop.get(f"/jobs/{job}").text
    assert shop.post(f"/jobs/{job}/repeat", {"arg.tags": "[]"}).status_code == 403
    assert shop.post("/tasks/shop.charge/enqueue", {"arg.tags": "[]"}).status_code == 403


_TEXT = st.one_of(
    # A form with a NUL is refused as a whole: see the forms of junk in test_guards.py.
    st.text(st.characters(exclude_characters="\0"), max_size=30),
    st.sampled_from(["", "null", "1", "-0", "1e999", "NaN", "true", '"x"', "{}", "[]", "[[1]]"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=8,
    ).map(json.dumps),
)
_NAMES = ("count", "share", "is_last", "name", "price", "days", "sizes", "either")
_FIELDS = st.sampled_from((*_NAMES, "more", "others"))
_FINE = {"count": "1", "share": "0.5", "is_last": "true", "name": "x", "price": "1", "days": "[]"}


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(given_texts=st.dictionaries(_FIELDS, _TEXT, min_size=1, max_size=3))
def test_no_text_ends_in_an_error_or_in_a_job_with_wrong_types(
    shop: Dashboard, given_texts: dict[str, str]
) -> None:
    texts = {**_FINE, "sizes": "{}", **given_texts}
    form = {f"arg.{name}": text for name, text in texts.items()}
    answer = shop.post("/tasks/shop.typed/enqueue", form)
    assert answer.status_code in {200, 303}, (answer.status_code, texts)
    if answer.status_code == 200:
        assert 'aria-invalid="true"' in answer.text or 'role="alert"' in answer.text
        return
    _, args, kwargs = _made(shop, answer)
    values = {**dict(zip(_NAMES, args, strict=False)), **kwargs}
    for name, kinds in TYPES.items():
        if name in values:
            assert type(values[name]) in kinds, (name, values[name])
    assert all(type(one) is int for one in args[len(_NAMES) :])
    assert all(type(one) is date for one in values["days"])
    assert all(type(one) is int for one in values["sizes"].values())
    assert all(type(one) is bool for name, one in kwargs.items() if name not in _NAMES)
