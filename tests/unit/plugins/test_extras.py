"""What plugins are given before it exists."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.errors import PluginError
from nuvom.events import EventBus
from nuvom.plugins.lifecycle import bind_extras, make_extras


class Target:
    def stats(self) -> list[str]:
        return ["stats"]

    def cancel(self, job_id: str) -> str:
        return f"cancelled {job_id}"


def test_stand_ins_say_that_it_is_too_early() -> None:
    extras = make_extras(EventBus())

    with pytest.raises(PluginError, match=r"extras\['inspector'\].stats was used before"):
        extras["inspector"].stats()


def test_stand_ins_act_on_what_they_are_bound_to_also_when_kept() -> None:
    extras = make_extras(EventBus())
    kept: Any = extras["inspector"]
    target: Any = Target()

    bind_extras(extras, target, target)

    assert ["stats"] == kept.stats()
    assert "cancelled 7" == extras["control"].cancel("7")
