"""Converts arguments that people type to the types that a task's annotations name.

The types are read from the source: nothing of a project is imported. Where an annotation names
something that cannot be read there, such as a class of a library, values stay as they are.
"""

from __future__ import annotations

import ast
import json
import re
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from itertools import product
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Optional, Union
from uuid import UUID

import msgspec

from nuvom.config.project import import_roots
from nuvom.core.text import mask_value
from nuvom.discovery.stub import annotation_text
from nuvom.errors import InvalidArguments, plural
from nuvom.serialization.base import Shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from inspect import Parameter, Signature

    from nuvom.config.settings import Settings

_BUILTIN: dict[str, Any] = {
    one.__name__: one for one in (int, float, bool, str, bytes, list, dict, tuple, set, frozenset)
}
_ABSTRACT: dict[str, Any] = {
    **dict.fromkeys(("Sequence", "Iterable", "Collection", "MutableSequence", "List"), list),
    **dict.fromkeys(("Mapping", "MutableMapping", "Dict"), dict),
    "Set": set,
    "FrozenSet": frozenset,
    "Tuple": tuple,
}
_STANDARD: dict[str, Any] = {
    **{f"datetime.{one.__name__}": one for one in (datetime, date, time, timedelta)},
    "decimal.Decimal": Decimal,
    "uuid.UUID": UUID,
    **{f"pathlib.{name}": Path for name in ("Path", "PurePath")},
    **{f"typing.{name}": one for name, one in _ABSTRACT.items()},
    **{f"collections.abc.{name}": one for name, one in _ABSTRACT.items()},
    "typing.Optional": Optional,
    "typing.Union": Union,
    "typing.Literal": Literal,
    "typing.Annotated": Annotated,
}
_FIELD_BASES = frozenset({"Struct", "NamedTuple"})
_ENUM_BASES = frozenset({"Enum", "IntEnum", "StrEnum"})
_KEYWORD = re.compile(r"(?P<name>[^\W\d]\w*)=(?P<text>.*)", re.DOTALL)
_READERS: dict[str, Callable[[str], Any]] = {
    "Path": Path,
    "Decimal": Decimal,
    "UUID": UUID,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}
_FARTHEST = 20  # steps from an annotation to what it means; modules may import each other


class _Structure(msgspec.Struct):
    """A class of the project, as far as its fields go.

    Attributes:
        own_fields: Type of each, and whether it may be missing.
        is_mapping: Whether it is a ``TypedDict``.
    """

    own_fields: ClassVar[dict[str, tuple[Any, bool]]] = {}
    is_mapping: ClassVar[bool] = False


class _Member(Enum):
    """A member of an Enum of the project, by value or name."""

    @classmethod
    def _missing_(cls, value: object) -> _Member | None:
        return cls.__members__.get(str(value))


