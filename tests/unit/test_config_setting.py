"""What a single setting takes for a value, and how it says what it wants."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.config.settings import SETTINGS
from nuvom.errors import InvalidSetting

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


def check(name: str, value: object) -> object:
    return SETTINGS[name].check(value, "here")


def parse(name: str, text: str) -> object:
    return SETTINGS[name].parse(text, "here")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_workers", 1, 1),
        ("max_workers", 1024, 1024),
        ("lease_secs", 0.5, 0.5),
        ("lease_secs", 30, 30.0),
        ("batch_size", None, None),
        ("batch_size", "none", None),
        ("log_level", "debug", "DEBUG"),
        ("log_format", "JSON", "json"),
        ("plugins", False, "off"),
        ("plugins", True, "on"),
        ("plugins", "no", "off"),
        ("allow_network_fs", True, True),
        ("queue_backend", "my_queue.v2", "my_queue.v2"),
        ("sqlite_path", "Ordner mit Leerzeichen/ä.db", "Ordner mit Leerzeichen/ä.db"),
        ("sqlite_path", Path("a.db"), "a.db"),
        ("postgres_dsn", "host=db password=a#b", "host=db password=a#b"),
    ],
)
def test_valid_values_are_taken(name: str, value: object, expected: object) -> None:
    taken = check(name, value)

    assert taken == expected
    assert type(taken) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_workers", 0),
        ("max_workers", 1025),
        ("max_workers", True),
        ("max_workers", 4.0),
        ("max_workers", "4"),
        ("max_workers", None),
        ("lease_secs", 0.49),
        ("lease_secs", float("nan")),
        ("lease_secs", float("inf")),
        ("lease_secs", False),
        ("lease_secs", "30"),
        ("durability", "half"),
        ("durability", True),
        ("durability", 1),
        ("plugins", "maybe"),
        ("allow_network_fs", "true"),
        ("allow_network_fs", 1),
        ("queue_backend", "../evil"),
        ("queue_backend", ""),
        ("queue_backend", 3),
        ("sqlite_path", ""),
        ("sqlite_path", "a\x00b"),
        ("sqlite_path", ":memory:"),
        ("sqlite_path", "file:x?mode=memory"),
        ("sqlite_path", 7),
        ("sqlite_path", b"bytes"),
        ("sqlite_path", "not\udc80utf8"),
        ("prometheus_host", "a\nb"),
        ("prometheus_host", ["::1"]),
    ],
)
def test_other_values_are_refused_with_name_value_origin_and_what_is_expected(
    name: str, value: object
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        check(name, value)

    error = caught.value
    assert (error.name, error.origin) == (name, "here")
    assert error.expected == SETTINGS[name].expected
    assert repr(value) in error.what
    assert f"config explain {name}" in error.fix


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("max_workers", " 8 ", 8),
        ("lease_secs", "1.5", 1.5),
        ("lease_secs", "30", 30.0),
        ("job_timeout_secs", "None", None),
        ("durability", "Normal", "normal"),
        ("sqlite_path", "a b.db", "a b.db"),
        *(("allow_network_fs", text, True) for text in ("1", "true", "on", "YES")),
        *(("allow_network_fs", text, False) for text in ("0", "False", "off", "no")),
        *(("plugins", text, "on") for text in ("1", "true", "on", "yes")),
        *(("plugins", text, "off") for text in ("0", "false", "off", "no")),
    ],
)
def test_text_stands_for_numbers_and_flags(name: str, text: str, expected: object) -> None:
    taken = parse(name, text)

    assert taken == expected
    assert type(taken) is type(expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max_workers", "four"),
        ("max_workers", "4.0"),
        ("max_workers", "9" * 5000),
        ("lease_secs", "30s"),
        ("lease_secs", "infinity"),
        ("allow_network_fs", "maybe"),
        ("max_workers", "none"),
    ],
)
def test_text_that_stands_for_nothing_is_refused_as_it_was_written(name: str, text: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse(name, text)

    assert repr(text) in caught.value.what or caught.value.value == float(text)


def test_the_error_about_a_secret_does_not_show_it() -> None:
    with pytest.raises(InvalidSetting) as caught:
        check("postgres_dsn", "postgres://u:hunter2@h\n")

    assert "hunter2" not in f"{caught.value} {caught.value.fields}"


def test_what_is_expected_is_said_in_words() -> None:
    expected = {name: setting.expected for name, setting in SETTINGS.items()}

    assert expected["max_workers"] == "a whole number from 1 to 1024"
    assert expected["lease_secs"] == "a number of seconds from 0.5 to 86400"
    assert expected["durability"] == "one of full, normal"
    assert expected["allow_network_fs"] == "true or false"
    assert expected["batch_size"] == 'a whole number from 1 to 100000, or "none"'


@pytest.mark.parametrize("name", SETTINGS)
@given(value=ANYTHING)
def test_no_value_raises_anything_else_and_what_is_taken_is_taken_again(
    name: str, value: object
) -> None:
    try:
        taken = check(name, value)
    except InvalidSetting:
        return
    assert taken == check(name, taken)


@pytest.mark.parametrize("name", SETTINGS)
@given(text=st.text())
def test_no_text_raises_anything_else(name: str, text: str) -> None:
    try:
        parse(name, text)
    except InvalidSetting as error:
        assert error.name == name


def test_a_path_object_of_bytes_is_refused() -> None:
    class Odd(os.PathLike[bytes]):
        def __fspath__(self) -> bytes:
            return b"odd"

    with pytest.raises(InvalidSetting):
        check("file_path", Odd())
