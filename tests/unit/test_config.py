"""The table of settings, and what ``Settings`` makes of their values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import nuvom
from nuvom.config.settings import MASK, SETTINGS, Settings, mask

DSN = "postgres://nuvom:hunter2@db/jobs"


def test_every_default_is_a_valid_value_of_its_setting() -> None:
    for name, setting in SETTINGS.items():
        assert setting.default == setting.check(setting.default, "default"), name


def test_every_field_but_the_root_is_a_setting_with_a_meaning_and_an_absent_text() -> None:
    assert {*Settings.__struct_fields__} - {"root"} == {*SETTINGS}
    for name, setting in SETTINGS.items():
        assert setting.meaning, name
        assert not setting.meaning.endswith("."), name
        assert setting.optional == bool(setting.facts["absent"]), name


def test_the_variable_of_a_setting_is_its_name_in_capitals() -> None:
    assert SETTINGS["max_workers"].variable == "NUVOM_MAX_WORKERS"


def test_documented_defaults_hold() -> None:
    settings = Settings()

    assert (settings.environment, settings.log_level, settings.log_format) == ("dev", "INFO", None)
    assert settings.queue_backend == settings.result_backend == settings.scheduler_backend
    assert (settings.queue_backend, settings.serialization_backend) == ("sqlite", "msgpack")
    assert (settings.durability, settings.timeout_policy, settings.plugins) == (
        "full",
        "fail",
        "on",
    )
    assert (settings.max_workers, settings.lease_secs, settings.max_deliveries) == (4, 30, 3)
    assert (settings.max_payload_bytes, settings.max_result_bytes) == (1 << 20, 16 << 20)
    assert (settings.result_ttl_secs, settings.failed_ttl_secs) == (7 * 86_400, 30 * 86_400)


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