class Converter:
    """Converts the arguments of one project's tasks.

    An int, float, bool, text, date, time, ``Decimal``, ``UUID``, ``Path``, ``Literal`` and what is
    made of them is converted as JSON is. A JSON object becomes the dataclass, ``msgspec.Struct``
    or named tuple that the annotation names, once a worker reads it, and a text the member of an
    ``Enum``. They have to be at the top level of a module of the project.
    """

    def __init__(self, settings: Settings) -> None:
        self._root = settings.root
        self._roots = import_roots(settings.root, settings.source_roots)
        self._trees: dict[Path, ast.Module | None] = {}
        self._classes: dict[tuple[Path, str], Any] = {}

    def call(
        self, file: str, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call converted; those without a parameter stay as they are.

        Args:
            file: The task's file, relative to the project's root.
        Raises: ValueError: one does not fit its annotation.
        """
        parameters = signature.parameters.values()
        positional = [one for one in parameters if one.kind < one.VAR_POSITIONAL]
        more = [one for one in parameters if one.kind is one.VAR_POSITIONAL] * len(args)
        others = [one for one in parameters if one.kind is one.VAR_KEYWORD]

        def one_of(found: list[Parameter], name: str, value: Any) -> Any:  # noqa: ANN401  # any
            kind = self.kind_of(found[0], file) if found else Any
            return converted(name or found[0].name, value, kind) if found else value

        places = [*positional, *more]
        named = {name: [one] for name, one in signature.parameters.items()}
        return (
            tuple(one_of(places[at : at + 1], "", value) for at, value in enumerate(args)),
            {name: one_of(named.get(name, others), name, one) for name, one in kwargs.items()},
        )

    def kind_of(self, parameter: Parameter, file: str) -> Any:  # noqa: ANN401  # a type
        """Return the type that a parameter of a task in ``file`` is annotated with, or Any."""
        kind = self._of_text(annotation_text(parameter), self._root / file, 0)
        is_none = repr(parameter.default) == "None"
        return kind | None if is_none and kind is not Any else kind

    # ---- what an annotation means -------------------------------------------------------

    def _of_text(self, text: str, file: Path, far: int) -> Any:  # noqa: ANN401  # a type
        try:
            return self._of(ast.parse(text, mode="eval").body, file, far)
        except (SyntaxError, ValueError, TypeError, RecursionError):
            return Any

    def _of(self, node: ast.expr, file: Path, far: int) -> Any:  # noqa: ANN401  # a type
        """Return the type that an expression names; Any if that is unknown."""
        match node:
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=str() as text):
                return self._of_text(text, file, far)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return _either([self._of(left, file, far), self._of(right, file, far)])
            case ast.Subscript(value=generic, slice=inside):
                return self._generic(self._of(generic, file, far), inside, file, far)
            case ast.Name() | ast.Attribute():
                return self._named(ast.unparse(node), file, far)
        return Any

    def _generic(self, generic: Any, inside: ast.expr, file: Path, far: int) -> Any:  # noqa: ANN401  # types
        parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        if generic is Literal:
            values = [ast.literal_eval(one) for one in parts]
            return Literal[tuple(values)]
        if generic is Annotated:
            return self._of(parts[0], file, far)
        is_open = len(parts) > 1 and ast.unparse(parts[-1]) == "..."
        kinds = [self._of(one, file, far) for one in (parts[:1] if is_open else parts)]
        if generic in (Optional, Union):
            return _either([*kinds, *([None] if generic is Optional else [])])
        if generic not in (list, dict, tuple, set, frozenset):
            return Any
        return generic[(*kinds, ...) if is_open else tuple(kinds)]

    def _named(self, path: str, file: Path, far: int) -> Any:  # noqa: ANN401  # a type
        """Return the type with a dotted name in a module."""
        tree = self._tree(file)
        if tree is None or far > _FARTHEST:
            return Any
        head, _, rest = path.partition(".")
        for node in reversed(tree.body):
            if isinstance(node, ast.ClassDef) and node.name == head and not rest:
                return self._class(node, file, far + 1)
            origin = _origin(node, head)
            if origin is not None:
                level = getattr(node, "level", 0)
                whole = f"{origin}.{rest}" if rest else origin
                return self._at(whole, file.parents[level - 1] if level else None, far + 1)
        return Any if rest else _BUILTIN.get(head, Any)

    def _at(self, path: str, folder: Path | None, far: int) -> Any:  # noqa: ANN401  # a type
        """Return the type at a dotted path, from a folder or from where the code imports."""
        if path in _STANDARD and folder is None:
            return _STANDARD[path]
        parts = path.split(".")
        roots = self._roots if folder is None else [folder]
        for root, count in product(roots, range(len(parts) - 1, -1, -1)):
            module = root.joinpath(*parts[:count])
            for file in (module.with_suffix(".py"), module / "__init__.py"):
                if file.is_file():
                    return self._named(".".join(parts[count:]), file, far)
        return Any

    def _tree(self, file: Path) -> ast.Module | None:
        if file not in self._trees:
            self._trees[file] = None
            with suppress(OSError, SyntaxError, ValueError, RecursionError):
                self._trees[file] = ast.parse(file.read_bytes())
        return self._trees[file]

    # ---- classes ------------------------------------------------------------------------

    def _class(self, node: ast.ClassDef, file: Path, far: int) -> Any:  # noqa: ANN401  # a type
        key = file, node.name
        if key not in self._classes:
            self._classes[key] = Any  # meanwhile, for a class that contains itself
            self._classes[key] = self._made(node, file, far)
        return self._classes[key]

    def _made(self, node: ast.ClassDef, file: Path, far: int) -> Any:  # noqa: ANN401  # a type
        bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        decorators = [one.func if isinstance(one, ast.Call) else one for one in node.decorator_list]
        is_dataclass = any(ast.unparse(one).endswith("dataclass") for one in decorators)
        if bases & _ENUM_BASES:
            members = dict(_members(node))
            make: Any = _Member  # calling it without members makes a class
            return make(node.name, members) if members else Any
        known = [self._of(base, file, far) for base in node.bases]
        inherited = [one for one in known if isinstance(one, type) and issubclass(one, _Structure)]
        if not (is_dataclass or bases & _FIELD_BASES or "TypedDict" in bases or inherited):
            return Any
        fields = {name: one for base in inherited for name, one in base.own_fields.items()}
        fields |= {
            name: (self._of(note, file, far), has_default)
            for name, note, has_default in _fields(node)
        }
        is_mapping = "TypedDict" in bases or any(one.is_mapping for one in inherited)
        return _structure(node.name, fields, is_mapping=is_mapping, is_total=_is_total(node))


def converted(name: str, value: Any, kind: Any) -> Any:  # noqa: ANN401  # any argument
    """Return ``value`` as a ``kind``. Raises: ValueError: it cannot be one."""
    if kind is Any:
        return value
    for is_strict in (True, False):  # "5" is a text rather than a number where both are allowed
        try:
            made = msgspec.convert(value, kind, strict=is_strict, dec_hook=_path)
            return _shaped(made)
        except msgspec.ValidationError as error:
            if not is_strict:
                reason = str(error).replace("`", "").replace(" - at $", " at ")
                shown = mask_value(name, value)
                msg = f"{name} cannot be {shown!r}: {reason[:1].lower()}{reason[1:]}"
                raise ValueError(msg) from None
        except TypeError:  # a union that cannot be told apart
            break
    return value


def _path(kind: type, value: Any) -> Any:  # noqa: ANN401  # any argument
    if issubclass(kind, PurePath) and isinstance(value, str):
        return kind(value)
    raise TypeError(kind)


def _shaped(value: Any) -> Any:  # noqa: ANN401  # any argument
    """Return ``value`` with objects as the codec stores those of the task's own classes."""
    if isinstance(value, _Structure):
        data = {
            name: _shaped(one)
            for name, one in msgspec.structs.asdict(value).items()
            if one is not msgspec.UNSET
        }
        return data if value.is_mapping else Shaped(type(value).__name__, data)
    if isinstance(value, Enum):
        return Shaped(type(value).__name__, value.name)
    if isinstance(value, dict):
        return {_shaped(key): _shaped(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(map(_shaped, value))
    return value


def _structure(
    name: str, fields: dict[str, tuple[Any, bool]], *, is_mapping: bool, is_total: bool
) -> Any:  # noqa: ANN401  # a type
    """Return a class with these fields, which are types and whether they may be missing."""
    made = [
        (field, Union[kind, msgspec.UnsetType], msgspec.UNSET)  # noqa: UP007  # computed
        if has_default or not is_total
        else (field, kind)
        for field, (kind, has_default) in fields.items()
    ]
    return msgspec.defstruct(
        name,
        made,
        bases=(_Structure,),
        kw_only=True,
        forbid_unknown_fields=True,
        namespace={"own_fields": fields, "is_mapping": is_mapping},
    )


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr, bool]]:
    """Yield name, annotation and "has a default" of the fields of a class."""
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            note = ast.unparse(one.annotation)
            if "ClassVar" not in note and not note.endswith("KW_ONLY"):
                yield one.target.id, one.annotation, one.value is not None


def _members(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """Yield the members of an Enum; the value of one that is computed is its name."""
    for one in node.body:
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name):
            name = one.targets[0].id
            yield name, one.value.value if isinstance(one.value, ast.Constant) else name


def _is_total(node: ast.ClassDef) -> bool:
    return not any(
        one.arg == "total" and ast.unparse(one.value) == "False" for one in node.keywords
    )


def _origin(node: ast.stmt, name: str) -> str | None:
    """Return the dotted path of what an import statement binds to ``name``, or None."""
    for alias in (
        getattr(node, "names", ()) if isinstance(node, ast.Import | ast.ImportFrom) else ()
    ):
        if isinstance(node, ast.ImportFrom) and name == (alias.asname or alias.name):
            return f"{node.module}.{alias.name}" if node.module else alias.name
        if isinstance(node, ast.Import) and name == (alias.asname or alias.name.partition(".")[0]):
            return alias.name if alias.asname else name
    return None


def _either(kinds: list[Any]) -> Any:  # noqa: ANN401  # a type
    return Any if Any in kinds else Union[tuple(kinds)]  # noqa: UP007  # computed


# ---- words -------------------------------------------------------------------------------


def call_of(
    task: str, signature: Signature, words: Sequence[str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Parse task arguments from ``words``: ``2 3``, ``x=2``, ``'{"a": [1]}'``, ``text``.

    A word is a JSON literal or, failing that, text. A parameter annotated as a plain ``str``,
    ``Path``, ``Decimal``, ``UUID``, ``datetime``, ``date`` or ``time`` gets exactly that type.
    ``name=value`` is a keyword argument if the task takes one of that name.

    Raises: InvalidArguments: a word does not fit the type of its parameter, or has no parameter.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        match = _KEYWORD.fullmatch(word)
        keyword = None if match is None else _keyword_parameter(signature, match["name"])
        try:
            if match is not None and keyword is not None:
                kwargs[match["name"]] = _value(keyword, match["text"])
            else:
                name = None if match is None else match["name"]
                args.append(_value(_positional(signature, len(args), word, name), word))
        except ValueError as error:
            raise InvalidArguments(task, str(error), signature=str(signature)) from None
    return tuple(args), kwargs


def _positional(signature: Signature, at: int, word: str, name: str | None) -> Parameter:
    """Return the parameter for the positional argument at index ``at``.

    Raises: ValueError: there is none for ``word``, whether or not it looks like ``name=...``.
    """
    parameters = signature.parameters.values()
    positional = [one for one in parameters if one.kind < one.VAR_POSITIONAL]
    rest = [one for one in parameters if one.kind is one.VAR_POSITIONAL]
    if at < len(positional) or rest:
        return [*positional[at:], *rest][0]
    msg = f"it takes {plural(len(positional), 'argument')}, and {word!r} is one too many"
    if name is not None:
        msg = f"it has no parameter {name}, which {word!r} would set"
    raise ValueError(msg)


def _keyword_parameter(signature: Signature, name: str) -> Parameter | None:
    found = signature.parameters.get(name)
    if found is not None and found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY):
        return found
    values = signature.parameters.values()
    return next((one for one in values if one.kind is one.VAR_KEYWORD), None)


def _value(parameter: Parameter, word: str) -> Any:  # noqa: ANN401  # what the word means
    """Convert a word for a parameter. Raises: ValueError: it does not fit."""
    try:
        literal = json.loads(word)
    except (ValueError, RecursionError):
        literal = word
    note = annotation_text(parameter)
    name = note.removesuffix(" | None").rpartition(".")[2]
    if literal is None and note.endswith("None"):
        return None
    text = literal if isinstance(literal, str) else word
    if name == "str":
        return text
    if name not in _READERS:
        return literal
    try:
        return _READERS[name](text)
    except (ValueError, InvalidOperation):
        msg = f"{parameter.name} cannot be {word!r}: it is a {name}"
        raise ValueError(msg) from None
