"""Plugins start after those that they require."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from nuvom.plugins.order import start_order


class Box(NamedTuple):
    name: str
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()

    @property
    def words(self) -> frozenset[str]:
        return frozenset((self.name, *self.provides))


def names(plugins: list[Box]) -> str:
    return "".join(plugin.name for plugin in plugins)


def test_order_is_kept_where_nothing_is_required() -> None:
    order, refused = start_order([Box("b"), Box("a"), Box("c")])

    assert "bac" == names(order)
    assert [] == refused


def test_required_plugin_comes_first() -> None:
    order, _ = start_order([Box("a", requires=("b",)), Box("b", requires=("c",)), Box("c")])

    assert "cba" == names(order)


def test_all_that_provide_a_required_word_come_first() -> None:
    order, _ = start_order(
        [Box("a", requires=("db",)), Box("b", provides=("db",)), Box("c", provides=("db",))]
    )

    assert "bca" == names(order)


def test_plugin_may_provide_what_it_requires() -> None:
    order, _ = start_order([Box("a", requires=("db",), provides=("db",))])

    assert "a" == names(order)


def test_what_runs_already_counts() -> None:
    order, refused = start_order([Box("a", requires=("b",))], [Box("b")])

    assert "a" == names(order)
    assert [] == refused


def test_missing_requirement_is_named_and_the_others_start() -> None:
    order, refused = start_order([Box("a", requires=("x",)), Box("b")])

    assert "b" == names(order)
    assert [("a", 'it requires "x", which no plugin provides')] == [
        (plugin.name, reason) for plugin, reason in refused
    ]


def test_circle_is_refused_and_so_is_what_hangs_on_it() -> None:
    plugins = [Box("a", requires=("b",)), Box("b", requires=("a",)), Box("c", requires=("a",))]
    order, refused = start_order(plugins)

    assert [] == order
    assert [
        ("a", 'it requires "b", which cannot start before it'),
        ("b", 'it requires "a", which cannot start before it'),
        ("c", 'it requires "a", which cannot start before it'),
    ] == [(plugin.name, reason) for plugin, reason in refused]


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcdef")), st.none()), max_size=6))
def test_every_plugin_is_placed_or_refused_and_placed_after_its_requirements(
    drawn: list[tuple[set[str], None]],
) -> None:
    plugins = [
        Box(name, tuple(sorted(requires)))
        for name, (requires, _) in zip("abcdef", drawn, strict=False)
    ]
    order, refused = start_order(plugins)

    assert sorted(names(plugins)) == sorted(names(order) + names([one for one, _ in refused]))
    for place, plugin in enumerate(order):
        before = {one.name for one in order[:place]} | {plugin.name}
        assert before.issuperset(plugin.requires)
