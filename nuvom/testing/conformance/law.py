"""What a law is: a one-sentence promise, and a check that fails if it is not kept.

A law is a method ``test_...`` of a kit; pytest finds it in a subclass. Its check is called with a
bench that holds the object under test. Each law gets its own bench.
"""

from __future__ import annotations

import inspect
import re
import sys
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from unittest import SkipTest

from nuvom.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from nuvom.queue_backends.base import Capability

PREFIX = "test_"
_LAWS = "nuvom.testing.conformance.laws"


class Law(NamedTuple):
    """One law of a kit.

    Attributes:
        name: The name of the check, without ``test_``.
        group: The chapter that the law belongs to.
        promise: The promise, in one sentence.
        needs: The capabilities without which the law does not apply.
        limit_secs: A check that takes longer counts as hung.
        check: Called with the kit and a bench.
    """

    name: str
    group: str
    promise: str
    needs: tuple[Capability, ...]
    limit_secs: float
    check: Callable[[Any, Any], None]


class LawBroken(AssertionError):  # noqa: N818  # named after what happened, like all our errors
    """The object under test breaks a promise."""

    def __init__(self, law: Law, detail: str) -> None:
        super().__init__(f'The law "{law.name}" is broken: {law.promise}\n{detail}')
        self.law = law
        self.detail = detail


class NotDeclared(SkipTest):
    """A law does not apply, because the backend does not declare a capability that it needs.

    The text is always the same, so that pytest's summary has one line for all of them.
    """

    def __init__(self, missing: Sequence[Capability]) -> None:
        super().__init__("the backend does not declare what the law needs")
        self.missing = missing


def law(
    *needs: Capability, limit_secs: float = 100.0
) -> Callable[[Callable[[Any, Any], None]], Callable[[Any, Path], None]]:
    """Make a check of a kit a law that applies where all capabilities of ``needs`` are declared.

    The check's docstring is the promise. The chapter is named after the check's class, or after
    its module where the class is the kit itself.
    """

    def enact(check: Callable[[Any, Any], None]) -> Callable[[Any, Path], None]:
        stated = Law(
            name=check.__name__.removeprefix(PREFIX),
            group=_chapter(check),
            promise=" ".join((inspect.getdoc(check) or "").split()),
            needs=needs,
            limit_secs=limit_secs,
            check=check,
        )

        def test(kit: Kit, tmp_path: Path) -> None:
            kit.judge(stated, tmp_path)

        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(test, name, getattr(check, name))
        test.law = stated  # type: ignore[attr-defined]  # found again by ``laws_of``
        return test

    return enact


def _chapter(check: Callable[[Any, Any], None]) -> str:
    cls = check.__qualname__.split(".")[-2]
    if cls.endswith("Conformance"):
        return check.__module__.rpartition(".")[2]
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.removesuffix("Laws")).lower()


class Kit:
    """Base of all kits: brings a law and a bench together."""

    contract: ClassVar[str] = ""
    patience_secs: ClassVar[float] = 30.0
    """How long a law waits for something immediate; reached only if something is broken."""

    @contextmanager
    def bench(self, folder: Path) -> Iterator[Any]:
        """Yield what a check works on, and clean it up afterwards."""
        raise NotImplementedError(folder)
        yield

    def declared(self, bench: Any) -> Collection[Capability] | None:
        """Return the capabilities that the object under test declares, or None for all."""
        del bench
        return None

    def judge(self, law: Law, folder: Path) -> None:
        """Check one law in its own thread, so that a backend that hangs only breaks that law.

        Raises: LawBroken: the check fails, or takes too long. NotDeclared, SkipTest: the law
        does not apply. Anything else: what the object under test raised.
        """
        hand = Hand(partial(self._check, law, folder))
        hand.start()
        hand.join(law.limit_secs)
        if hand.is_alive():
            raise LawBroken(law, f"did not end within {law.limit_secs:g} s")
        hand.finish(0)

    def _check(self, law: Law, folder: Path) -> None:
        with self.bench(folder) as bench:
            declared = self.declared(bench) if law.needs else None
            missing = [] if declared is None else [one for one in law.needs if one not in declared]
            if missing:
                raise NotDeclared(missing)
            try:
                law.check(self, bench)
            except AssertionError as error:
                raise LawBroken(law, str(error) or "the check gives no detail") from error


def laws_of(kit: type[Kit] | Kit) -> list[Law]:
    """Return all laws of a kit, chapter by chapter, in source order."""
    cls = kit if isinstance(kit, type) else type(kit)
    found: dict[str, Law] = {}
    for part in cls.__mro__:
        for name, value in vars(part).items():
            if name.startswith(PREFIX) and hasattr(value, "law"):
                found.setdefault(name, value.law)
    return list(found.values())


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
        assert not self.is_alive(), f"still not done after {limit_secs:g} s"
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
    pytest = need_pytest()
    if _LAWS not in sys.modules:
        pytest.register_assert_rewrite(_LAWS)
    return import_module(module)


def need_pytest() -> Any:
    """Return pytest, which only tests of backends need.

    Raises: MissingExtra: it is not installed.
    """
    if find_spec("pytest") is None:
        raise MissingExtra("nuvom.testing.conformance", "testing")
    return import_module("pytest")
