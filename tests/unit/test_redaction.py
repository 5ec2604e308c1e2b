"""Values that are not shown: by the project's names, wherever jobs are shown or searched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.record import JobRecord
from nuvom.discovery.manifest import write_manifest
from nuvom.discovery.scan import scan
from nuvom.errors import InvalidTaskOption
from nuvom.inspection.inspector import Inspector
from nuvom.inspection.redaction import unmasked
from nuvom.inspection.search import parse_search
from nuvom.serialization.base import Shaped
from nuvom.task import task
from nuvom.testing import make_job
from tests.engine import Engine, make_runtime

CODE = """
from nuvom import task

NAMES = ("card",)

@task(redact=("card", "Holder"), aliases=["tasks.paid"])
def pay(order, card, /, *cards, note="", **more): ...

@task(redact="result")
def draw(size): ...

@task(redact="rest")
def gather(*rest, keep=1): ...

@task(redact=NAMES)
def unclear(order, card=1): ...

@task
def plain(order, iban=""): ...
"""
PAID = ("tasks.pay", 5, 4111, {"holder": "me", "n": 2**60, "token": "t"})


@pytest.fixture
def engine(project: Path) -> Iterator[Engine]:
    (project / "tasks.py").write_text(CODE)
    runtime = make_runtime(project, redact=("iban",))
    found = scan(project)
    assert not found.errors
    write_manifest(runtime.settings.manifest_file, found.tasks, root=project)
    with Engine(runtime) as engine:
        yield engine


def shown(engine: Engine, record: JobRecord) -> Any:
    return Inspector(engine.runtime).shown_arguments(record)


def test_names_of_the_manifest_and_the_settings_are_masked(engine: Engine) -> None:
    masked = {"holder": "***", "n": 2**60, "token": "***"}
    assert shown(engine, make_job(*PAID, kwargs={"note": "x", "card": 1})) == (
        [5, "***", masked],
        {"note": "x", "card": "***"},
    )
    assert shown(engine, make_job("tasks.paid", 5, 4111)) == ([5, "***"], {})
    assert shown(engine, make_job("tasks.gather", 1, 2, kwargs={"keep": 3})) == (
        ["***", "***"],
        {"keep": 3},
    )
    assert shown(engine, make_job("tasks.plain", 5, "NL91")) == ([5, "***"], {})
    assert shown(engine, make_job("tasks.gone", {"iban": 1, "card": 2})) == (
        [{"iban": "***", "card": 2}],
        {},
    )


def test_all_is_masked_where_only_the_code_could_tell_the_names(engine: Engine) -> None:
    record = make_job("tasks.unclear", 5, kwargs={"card": 6})
    assert shown(engine, record) == (["***"], {"card": "***"})

    def unclear(order: int, card: int = 1) -> None:
        raise NotImplementedError

    engine.task(unclear, name="tasks.unclear", redact=["card"])
    assert shown(engine, record) == ([5], {"card": "***"})


def test_a_new_manifest_counts_at_once(engine: Engine, project: Path) -> None:
    inspector, record = Inspector(engine.runtime), make_job("tasks.plain", 5, "NL91")
    assert inspector.shown_arguments(record)[0] == [5, "***"]
    (project / "tasks.py").write_text(CODE.replace("@task\ndef", '@task(redact="order")\ndef'))
    tasks = scan(project).tasks
    write_manifest(engine.runtime.settings.manifest_file, tasks, root=project)
    assert inspector.shown_arguments(record)[0] == ["***", "***"]


def test_a_result_is_masked_whole_or_by_its_keys(engine: Engine) -> None:
    def draw(size: int) -> dict[str, int]:
        return {"iban": 1, "size": size}

    for name, expected in (("tasks.draw", "***"), ("tasks.other", {"iban": "***", "size": 3})):
        job = engine.task(draw, name=name).delay(3)
        engine.work()
        engine.runtime.registry.clear()
        inspector = Inspector(engine.runtime)
        assert inspector.shown_result(inspector.snapshot(job.id)) == expected


def test_a_search_does_not_find_what_is_masked(engine: Engine) -> None:
    engine.runtime.queue.enqueue(make_job(*PAID))
    inspector = Inspector(engine.runtime)

    def count(text: str) -> int:
        return len(inspector.search(parse_search(text), secs=60.0).jobs)

    assert [count(f"args.{one}") for one in ("order:5", "2.n:1152921504606846976")] == [1, 1]
    hidden = ("card:4111", "card:*", "card:***", "2.holder:me", "2.token:t", "2.token:*")
    assert [count(f"args.{one}") for one in hidden] == [0] * 6
    assert count("args.order:5 -args.card:4111") == 1


def test_an_edit_keeps_what_it_did_not_change(engine: Engine) -> None:
    inspector, record = (
        Inspector(engine.runtime),
        make_job(*PAID, kwargs={"card": 4111, "note": b"raw"}),
    )
    args, kwargs = inspector.editable_arguments(record)
    assert args == [5, "***", {"holder": "***", "n": 2**60, "token": "***"}]
    args[0] = 6
    args[2]["n"] += 1
    assert inspector.edited_arguments(record, args, {**kwargs, "more": 1}) == (
        (6, 4111, {"holder": "me", "n": 2**60 + 1, "token": "t"}),
        {"card": 4111, "note": b"raw", "more": 1},
    )
    args[1], args[2]["holder"] = 4222, "you"
    args.append(9)
    assert inspector.edited_arguments(record, args, {}) == (
        (6, 4222, {"holder": "you", "n": 2**60 + 1, "token": "t"}, 9),
        {},
    )


def test_a_mask_in_a_list_that_was_changed_around_it_is_refused() -> None:
    stored = [{"user": "a", "password": "1"}, {"user": "b", "password": "2"}]
    shown = [{"user": "a", "password": "***"}, {"user": "b", "password": "***"}]
    assert unmasked([shown[0], {"user": "c", "password": "3"}], shown, stored) == [
        stored[0],
        {"user": "c", "password": "3"},
    ]
    for edited in (shown[1:], [shown[1], shown[0]], [{"user": "c", "password": "***"}, shown[1]]):
        with pytest.raises(ValueError, match="typed again"):
            unmasked(edited, shown, stored)


def test_an_object_inside_an_edited_one_is_put_together_anew() -> None:
    inner = Shaped("Card", {"number": 4111, "token": "t"})
    stored = Shaped("Order", {"id": 1, "card": inner})
    shown = {"id": 1, "card": {"number": 4111, "token": "***"}}
    assert unmasked(shown, shown, stored) is stored
    assert unmasked({**shown, "id": True}, shown, stored) == {
        "id": True,
        "card": {"number": 4111, "token": "t"},
    }


def test_an_option_that_names_nothing_is_refused() -> None:
    for value in ((), [1], 5):
        with pytest.raises(InvalidTaskOption, match="redact"):
            task(redact=value)  # type: ignore[arg-type]
