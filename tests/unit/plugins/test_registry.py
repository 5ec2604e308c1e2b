"""Names and classes of backends, and providers of metrics."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.errors import BackendNameTaken, InvalidId, UnknownBackend
from nuvom.plugins import registry as module
from nuvom.plugins.registry import BUILT_IN, BackendKind
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.memory import MemoryResultBackend


class OtherQueue(MemoryJobQueue):
    pass


class OtherResults(MemoryResultBackend):
    pass


def test_registered_classes_are_found_by_kind_and_name() -> None:
    module.register_queue_backend("mine", OtherQueue)
    module.register_result_backend("mine", OtherResults)
    module.register_schedule_store("mine", dict)

    assert OtherQueue is module.queue_backend("mine")
    assert OtherResults is module.result_backend("mine")
    assert dict is module.schedule_store("mine")


def test_unknown_name_is_answered_with_the_nearest_ones() -> None:
    module.register_queue_backend("mailbox", OtherQueue)

    with pytest.raises(UnknownBackend, match='Did you mean "mailbox"') as caught:
        module.queue_backend("mailbx")

    assert "queue" == caught.value.kind
    assert "file, mailbox, memory, sqlite" == caught.value.known


def test_class_of_a_reloaded_module_takes_the_place_of_the_old_one() -> None:
    newer: Any = type("OtherQueue", (MemoryJobQueue,), {"__module__": OtherQueue.__module__})
    module.register_queue_backend("mine", OtherQueue)
    module.register_queue_backend("mine", newer)

    assert newer is module.queue_backend("mine")


def test_two_local_classes_of_one_name_are_not_the_same() -> None:
    def make() -> type[MemoryJobQueue]:
        class Local(MemoryJobQueue):
            pass

        return Local

    module.register_queue_backend("mine", make())

    with pytest.raises(BackendNameTaken):
        module.register_queue_backend("mine", make())


def test_taken_name_is_refused_and_the_first_class_stays() -> None:
    module.register_queue_backend("mine", OtherQueue)

    with pytest.raises(BackendNameTaken, match=r"taken by .*:OtherQueue") as caught:
        module.register_queue_backend("mine", MemoryJobQueue)

    assert "MemoryJobQueue" in caught.value.second
    assert OtherQueue is module.queue_backend("mine")


@pytest.mark.parametrize("name", BUILT_IN[BackendKind.QUEUE])
def test_built_in_name_is_refused_even_before_it_was_used(name: str) -> None:
    with pytest.raises(BackendNameTaken, match="built-in"):
        module.register_queue_backend(name, OtherQueue)


def test_built_in_class_itself_may_be_registered_under_its_name() -> None:
    module.register_queue_backend("memory", MemoryJobQueue)

    assert MemoryJobQueue is module.queue_backend("memory")


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 65])
def test_name_that_no_setting_could_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidId):
        module.register_queue_backend(name, OtherQueue)


def test_metrics_provider_is_there_until_it_is_removed() -> None:
    remove = module.register_metrics_provider("mine", lambda: {"mine_jobs": 3.0})

    assert {"mine_jobs": 3.0} == module.metrics_providers()["mine"]()
    remove()
    remove()
    assert {} == module.metrics_providers()


def test_removing_a_replaced_provider_leaves_the_newer_one() -> None:
    remove = module.register_metrics_provider("mine", lambda: {"old": 1.0})
    module.register_metrics_provider("mine", lambda: {"new": 1.0})

    remove()

    assert {"new": 1.0} == module.metrics_providers()["mine"]()
