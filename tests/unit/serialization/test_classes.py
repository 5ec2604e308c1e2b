"""Dataclasses, Enums, Structs and named tuples travel where an annotation names them."""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import date
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

import msgspec
import pytest
import typing_extensions

from nuvom.errors import NotStorable, PayloadError
from nuvom.serialization import MAX_DEPTH, MsgpackCodec, Shaped

if TYPE_CHECKING:
    from somewhere import Session  # type: ignore[import-not-found]  # it exists for checkers only

codec = MsgpackCodec()
T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    ODD = object()
    NOTHING = None


class Level(IntEnum):
    HIGH = 2


class Rights(Flag):
    READ = 1
    WRITE = 2


@dataclass
class User:
    name: str
    born: date | None = None
    colour: Colour = Colour.RED
    balance: Decimal = Decimal(0)
    tags: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Item:
    price: Any
    count: int = 1


@dataclass
class Order:
    items: list[Item]
    buyer: User | None = None
    extra: Any = None


@dataclass
class Node:
    value: int
    children: list[Node] = field(default_factory=list)
    parent: Optional[Node] = None  # noqa: UP045  # the old spelling is meant


@dataclass
class Admin(User):
    level: int = 0


class Price(msgspec.Struct, frozen=True):
    cents: int
    currency: Colour = Colour.RED


class Point(NamedTuple):
    x: int
    y: Colour = Colour.RED


pair = namedtuple("pair", "a b")  # noqa: PYI024  # the untyped one is meant


def taking(hint: Any) -> Callable[..., Any]:
    """Return a function with one parameter, ``value``, annotated with ``hint``, and its return."""

    def function(value: Any) -> Any:
        return value

    function.__annotations__ = {"value": hint, "return": hint}
    return function


