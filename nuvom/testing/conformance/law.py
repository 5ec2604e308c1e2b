"""What a law is: a test of a kit, whose docstring is the promise.

pytest finds the laws in a subclass of the kit and gives each of them a bench of its own: the
fixture that holds the object under test.
"""

from __future__ import annotations

import inspect
import re
import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from nuvom.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.queue_backends.base import Capability

PREFIX = "test_"
_LAWS = "nuvom.testing.conformance.laws"
Part = TypeVar("Part", bound="Callable[..., Any]")


class Kit:
    """Base of all kits and of their chapters."""

    contract: ClassVar[str] = ""
    patience_secs: ClassVar[float] = 30.0
    """How long a law waits for something immediate; reached only if something is broken."""
    limit_secs: ClassVar[float] = 100.0
    """After so long ``run`` takes a law for hung, breaks it and goes on."""


class Law(NamedTuple):
    """One law of a kit.

    Attributes:
        name: The name of the test, without ``test_``.
        group: The chapter that the law belongs to.
        promise: The promise, in one sentence.
        needs: The capabilities without which the law does not apply.
    """

    name: str
    group: str
    promise: str
    needs: tuple[Capability, ...]

    @property
    def test(self) -> str:
        """The name of its test."""
        return f"{PREFIX}{self.name}"


def needs(*capabilities: Capability) -> Callable[[Part], Part]:
    """Have a law, or all laws of a chapter, apply only where these capabilities are declared."""

    def mark(part: Part) -> Part:
        part.needs = capabilities  # type: ignore[attr-defined]  # found again by ``laws_of``
        return part

    return mark


def laws_of(kit: type[Kit]) -> list[Law]:
    """Return all laws of a kit, chapter by chapter, in source order."""
    checks: dict[str, tuple[type, Any]] = {}
    for part in kit.__mro__:
        own = {name: (part, check) for name, check in vars(part).items() if name.startswith(PREFIX)}
        checks |= {name: found for name, found in own.items() if name not in checks}
    return [
        Law(
            name=name.removeprefix(PREFIX),
            group=chapter_of(part),
            promise=" ".join((inspect.getdoc(check) or "").split()),
            needs=(*vars(part).get("needs", ()), *getattr(check, "needs", ())),
        )
        for name, (part, check) in checks.items()
        if callable(check)
    ]


def chapter_of(part: type) -> str:
    """Return the name of a chapter, which is that of its class."""
    if part.__name__.endswith("Conformance"):
        return part.__module__.rpartition(".")[2]
    return re.sub(r"(?<!^)(?=[A-Z])", "_", part.__name__.removesuffix("Laws")).lower()


class Hand(Thread):
    """A daemon thread that runs one function; ``finish`` raises what that raised."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.raised: BaseException | None = None

    def run(self) -> None:
        """Do the work."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  # the thread's outermost frame; ``finish`` raises it
            self.raised = error

    def end(self, limit_secs: float) -> None:
        """Start the thread, then ``finish``."""
        self.start()
        self.finish(limit_secs)

    def finish(self, limit_secs: float) -> None:
        """Wait for the thread to end and raise what the work raised.

        Raises: AssertionError: it did not end within ``limit_secs``.
        """
        self.join(limit_secs)
        assert not self.is_alive(), f"did not end within {limit_secs:g} s"
        if self.raised is not None:
            raise self.raised


def all_at_once(work: Callable[[int], object], *, threads: int, limit_secs: float) -> None:
    """Run ``work(0)``, ``work(1)`` ... in threads that start together; raise what one raises."""
    gate = Barrier(threads)

    def begin(number: int) -> None:
        gate.wait(limit_secs)
        work(number)

    hands = [Hand(partial(begin, number)) for number in range(threads)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.finish(limit_secs)


def import_laws(module: str) -> Any:
    """Import a module of laws so that its failing asserts show their operands.

    Raises: MissingExtra: pytest is not installed.
    """
    if find_spec("pytest") is None:
        raise MissingExtra("nuvom.testing.conformance", "testing")
    if _LAWS not in sys.modules:
        import_module("pytest").register_assert_rewrite(_LAWS)
    return import_module(module)
