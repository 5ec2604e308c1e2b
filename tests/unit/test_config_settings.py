"""The table of settings: what each takes for a value, how it says so, and what is made of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nuvom
from nuvom.config.reference import json_schema, markdown_table, with_table
from nuvom.config.settings import MASK, SETTINGS, Settings, mask
from nuvom.errors import InvalidSetting

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
DSN = "postgres://nuvom:hunter2@db/jobs"
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


def test_every_default_is_a_valid_value_of_its_setting() -> None:
    for name, setting in SETTINGS.items():
        assert setting.default == setting.check(setting.default, "default"), name


def test_every_field_but_the_root_is_a_setting_with_a_meaning_and_an_absent_text() -> None:
    assert {*Settings.__struct_fields__} - {"root"} == {*SETTINGS}
    for name, setting in SETTINGS.items():
        assert setting.meaning, name
        assert not setting.meaning.endswith("."), name
        assert setting.optional == bool(setting.facts["absent"]), name


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().max_workers = 5  # type: ignore[misc]  # frozen: that is what is tested


def test_relative_paths_are_relative_to_the_root(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, file_path="data/f")

    assert settings.state_dir == tmp_path / ".nuvom"
    assert settings.manifest_file == tmp_path / ".nuvom" / "manifest.json"
    assert settings.db_path == settings.result_db_path == tmp_path / ".nuvom" / "nuvom.db"
    assert settings.files_dir == tmp_path / "data" / "f"


def test_queue_and_results_can_be_set_apart(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, sqlite_queue_path="q.db", sqlite_result_path="r.db")

    assert settings.db_path == tmp_path / "q.db"
    assert settings.result_db_path == tmp_path / "r.db"


def test_absolute_paths_and_the_home_folder_are_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "häuschen"))

    settings = Settings(root=tmp_path / "p", sqlite_path="~/n.db", file_path=str(tmp_path / "f"))

    assert settings.db_path == tmp_path / "häuschen" / "n.db"
    assert settings.files_dir == tmp_path / "f"


def test_the_root_defaults_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert Settings().root.samefile(tmp_path)


def test_settings_survive_the_way_to_a_child_process(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, postgres_dsn=DSN, lease_secs=2.5, allow_network_fs=True)

    wire = msgspec.msgpack.encode(settings.to_dict())

    assert settings == Settings.from_dict(msgspec.msgpack.decode(wire))


def test_no_rendering_of_settings_shows_a_secret() -> None:
    settings = Settings(postgres_dsn=DSN, redis_url="redis://:hunter2@cache")

    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.__rich_repr__())
    assert f"postgres_dsn={MASK!r}" in repr(settings)
    assert ("max_workers", 4) in settings.__rich_repr__()


def test_mask_hides_secret_settings_and_names_that_look_like_one() -> None:
    assert MASK == mask("postgres_dsn", DSN) == mask("dashboard_token", "x") == mask("PASSWORD", 1)
    assert mask("max_workers", 4) == 4
    assert mask("colour", "red") == "red"
    assert mask("postgres_dsn", None) is None
    assert mask("dashboard_token", None) is None


def test_importing_the_configuration_loads_no_heavy_module() -> None:
    root = str(Path(nuvom.__file__).parents[1])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); before = {{*sys.modules}}; "
        "import nuvom.config.sources; "
        "print({'logging', 'tomllib', 'sqlite3', 'asyncio', 'rich', 'click'}"
        " & {*sys.modules} - before)"
    )

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert answer.stdout.strip() == b"set()"


# ---- one setting ------------------------------------------------------------------------


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


class Odd(os.PathLike[bytes]):
    def __fspath__(self) -> bytes:
        return b"odd"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("file_path", Odd()),
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


# ---- documentation and schema -----------------------------------------------------------


def test_the_table_in_the_documentation_is_the_table_in_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert with_table(page) == page, "renew docs/configuration.md with config.reference.with_table"


def test_the_table_has_one_row_for_each_setting() -> None:
    rows = markdown_table().splitlines()

    assert len(rows) == len(SETTINGS) + 2
    assert all(row.count("|") == 5 for row in rows)
    assert "| `max_workers` (W) | `4` | 1 to 1024 | Threads of a worker |" in rows
    assert "| `batch_size` (W) | adaptive | 1 to 100000 | Most jobs claimed at once |" in rows


def test_the_schema_tells_type_range_choices_and_default() -> None:
    schema = json_schema()

    assert schema["additionalProperties"] is False
    assert {*SETTINGS} == {*schema["properties"]}
    assert schema["properties"]["max_workers"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1024,
        "description": "Threads of a worker",
        "default": 4,
    }
    assert schema["properties"]["durability"]["enum"] == ["full", "normal"]
    assert schema["properties"]["allow_network_fs"]["type"] == "boolean"
    assert schema["properties"]["batch_size"]["anyOf"][1] == {"const": "none"}
    assert "default" not in schema["properties"]["batch_size"]