def travel(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    packed = codec.call_encoder(function)(args, kwargs)
    return codec.call_decoder(function)(*packed)


def there_and_back(hint: Any, value: Any) -> Any:
    function = taking(hint)
    (back,), _ = travel(function, value)
    _, named = travel(function, value=value)
    result = codec.result_decoder(function)(codec.result_encoder(function)(value))
    assert repr(back) == repr(named["value"]) == repr(result)
    return back


def refusal(hint: Any, value: Any) -> NotStorable:
    with pytest.raises(NotStorable) as caught:
        codec.call_encoder(taking(hint))((value,), {})
    return caught.value


USER = User("Ada", date(1815, 12, 10), Colour.ODD, Decimal("1.10"), {"a", "b"})
UserName = NewType("UserName", User)


class Basket(TypedDict, total=False):
    owner: User
    inside: list[Basket]


class OtherBasket(typing_extensions.TypedDict):
    owner: typing_extensions.Required[User]


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (User, USER),
        (Item, Item((1, {2}), 3)),
        (Price, Price(5, Colour.NOTHING)),
        (Point, Point(1, Colour.ODD)),
        (pair, pair((1,), {"x"})),
        (Colour, Colour.NOTHING),
        (Level, Level.HIGH),
        (Rights, Rights.READ | Rights.WRITE),
        (Rights, Rights(0)),
        (User | None, USER),
        (User | str, "plain"),
        (Union[User, Item, None], Item(1)),  # noqa: UP007  # the old spelling is meant
        (list[User], [USER, USER]),
        (dict[Item, Item], {Item(1): Item(2)}),
        (tuple[int, Colour], (1, Colour.RED)),
        (set[Item], {Item(1), Item(2)}),
        (Sequence[User], (USER,)),
        (Mapping[str, list[Item]], {"a": [Item(1)], "b": []}),
        (Order, Order([Item(Decimal("NaN")), Item((1,))], USER, {"x": (1, 2)})),
        (Node, Node(1, [Node(2, [Node(3)])], Node(0))),
        (Annotated[User, "metadata", Item], USER),
        (Literal[Colour.RED, "x"], Colour.RED),
        (UserName, USER),
        (Basket, {"owner": USER, "inside": [{"owner": USER}]}),
        (OtherBasket, {"owner": USER}),
        (typing_extensions.TypeAliasType("Users", list[User]), [USER]),
        (TypeVar("Bound", bound=User), USER),
        (TypeVar("One", User, Item), Item(1)),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_annotated_object_comes_back_as_it_was(hint: Any, value: Any) -> None:
    back = there_and_back(hint, value)
    assert (type(value), repr(value)) == (type(back), repr(back))
    if "NaN" not in repr(value):
        assert value == back


def sent(order: Order, /, *rest: Node, **more: Price) -> Point:
    return Point(len(rest))


def test_the_classes_of_all_parameters_travel_with_a_call() -> None:
    """Also through a decorator, in the fields of other classes, and in other parameters."""

    @functools.wraps(sent)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        pass

    args, kwargs = (Order([], None, [USER]), Node(1), "plain"), {"extra": Price(1), "x": Item(1)}
    assert (args, kwargs) == travel(wrapper, *args, **kwargs)
    with pytest.raises(NotStorable) as caught:
        travel(sent, Order([]), [Point(1)])
    assert "args[1][0]" == caught.value.path  # the annotation of the return does not count


# ---- generic classes ------------------------------------------------------------------------


@dataclass
class Page(Generic[T]):
    items: list[T]
    total: int = 0


@dataclass
class UserPage(Page[User]):
    title: str = ""


def test_a_type_variable_stands_for_the_classes_that_are_named_and_no_others() -> None:
    assert Page([USER]) == there_and_back(Page[User], Page([USER]))
    assert UserPage([USER], 1, "x") == there_and_back(UserPage, UserPage([USER], 1, "x"))
    assert "value.items[0]" == refusal(Page[int], Page([USER])).path


# ---- what is refused ------------------------------------------------------------------------


def test_the_path_leads_through_the_fields() -> None:
    order = Order([Item(1), Item(2), Item(object())])
    assert "value.items[2].price" == refusal(Order, order).path
    encode = codec.call_encoder(taking(dict[str, Order]), ("orders",))
    with pytest.raises(NotStorable) as caught:
        encode(({"x": order},), {})
    assert "orders['x'].items[2].price" == caught.value.path
    with pytest.raises(NotStorable) as caught:
        codec.result_encoder(taking(Order))(order)
    assert "result.items[2].price" == caught.value.path


@pytest.mark.parametrize(
    ("hint", "value", "path"),
    [
        (list[User], [Admin("x")], "[0]"),
        (Order, Order([], Admin("x")), ".buyer"),
        (dict[Item, User], {Item(1): Admin("x")}, "[Item]"),
    ],
)
def test_an_object_of_a_subclass_is_refused(hint: Any, value: Any, path: str) -> None:
    error = refusal(hint, value)
    assert f"value{path}" == error.path
    assert "the annotation names User" in error.what
    assert "name Admin too" in error.what


def test_objects_nest_to_the_limit_and_no_further() -> None:
    node: Node | None = None
    for _ in range(MAX_DEPTH - 1):  # the list of children of the innermost is a level too
        node = Node(1, parent=node)
    assert node == there_and_back(Node, node)
    assert "levels deep" in refusal(Node, Node(1, parent=node)).what


def make_user() -> type:
    @dataclass
    class User:
        name: str

    User.__qualname__ = "User"
    return User


def test_two_classes_of_one_name_are_told_apart_by_their_modules() -> None:
    other = make_user()
    assert f"name two classes called {__name__}.User" in refusal(User | other, USER).what
    other.__module__ = "elsewhere"
    both: Any = User | other
    assert [USER, other("Bob")] == there_and_back(list[both], [USER, other("Bob")])


@dataclass
class Stack(list[int]):
    name: str = ""


@dataclass(init=False)
class Handmade:
    name: str

    def __init__(self, first: str, last: str) -> None:
        self.name = first + last


class Undecorated(User):
    def __init__(self) -> None:
        super().__init__("x")


class Plainly(User):
    """Not decorated either, but built as its base is."""


@dataclass
class Needs:
    name: str
    secret: InitVar[str]


@dataclass
class Has:
    name: str
    secret: InitVar[str] = "x"


@pytest.mark.parametrize(
    ("value", "because"),
    [
        (Stack("x"), "it is also a list"),
        (Handmade("a", "b"), "written by hand"),
        (Undecorated(), "written by hand"),
        (Needs("a", "b"), "its constructor needs secret, an InitVar"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_class_that_its_fields_cannot_build_is_refused(value: Any, because: str) -> None:
    assert because in refusal(type(value), value).what


@pytest.mark.parametrize("value", [Plainly("x"), Has("x", "y")], ids=str)
def test_a_class_that_its_fields_can_build_travels(value: Any) -> None:
    assert value == there_and_back(type(value), value)


# ---- rebuilding -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Doubling:
    value: int
    twice: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", self.value * 2)
        object.__setattr__(self, "twice", self.value)
        object.__setattr__(self, "lock", "made anew")


class DoublingStruct(msgspec.Struct, frozen=True):
    value: int

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "value", self.value * 2)


def test_post_init_runs_and_the_fields_are_still_what_they_were() -> None:
    value = Doubling(1)
    back = there_and_back(Doubling, value)
    assert (2, 2, "made anew") == (back.value, back.twice, back.lock)
    assert DoublingStruct(1) == there_and_back(DoublingStruct, DoublingStruct(1))


def lifted(hint: Any, value: Any) -> Any:
    function = taking(hint)
    args = codec.encode_call((value,), {})
    (back,), _ = codec.call_decoder(function)(*args)
    return back


def test_a_field_added_later_gets_its_default() -> None:
    assert Item(1) == lifted(Item, Shaped("Item", {"price": 1}))
    assert Price(1) == lifted(Price, Shaped("Price", {"cents": 1}))
    assert Point(1) == lifted(Point, Shaped("Point", {"x": 1}))


@pytest.mark.parametrize(
    ("hint", "stored", "reason"),
    [
        (
            Item,
            Shaped("User", {"name": "x"}),
            "value: it holds a User, but the annotations name Item",
        ),
        (list[Item], [Shaped("Item", {"old": 1})], "Item has no field 'old' here"),
        (Item, Shaped("Item", {}), "no Item can be made of it: TypeError"),
        (Point, Shaped("Point", {}), "no Point can be made of it: KeyError: 'x'"),
        (Colour, Shaped("Colour", "GREEN"), "it has no member 'GREEN'"),
        (Colour, Shaped("Colour", {}), "it has no member {}"),
        (Rights, Shaped("Rights", "READ"), "it is a number, not 'READ'"),
        (set[User], {Shaped("User", {"name": "x"})}, "unhashable"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_does_not_fit_the_class_any_more_is_a_payload_error(
    hint: Any, stored: Any, reason: str
) -> None:
    with pytest.raises(PayloadError) as caught:
        lifted(hint, stored)
    assert reason in caught.value.what


def test_s01_nothing_is_found_imported_or_called_by_a_stored_name() -> None:
    import sys

    modules, made = set(sys.modules), Canary.made
    here = f"{__name__}."
    for name in ("Canary", here + "Canary", "os.system", "subprocess.Popen", "turtle.Turtle"):
        for data in ({"command": "true"}, "system", 1):
            packed = codec.encode_call((Shaped(name, data), [Shaped(name, data)]), {})
            for function in (taking(User), taking(Any)):
                with pytest.raises(PayloadError):
                    codec.call_decoder(function)(*packed)
            assert (Shaped(name, data).name) == codec.decode_call(*packed, shaped=True)[0][0].name
    assert (modules, made) == (set(sys.modules), Canary.made)


@dataclass
class Canary:
    made = 0
    command: str = ""

    def __post_init__(self) -> None:
        Canary.made += 1


# ---- annotations that cannot be resolved ----------------------------------------------------


@dataclass
class Visit:
    session: Session
    user: User


def test_a_field_whose_annotation_cannot_be_resolved_spoils_no_other() -> None:
    visit = Visit("id-5", USER)
    assert visit == there_and_back(Visit, visit)
    error = refusal(Visit, Visit(Item(1), USER))
    assert "value.session" == error.path
    assert "'Session' cannot be resolved" in error.what
