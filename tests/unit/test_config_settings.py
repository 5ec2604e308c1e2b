"""The table of settings: what each takes for a value, how it says so, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.config.settings import MASK, SETTINGS, Settings
from nuvom.errors import InvalidSetting

DSN = "postgres://nuvom:hunter2@db/jobs"
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


def test_every_field_but_the_root_is_a_setting_with_a_meaning_and_an_absent_text() -> None:
    assert {*Settings.__struct_fields__} - {"root"} == {*SETTINGS}
    for name, setting in SETTINGS.items():
        assert setting.meaning, name
        assert not setting.meaning.endswith("."), name
        assert setting.optional == bool(setting.absent), name
        assert setting.default == setting.check(setting.default, "default"), name


def test_paths_are_relative_to_the_root_or_absolute_or_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "häuschen"))
    settings = Settings(
        root=tmp_path / "p",
        sqlite_path="~/n.db",
        file_path=str(tmp_path / "f"),
        sqlite_queue_path="q.db",
    )

    assert settings.state_dir == tmp_path / "p" / ".nuvom"
    assert settings.manifest_file == tmp_path / "p" / ".nuvom" / "manifest.json"
    assert settings.db_path == tmp_path / "p" / "q.db"
    assert settings.result_db_path == tmp_path / "häuschen" / "n.db"
    assert settings.files_dir == tmp_path / "f"


def test_settings_survive_the_way_to_a_child_process(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, postgres_dsn=DSN, lease_secs=2.5, allow_network_fs=True)

    wire = msgspec.msgpack.encode(settings.to_dict())

    assert settings == Settings.from_dict(msgspec.msgpack.decode(wire))


def test_no_rendering_of_settings_shows_a_secret() -> None:
    settings = Settings(postgres_dsn=DSN, redis_url="redis://:hunter2@cache")

    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.__rich_repr__())
    assert f"postgres_dsn={MASK!r}" in repr(settings)
    assert ("threads", 4) in settings.__rich_repr__()
    with pytest.raises(InvalidSetting) as caught:
        check("postgres_dsn", f"{DSN}\n")
    assert "hunter2" not in f"{caught.value} {caught.value.fields}"


# ---- one setting ------------------------------------------------------------------------


def check(name: str, value: object) -> object:
    return SETTINGS[name].check(value, "here")


def parse(name: str, text: str) -> object:
    return SETTINGS[name].parse(text, "here")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("threads", 1, 1),
        ("lease_secs", 30, 30.0),
        ("batch_size", None, None),
        ("batch_size", "none", None),
        ("log_level", "debug", "DEBUG"),
        ("plugins", False, "off"),
        ("plugins", "no", "off"),
        ("sqlite_path", "Ordner mit Leerzeichen/ä.db", "Ordner mit Leerzeichen/ä.db"),
        ("sqlite_path", Path("a.db"), "a.db"),
    ],
)
def test_valid_values_are_taken(name: str, value: object, expected: object) -> None:
    taken = check(name, value)

    assert taken == expected
    assert type(taken) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 0),
        ("threads", 1025),
        ("threads", True),
        ("threads", 4.0),
        ("lease_secs", 0.49),
        ("lease_secs", float("nan")),
        ("durability", "half"),
        ("allow_network_fs", 1),
        ("queue_backend", "../evil"),
        ("sqlite_path", "a\x00b"),
        ("sqlite_path", ":memory:"),
        ("sqlite_path", "not\udc80utf8"),
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
        ("threads", " 8 ", 8),
        ("lease_secs", "1.5", 1.5),
        ("job_timeout_secs", "None", None),
        ("durability", "Normal", "normal"),
        *(("allow_network_fs", text, True) for text in ("1", "true", "on", "YES")),
        *(("allow_network_fs", text, False) for text in ("0", "False", "off", "no")),
    ],
)
def test_text_stands_for_numbers_and_flags(name: str, text: str, expected: object) -> None:
    taken = parse(name, text)

    assert taken == expected
    assert type(taken) is type(expected)


@pytest.mark.parametrize("name", SETTINGS)
@given(value=ANYTHING)
def test_no_value_raises_anything_else_and_what_is_taken_is_taken_again(
    name: str, value: object
) -> None:
    try:
        taken = parse(name, value) if isinstance(value, str) else check(name, value)
    except InvalidSetting:
        return
    assert taken == check(name, taken)
