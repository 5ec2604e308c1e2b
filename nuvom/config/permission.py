"""Whether this process may use the store of its project: a test run has to ask for that.

The pytest plugin says that this process runs tests; ``nuvom.runtime`` checks once, when it is about
to use the project's store. It is a module of its own because the plugin must not load the runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.errors import EnqueueInTest

if TYPE_CHECKING:
    from nuvom.config.sources import Loaded

# Not from files: nuvom.toml and .env describe the store that developers and their workers use.
_EXPLICIT = frozenset({"configure()", "environment"})

is_guarded = False
"""Whether the project's store is refused, unless the environment is said to be for tests."""


def check(loaded: Loaded) -> None:
    """Raise EnqueueInTest if these settings lead a test run to the project's own store."""
    __tracebackhide__ = True  # pytest would print the settings
    if is_guarded and not _is_for_tests(loaded):
        raise EnqueueInTest(loaded.settings.root)


def _is_for_tests(loaded: Loaded) -> bool:
    origin = loaded.origins["environment"][0]
    return loaded.settings.environment == "test" and origin.source in _EXPLICIT
