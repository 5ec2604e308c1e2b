"""The interface that plugin authors write against."""

from __future__ import annotations

import pytest

from nuvom.control import Control as RealControl
from nuvom.inspection import Inspector as RealInspector
from nuvom.plugins import contracts
from nuvom.plugins.contracts import API_VERSION, Plugin, is_compatible, looks_like_plugin


@pytest.mark.parametrize("version", ["1.0", "1.7", "1", API_VERSION])
def test_same_major_version_is_compatible(version: str) -> None:
    assert is_compatible(version)


@pytest.mark.parametrize("version", ["2.0", "0.9", "10.0", "11", "", "one", None, 1.0, (1, 0)])
def test_other_versions_are_not(version: object) -> None:
    assert not is_compatible(version)


def test_plugins_are_told_by_what_they_have() -> None:
    class Duck:
        api_version = "1.0"
        name = "duck"

        def start(self, settings: object, extras: object) -> None:
            pass

        def stop(self) -> None:
            pass

    assert looks_like_plugin(Duck())
    assert looks_like_plugin(Plugin())
    assert not looks_like_plugin(object())

    stopless = Duck()
    stopless.stop = None  # type: ignore[method-assign,assignment]  # not callable
    assert not looks_like_plugin(stopless)


def test_what_the_runtime_builds_fits_what_plugins_are_promised() -> None:
    """The assignments are for the type checker."""
    inspector: type[contracts.Inspector] = RealInspector
    control: type[contracts.Control] = RealControl

    for promised, real in ((contracts.Inspector, inspector), (contracts.Control, control)):
        names = {name for name in vars(promised) if not name.startswith("_")}
        assert names
        assert names.issubset(dir(real))
