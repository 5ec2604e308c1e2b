"""What plugins are started with, made before the things that it gives access to exist.

Plugins offer backends, so they start before any backend is built; ``inspector`` and
``control`` are stand-ins until the runtime binds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.errors import PluginError
from nuvom.events import EventBus, default_bus

if TYPE_CHECKING:
    from nuvom.plugins.contracts import Control, Extras, Inspector


class StandIn:
    """Passes everything on to what it is bound to; an error that says so before that."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._target: object = None

    def bind(self, target: object) -> None:
        """Stand for ``target`` from now on."""
        self._target = target

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the target has
        if self._target is None:
            raise PluginError(
                f"extras['{self._name}'].{name} was used before update_runtime was called"
            )
        return getattr(self._target, name)


def make_extras(bus: EventBus = default_bus, clock: Clock = SYSTEM_CLOCK) -> Extras:
    """Return extras whose inspector and control are stand-ins; see ``bind_extras``."""
    return {
        "events": bus,
        "inspector": cast("Inspector", StandIn("inspector")),
        "control": cast("Control", StandIn("control")),
        "clock": clock,
    }


def bind_extras(extras: Extras, inspector: Inspector, control: Control) -> None:
    """Let the stand-ins of ``extras`` act on what the runtime has built."""
    for stand_in, target in ((extras["inspector"], inspector), (extras["control"], control)):
        if isinstance(stand_in, StandIn):
            stand_in.bind(target)
