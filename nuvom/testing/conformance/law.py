"""What a law is: a promise in one sentence, and a check that fails where it is not kept.

A law is a method ``test_...`` of a kit, so that pytest finds it in a subclass; ``runner.py``
runs the same methods without pytest. Its check gets a bench on which the thing under test
stands; the bench is made afresh for each law.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from unittest import SkipTest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from nuvom.queue_backends.base import Capability

PREFIX = "test_"


class Law(NamedTuple):
    """One law of a kit.

    Attributes:
        name: Of the check, without ``test_``.
        group: The chapter it belongs to.
        promise: What is promised, in one sentence.
        needs: Capabilities without which it does not apply.
        limit_secs: Longer than this it takes only where something hangs.
        check: Called with the kit and a bench.
    """

    name: str
    group: str
    promise: str
    needs: tuple[Capability, ...]
    limit_secs: float
    check: Callable[[Any, Any], None]


class LawBroken(AssertionError):  # noqa: N818  # named after what happened, as all our errors
    """The thing under test does not keep a promise."""

    def __init__(self, law: Law, detail: str) -> None:
        super().__init__(f'The law "{law.name}" is broken: {law.promise}\n{detail}')
        self.law = law


class NotDeclared(SkipTest):
    """A law does not apply, since the capabilities that it needs are not declared.

    The text is the same for all, so that pytest's summary has one line for them.
    """

    def __init__(self, missing: Sequence[Capability]) -> None:
        super().__init__("the backend does not declare what the law needs")
        self.missing = missing


def law(
    *needs: Capability, limit_secs: float = 100.0
) -> Callable[[Callable[[Any, Any], None]], Callable[[Any, Path], None]]:
    """Make a check of a kit a law that applies where all capabilities of ``needs`` are declared.

    The check's docstring is the promise, its module the chapter.
    """

    def enact(check: Callable[[Any, Any], None]) -> Callable[[Any, Path], None]:
        stated = Law(
            name=check.__name__.removeprefix(PREFIX),
            group=check.__module__.rpartition(".")[2],
            promise=" ".join((inspect.getdoc(check) or "").split()),
            needs=needs,
            limit_secs=limit_secs,
            check=check,
        )

        def test(kit: Kit, tmp_path: Path) -> None:
            kit.judge(stated, tmp_path)

        test.__name__ = check.__name__
        test.__qualname__ = check.__qualname__
        test.__module__ = check.__module__
        test.__doc__ = check.__doc__
        test.law = stated  # type: ignore[attr-defined]  # found again by ``laws_of``
        return test

    return enact


class Kit:
    """Base of all kits: brings a law and a bench together."""

    contract: ClassVar[str] = ""
    patience_secs: ClassVar[float] = 30.0
    """A limit for what takes no time; reached only where something is broken."""

    @contextmanager
    def bench(self, folder: Path) -> Iterator[Any]:
        """Give what a check works on, and clear it away afterwards."""
        raise NotImplementedError(folder)
        yield

    def declared(self, bench: Any) -> Collection[Capability] | None:
        """Return the capabilities that the thing under test declares, None for all."""
        del bench
        return None

    def judge(self, law: Law, folder: Path) -> None:
        """Hold one law.

        Raises: LawBroken; NotDeclared, SkipTest: it does not apply here.
        """
        with self.bench(folder) as bench:
            if law.needs:
                declared = self.declared(bench)
                missing = [] if declared is None else [n for n in law.needs if n not in declared]
                if missing:
                    raise NotDeclared(missing)
            try:
                law.check(self, bench)
            except AssertionError as error:
                raise LawBroken(law, str(error) or "the check gives no detail") from error


def laws_of(kit: type[Kit] | Kit) -> list[Law]:
    """Return all laws of a kit, chapter by chapter, in the order in which they are written."""
    cls = kit if isinstance(kit, type) else type(kit)
    found: dict[str, Law] = {}
    for part in cls.__mro__:
        for name, value in vars(part).items():
            if name.startswith(PREFIX) and hasattr(value, "law"):
                found.setdefault(name, value.law)
    return list(found.values())
