"""Which source of settings wins, what each may hold, and how that is explained."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.config.settings import SETTINGS, Settings
from nuvom.config.sources import ExplainedSource as Row
from nuvom.config.sources import (
    Loaded,
    explain,
    load,
    problems,
    project_name,
    use_program_settings,
)
from nuvom.errors import ConfigError, InvalidConfigFile, InvalidSetting, UnknownSetting

posix = pytest.mark.skipif(sys.platform == "win32", reason="owners and pipes are POSIX")

DSN = "postgres://nuvom:hunter2@db/jobs"


def write(folder: Path, **files: str) -> None:
    names = {"toml": "nuvom.toml", "pyproject": "pyproject.toml", "env": ".env"}
    for name, text in files.items():
        (folder / names[name]).write_text(text, encoding="utf-8")


def at(folder: Path, **environ: str) -> Loaded:
    return load(folder, environ=environ)


# ---- precedence -----------------------------------------------------------------------


def test_each_source_beats_the_ones_below_it(tmp_path: Path) -> None:
    def value(**more: dict[str, object]) -> int:
        return load(tmp_path, environ=environ, **more).settings.threads

    environ: dict[str, str] = {}
    assert load(tmp_path, environ={}).settings == Settings(root=tmp_path)
    write(tmp_path, toml="threads = 5")
    assert value() == 5
    write(tmp_path, env="NUVOM_THREADS=6")
    assert value() == 6
    environ["NUVOM_THREADS"] = "7"
    assert value() == 7
    assert value(flags={"threads": 8}) == 8
    assert value(flags={"threads": 8}, overrides={"threads": 9}) == 9


def test_settings_of_a_framework_stand_between_dotenv_and_the_files(tmp_path: Path) -> None:
    write(tmp_path, toml="max_workers = 5\nprocesses = 2")
    defaults = {"processes": 3, "batch_size": 4}
    use_program_settings("settings.py", lambda: {"max_workers": 6}, defaults=defaults)
    try:
        loaded = at(tmp_path)
        assert (loaded.settings.max_workers, loaded.settings.processes) == (6, 2)
        assert loaded.settings.batch_size == 4
        rows = explain(loaded, "max_workers").rows
        assert Row("settings.py", "6", is_used=True) in rows
        assert [row.source for row in rows][-3:] == ["settings.py", "nuvom.toml", "default"]
        write(tmp_path, env="NUVOM_MAX_WORKERS=7")
        assert at(tmp_path).settings.max_workers == 7
        use_program_settings("settings.py", lambda: {"max_worker": 6})
        with pytest.raises(UnknownSetting, match=r"settings\.py"):
            at(tmp_path)
    finally:
        use_program_settings("settings.py", None)
    assert at(tmp_path).origins["processes"][0].source == "nuvom.toml"


def test_tables_come_from_a_file_or_as_json_from_the_environment(tmp_path: Path) -> None:
    write(tmp_path, toml='[task_defaults]\nretries = 3\n[routes]\n"shop.*" = "shop"')
    settings = at(tmp_path).settings
    assert ({"retries": 3}, {"shop.*": "shop"}) == (settings.task_defaults, settings.routes)
    settings = at(tmp_path, NUVOM_ROUTES='{"a.*": "b"}').settings
    assert {"a.*": "b"} == settings.routes
    assert settings == Settings.from_dict(settings.to_dict())


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ("[task_defaults]\nretrys = 3", 'Did you mean "retries"'),
        ("[task_defaults]\nretries = -1", "0 or more"),
        ("[task_defaults]\nbefore_job = 'x'", "one of the options"),
        ("[task_defaults]\ntimeout_secs = 1\nsoft_timeout_secs = 2", "less than timeout_secs"),
        ("[routes]\n'shop.*' = 'no queue'", "no queue"),
        ("routes = 'shop'", "a table of queues"),
        ("[schedules]\na = 3", "schedules cannot be {'a': 3}.*line 1.*a table of schedules"),
        (
            "[schedules.a]\ncron = '@daily'",
            r"schedules\.a\.task cannot be None .*the full name of a task",
        ),
        (
            "[schedules]\na = {task = 't.a', interval = 5}\nb = {task = 't.b', cron = '0 25 * *'}",
            r"schedules\.b\.cron cannot be '0 25 \* \*' .*line 1.*: expected five fields",
        ),
        ("[schedules.a]\ntask = 't.a'\nat = 2030-01-01T00:00:00Z", "schedules that fire once"),
        (
            "[schedules.a]\ntask = 't.a'\nargs = 3\ninterval = 5",
            r"schedules\.a\.args cannot be 3 .*a list",
        ),
        ("[schedules.a]\ntask = 't.a'", r"schedules\.a cannot be {'task'.*exactly one of"),
        ("[schedules.a]\ntask = ''\ncron = '@daily'", r"schedules\.a\.task cannot be ''"),
        ("[schedules.a]\ntask = 't.a'\ncrn = '@daily'", 'Did you mean "cron"'),
        ("[schedules.a]\ntask = 't.a'\ncron = '@daily'\ntimezone_name = 'Mars/X'", "IANA"),
    ],
)
def test_what_a_table_holds_is_checked(tmp_path: Path, toml: str, reason: str) -> None:
    write(tmp_path, toml=toml)
    with pytest.raises(InvalidSetting, match=reason):
        at(tmp_path)


def test_schedules_come_as_plain_data(tmp_path: Path) -> None:
    toml = "[schedules.nightly]\ntask = 't.a'\ncron = '@daily'\nstart = 2030-01-01T00:00:00Z"
    write(tmp_path, toml=toml)
    start = "2030-01-01T00:00:00+00:00"
    expected = {"nightly": {"task": "t.a", "cron": "@daily", "start": start}}
    settings = at(tmp_path).settings
    assert expected == settings.schedules
    assert settings == Settings.from_dict(settings.to_dict())
    assert expected == at(tmp_path, NUVOM_SCHEDULES=json.dumps(expected)).settings.schedules
    interval = {"a": {"task": "t.a", "interval": timedelta(minutes=1), "args": (1,)}}
    given = load(tmp_path, overrides={"schedules": interval}).settings.schedules
    assert {"a": {"task": "t.a", "args": (1,), "interval": 60.0}} == given


def test_a_project_has_the_name_of_its_settings_its_package_or_its_folder(tmp_path: Path) -> None:
    assert tmp_path.name == project_name(at(tmp_path).settings)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'shop'\n")
    assert "shop" == project_name(at(tmp_path).settings)
    assert "till" == project_name(at(tmp_path, NUVOM_PROJECT_NAME="till").settings)
    (tmp_path / "pyproject.toml").write_text("no TOML")
    assert tmp_path.name == project_name(at(tmp_path).settings)


def test_what_is_empty_or_none_is_not_given(tmp_path: Path) -> None:
    write(
        tmp_path,
        toml="threads = 5\nbatch_size = 5\nmax_queue_size = 7",
        env="NUVOM_THREADS=\nNUVOM_LEASE_SECS=''\nNUVOM_BATCH_SIZE=none",
    )
    environ = {"NUVOM_THREADS": " "}
    flags = {"threads": None, "lease_secs": "2.5"}

    loaded = load(tmp_path, overrides={"max_queue_size": None}, flags=flags, environ=environ)

    assert (loaded.settings.threads, loaded.settings.lease_secs) == (5, 2.5)
    assert loaded.settings.batch_size is None, "none takes an optional setting back"
    assert loaded.settings.max_queue_size is None
    assert loaded.warnings == []


# ---- .env -----------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfNUVOM_THREADS=6\r\n")
    (tmp_path / "nuvom.toml").write_bytes(b"\xef\xbb\xbflease_secs = 7\r\n")

    settings = at(tmp_path).settings

    assert (settings.threads, settings.lease_secs) == (6, 7.0)


# ---- broken files ---------------------------------------------------------------------


def test_two_files_with_settings_are_refused_by_both_names(tmp_path: Path) -> None:
    write(tmp_path, toml="", pyproject="[tool.nuvom]\n")

    with pytest.raises(InvalidConfigFile) as caught:
        at(tmp_path)

    assert str(tmp_path / "nuvom.toml") in str(caught.value)
    assert str(tmp_path / "pyproject.toml") in str(caught.value)


@pytest.mark.parametrize("name", ["nuvom.toml", "pyproject.toml"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[tool.nuvom]\nx = = 1\n", "(at line 2, column 5)"),
        (b"[tool.nuvom]\n# \xff\n", "line 2 is not UTF-8"),
        (b"[tool.nuvom]\nx = " + b"9" * 5000, "limit"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named_with_the_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InvalidConfigFile) as caught:
        at(tmp_path)

    assert caught.value.path == tmp_path / name
    assert reason in caught.value.reason


def set_owners(monkeypatch: pytest.MonkeyPatch, *, file: int, folder: int, me: int) -> None:
    """Let opened files, folders and this process look as if these users had them."""
    real_fstat, real_stat = os.fstat, os.stat

    def owned(found: os.stat_result, owner: int) -> os.stat_result:
        return os.stat_result([*found[:4], owner, *found[5:]])

    monkeypatch.setattr(os, "fstat", lambda descriptor: owned(real_fstat(descriptor), file))
    monkeypatch.setattr(os, "stat", lambda path, **more: owned(real_stat(path, **more), folder))
    monkeypatch.setattr(os, "geteuid", lambda: me)


@posix
@pytest.mark.parametrize(
    ("file", "folder", "me"),
    [
        (1000, 2000, 1000),  # mine, in a folder such as /tmp
        (0, 2000, 1000),  # installed by root
        (2000, 2000, 0),  # a project that is mounted into a container
    ],
)
def test_a_file_of_mine_or_of_root_or_of_the_owner_of_its_folder_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: int, folder: int, me: int
) -> None:
    write(tmp_path, toml="threads = 5")
    set_owners(monkeypatch, file=file, folder=folder, me=me)

    assert at(tmp_path).settings.threads == 5


@posix
@pytest.mark.parametrize("name", ["toml", "pyproject", "env"])
def test_a_file_that_a_stranger_laid_there_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    text = "NUVOM_REDIS_URL=redis://evil" if name == "env" else "[tool.nuvom]"
    write(tmp_path, **{name: text})
    set_owners(monkeypatch, file=3000, folder=0, me=1000)

    with pytest.raises(InvalidConfigFile, match="another user"):
        at(tmp_path)


# ---- wrong names and values -----------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"toml": "\nthread = 5"}, "nuvom.toml, line 2"),
        ({"pyproject": "[a]\nthread = 1\n[tool.nuvom]\nthread = 5"}, "line 4"),
        ({"pyproject": "[tool.nuvom]\r\n[ tool.nuvom.thread ] # x\r\n"}, "line 2"),
        ({"toml": '"\\u0074hread" = 1'}, "nuvom.toml)"),  # valid, and too rare to find the line
    ],
)
def test_an_unknown_key_of_a_file_is_an_error_with_line_and_suggestion(
    tmp_path: Path, files: dict[str, str], place: str
) -> None:
    write(tmp_path, **files)

    with pytest.raises(UnknownSetting) as caught:
        at(tmp_path)

    assert place in caught.value.what
    assert 'Did you mean "threads"' in caught.value.what


def test_a_setting_may_have_two_names_but_not_in_one_place(tmp_path: Path) -> None:
    write(tmp_path, toml="threads = 5", env="NUVOM_MAX_WORKERS=6")
    loaded = at(tmp_path)
    assert 6 == loaded.settings.threads == loaded.settings.max_workers
    assert 7 == at(tmp_path, NUVOM_THREADS="7").settings.threads
    found = explain(loaded, "max_workers")
    assert ("max_workers", "threads") == (found.name, explain(loaded, "threads").name)
    shown = [row.text for row in found.rows if row.source in (".env", "nuvom.toml")]
    assert ["NUVOM_MAX_WORKERS=6", "line 1: threads = 5"] == shown

    write(tmp_path, toml="threads = 5\nmax_workers = 5")
    with pytest.raises(InvalidSetting, match="only one of threads and max_workers here"):
        at(tmp_path)


def test_an_unknown_variable_is_a_warning_without_its_value(tmp_path: Path) -> None:
    write(tmp_path, env="\nNUVOM_DURABLE=hunter2")

    known = {"NUVOM_ROOT": "here", "NUVOM_DASHBOARD_TOKEN": "hunter2"}  # of other readers
    of_environment, of_file = at(tmp_path, NUVOM_ZZZ="hunter2", OTHER="x", **known).warnings

    expected = 'There is no setting named "NUVOM_ZZZ" (environment variable NUVOM_ZZZ).'
    assert of_environment == expected
    assert of_file.endswith('.env, line 2). Did you mean "NUVOM_DURABILITY"?')


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("toml", "nuvom.toml, line 1"),
        ("env", ".env, line 1"),
        ("environ", "environment variable NUVOM_THREADS"),
        ("flags", "command line"),
        ("overrides", "configure()"),
    ],
)
def test_a_wrong_value_is_an_error_in_every_source_also_where_it_does_not_win(
    tmp_path: Path, source: str, place: str
) -> None:
    write(tmp_path, toml="threads = 0" if source == "toml" else "")
    write(tmp_path, env="NUVOM_THREADS=0" if source == "env" else "")
    environ = {"NUVOM_THREADS": "0" if source == "environ" else "6"}
    flags = {"threads": 0 if source == "flags" else 5}
    overrides = {"threads": 0 if source == "overrides" else 4}

    with pytest.raises(InvalidSetting) as caught:
        load(tmp_path, overrides=overrides, flags=flags, environ=environ)

    assert caught.value.origin.endswith(place)
    assert caught.value.expected == SETTINGS["threads"].expected


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_content_of_the_files_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    root = tmp_path_factory.mktemp("any")
    for name in (".env", "nuvom.toml"):
        (root / name).write_bytes(content)

    errors, _ = problems(root, environ={})

    assert all(isinstance(error, ConfigError) for error in errors)


# ---- explain --------------------------------------------------------------------------


def test_explain_shows_every_source_and_which_one_is_used(tmp_path: Path) -> None:
    write(tmp_path, toml="# six\n#\n#\n#\n#\n#\nthreads = 2", env="NUVOM_THREADS=4")

    found = explain(at(tmp_path, NUVOM_THREADS="8"), "threads")

    assert (found.name, found.value) == ("threads", "8")
    assert found.rows == [
        Row("flag", "-", is_used=False),
        Row("environment", "NUVOM_THREADS=8", is_used=True),
        Row(".env", "NUVOM_THREADS=4", is_used=False),
        Row("nuvom.toml", "line 7: threads = 2", is_used=False),
        Row("default", "4", is_used=False),
    ]
    assert found.note == "type int, 1..1024; read at worker start; changing needs a restart"
    assert explain(at(tmp_path), "NUVOM_BATCH_SIZE").value == "none (adaptive)"
    with pytest.raises(UnknownSetting, match='Did you mean "threads"'):
        explain(at(tmp_path), "thread")


def test_explain_and_origins_never_hold_a_secret(tmp_path: Path) -> None:
    write(tmp_path, toml=f'postgres_dsn = "{DSN}"', env=f"NUVOM_POSTGRES_DSN={DSN}")
    values = {"postgres_dsn": DSN}

    loaded = load(tmp_path, overrides=values, flags=values, environ={"NUVOM_POSTGRES_DSN": DSN})
    found = explain(loaded, "postgres_dsn")

    assert loaded.settings.postgres_dsn == DSN
    assert "hunter2" not in f"{found} {loaded}"
    assert found.value == "***"
    assert found.rows[3].text == "NUVOM_POSTGRES_DSN=***"
    assert found.rows[4].text == "line 1: postgres_dsn = ***"
