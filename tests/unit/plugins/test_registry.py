"""Names and classes of backends, providers of metrics, and the interface's version."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.control import Control as RealControl
from nuvom.errors import BackendNameTaken, UnknownBackend
from nuvom.inspection.inspector import Inspector as RealInspector
from nuvom.plugins import contracts
from nuvom.plugins import registry as module
from nuvom.plugins.contracts import API_VERSION, is_compatible
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.memory import MemoryResultBackend

# For the type checker: what the runtime builds is what plugins are promised.
INSPECTOR: type[contracts.Inspector] = RealInspector
CONTROL: type[contracts.Control] = RealControl


class OtherQueue(MemoryJobQueue):
    pass


class OtherResults(MemoryResultBackend):
    pass


@pytest.mark.parametrize("version", ["1.0", "1.7", "1", API_VERSION])
def test_same_major_version_is_compatible(version: str) -> None:
    assert is_compatible(version)


@pytest.mark.parametrize("version", ["2.0", "10.0", "", "one", None, 1.0])
def test_other_versions_are_not(version: object) -> None:
    assert not is_compatible(version)


def test_unknown_name_is_answered_with_the_nearest_and_all_others() -> None:
    module.register_queue_backend("mailbox", OtherQueue)

    with pytest.raises(UnknownBackend, match='Did you mean "mailbox"') as caught:
        module.queue_backend("mailbx")

    assert "file, mailbox, memory, postgres, redis, sqlite" == caught.value.known


def test_class_of_a_reloaded_module_takes_the_place_of_the_old_one() -> None:
    newer: Any = type("OtherQueue", (MemoryJobQueue,), {"__module__": OtherQueue.__module__})
    module.register_queue_backend("mine", OtherQueue)
    module.register_queue_backend("mine", newer)

    assert newer is module.queue_backend("mine")


def test_taken_name_is_refused_and_the_first_class_stays() -> None:
    def make() -> type[MemoryJobQueue]:
        class Local(MemoryJobQueue):
            pass

        return Local

    first = make()
    module.register_queue_backend("mine", first)

    for second in (OtherQueue, make()):  # local classes of one name are not the same
        with pytest.raises(BackendNameTaken, match=r"taken by .*:.*Local"):
            module.register_queue_backend("mine", second)
    assert first is module.queue_backend("mine")


def test_built_in_name_is_for_the_built_in_class_alone_even_before_it_was_used() -> None:
    with pytest.raises(BackendNameTaken, match="built-in"):
        module.register_queue_backend("memory", OtherQueue)
    module.register_queue_backend("memory", MemoryJobQueue)

    assert MemoryJobQueue is module.queue_backend("memory")


def test_metrics_provider_is_there_until_it_is_removed() -> None:
    remove = module.register_metrics_provider("mine", lambda: {"old": 1.0})
    remove_newer = module.register_metrics_provider("mine", lambda: {"new": 1.0})

    remove()
    assert {"new": 1.0} == module.metrics_providers()["mine"]()
    remove_newer()
    remove_newer()
    assert {} == module.metrics_providers()
