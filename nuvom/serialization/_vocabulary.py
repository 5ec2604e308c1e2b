"""The classes that one annotation names: what may stand as ``Shaped`` inside a value.

Where in the annotation a class stands does not matter: with ``list[User]`` a ``User`` may be
anywhere in the argument, and comes back in the same place. The fields of a class have a
vocabulary of their own, from their own annotations.
"""

from __future__ import annotations

from functools import cached_property
from operator import is_
from typing import TYPE_CHECKING, Any

from nuvom.errors import PayloadError
from nuvom.serialization._classes import shape_of
from nuvom.serialization._hints import ClassesNamed, hints_of_class
from nuvom.serialization._refusal import Refused, fields, kind_of_class, too_deep
from nuvom.serialization.shaped import MAX_DEPTH, Shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nuvom.serialization._hints import Unresolved

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_HOLDERS = frozenset({list, dict, tuple, set, frozenset})


class Vocabulary:
    """The classes that may be stored in one place. False when there are none.

    Args:
        entries: The classes.
        unresolved: Parts of the annotation that could not be looked up.
    """

    def __init__(
        self, entries: Iterable[Entry] = (), unresolved: Sequence[Unresolved] = ()
    ) -> None:
        self._by_class = {entry.cls: entry for entry in entries}
        self._by_name = {entry.name: entry for entry in self._by_class.values()}
        self._unresolved = unresolved

    def __bool__(self) -> bool:
        return bool(self._by_class or self._unresolved)

    def lower(self, value: Any, depth: int = 0) -> Any:
        """Return ``value`` with each object of a known class replaced by ``Shaped``.

        What holds none comes back as the same object. Objects of other classes stay as they
        are; the codec refuses them.

        Args:
            depth: How many containers ``value`` is in.
        Raises: Refused: an object is of a subclass of a known class, or perhaps of a class
            that could not be looked up, or cannot be taken apart; or it is nested too deeply.
        """
        kind = type(value)
        if kind in _PLAIN:
            return value
        entry = self._by_class.get(kind)
        if entry is None and kind not in _HOLDERS:
            self._refuse_look_alike(value)
            return value
        if depth == MAX_DEPTH:
            raise too_deep(value)
        if entry is not None:
            return self._lower_object(value, entry, depth + 1)
        try:
            return _mapped(value, lambda child: self.lower(child, depth + 1))
        except Refused as refused:
            refused.inside(value)
            raise

    def _lower_object(self, value: Any, entry: Entry, depth: int) -> Shaped:
        if self._by_name[entry.name] is not entry:
            raise Refused(value, f"its annotation names two classes called {entry.name}")
        if entry.shape.problem:
            raise Refused(value, entry.shape.problem)
        data = entry.shape.take(value)
        if isinstance(data, dict):
            try:
                data = {
                    name: field if not (own := entry.fields[name]) else own.lower(field, depth)
                    for name, field in data.items()
                }
            except Refused as refused:
                refused.inside(value, fields(data))
                raise
        return Shaped(entry.name, data)

    def _refuse_look_alike(self, value: Any) -> None:
        cls = type(value)
        for known in self._by_class:
            if issubclass(cls, known):
                raise Refused(
                    value,
                    f"the annotation names {known.__name__}, and a subclass would come back "
                    f"without what it adds; name {cls.__name__} too",
                )
        if self._unresolved and kind_of_class(cls):
            first = self._unresolved[0]
            raise Refused(value, f"the annotation {first.text!r} cannot be resolved: {first.why}")

    def lift(self, value: Any, where: str) -> Any:
        """Return ``value`` with each ``Shaped`` replaced by the object that it describes.

        Args:
            where: What errors call the whole value.
        Raises: PayloadError: a ``Shaped`` is of another class, or the class has changed since.
        """
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is Shaped:
            return self._lift_object(value, where)
        if kind not in _HOLDERS:
            return value
        try:
            return _mapped(value, lambda child: self.lift(child, where))
        except PayloadError:
            raise
        except Exception as error:  # user code: __hash__ and __eq__ of the objects rebuilt
            raise PayloadError(f"{where}: {type(error).__name__}: {error}") from error

    def _lift_object(self, value: Shaped, where: str) -> Any:
        entry = self._by_name.get(value.name)
        if entry is None:
            known = ", ".join(self._by_name) or "no such class"
            more = "".join(f"; {part.text!r} cannot be resolved" for part in self._unresolved)
            raise PayloadError(
                f"{where}: it holds a {value.name}, but the annotation names {known}{more}"
            )
        data = value.data
        if isinstance(data, dict):
            unknown = [name for name in data if name not in entry.fields]
            if unknown:
                raise PayloadError(f"{where}: {entry.name} has no field {unknown[0]!r} here")
            data = {name: entry.fields[name].lift(field, where) for name, field in data.items()}
        try:
            return entry.shape.build(data)
        except Exception as error:  # user code: constructors, __post_init__, Enum._missing_
            reason = f"{where}: no {entry.name} can be made of it: {type(error).__name__}: {error}"
            raise PayloadError(reason) from error


class Entry:
    """One class in a vocabulary: its shape, and the vocabularies of its fields."""

    def __init__(self, cls: type, lexicon: Lexicon, around: frozenset[type]) -> None:
        self.cls = cls
        self.name = cls.__qualname__
        self.shape = shape_of(cls)
        self._lexicon = lexicon
        self._around = around

    @cached_property
    def fields(self) -> dict[str, Vocabulary]:
        """The vocabulary of each field; found when an object is first met: classes recur."""
        hints = hints_of_class(self.cls)
        return {
            name: self._lexicon.vocabulary(hints.get(name), self._around)
            for name in self.shape.fields
        }


class Lexicon:
    """Makes the vocabularies of one function, each class once."""

    def __init__(self) -> None:
        self._entries: dict[tuple[type, frozenset[type]], Entry] = {}

    def vocabulary(self, hint: Any, around: frozenset[type] = frozenset()) -> Vocabulary:
        """Return the vocabulary of a resolved annotation.

        Args:
            around: The classes that a type variable in it may stand for.
        """
        named = ClassesNamed(around)
        named.add(hint)
        classes = frozenset(named.classes)
        return Vocabulary([self._entry(cls, classes) for cls in named.classes], named.unresolved)

    def _entry(self, cls: type, beside: frozenset[type]) -> Entry:
        """Return the entry of ``cls``, named in an annotation ``beside`` others.

        The type variables of a generic class may stand for any class named with it.
        """
        named = ClassesNamed(beside if getattr(cls, "__parameters__", ()) else frozenset())
        named.add_arguments_of_bases(cls)
        around = named.around | frozenset(named.classes)
        key = (cls, around)
        if key not in self._entries:
            self._entries[key] = Entry(cls, self, around)
        return self._entries[key]


def _mapped(holder: Any, change: Callable[[Any], Any]) -> Any:
    """Return ``holder`` with its children changed, or itself when none has changed."""
    items = [change(item) for item in holder]
    if type(holder) is not dict:
        return holder if all(map(is_, items, holder)) else type(holder)(items)
    values = [change(value) for value in holder.values()]
    if all(map(is_, items, holder)) and all(map(is_, values, holder.values())):
        return holder
    return dict(zip(items, values, strict=True))
