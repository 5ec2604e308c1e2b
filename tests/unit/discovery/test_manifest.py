"""The manifest on disk: its form, its safety, and what changed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.discovery.entries import TaskEntry
from nuvom.discovery.manifest import (
    diff,
    encode,
    has_content,
    is_stale,
    read_manifest,
    write_manifest,
)
from nuvom.discovery.scan import scan
from nuvom.errors import InvalidManifest
from tests.unit.discovery.projects import TASK, write


def make_entry(name: str = "app.add", **fields: Any) -> TaskEntry:
    module, _, qualname = name.rpartition(".")
    entry = TaskEntry(
        name=name,
        module=module,
        qualname=qualname,
        file=f"{module}.py",
        line=3,
        signature="(x: int) -> int",
        is_async=False,
        importable=True,
        options={"queue": "mail"},
        dynamic_options=("retry_on",),
        doc="Adds.",
        hash="0" * 64,
    )
    return msgspec.structs.replace(entry, **fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".nuvom" / "manifest.json"


# ---- form -------------------------------------------------------------------------------


_texts = st.text(max_size=5)


@given(
    st.lists(
        st.builds(
            make_entry,
            _texts.map(lambda text: f"m.{text}"),
            doc=st.none() | st.text(st.characters(), max_size=9),
            options=st.dictionaries(_texts, st.none() | st.booleans() | _texts, max_size=3),
            dynamic_options=st.lists(_texts, max_size=2).map(tuple),
            file=st.just(os.fsdecode(b"caf\xe9.py")),
        ),
        max_size=4,
        unique_by=lambda entry: entry.name,
    )
)
def test_what_is_written_is_read_again_and_the_order_does_not_change_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, entries: list[TaskEntry]
) -> None:
    root = tmp_path_factory.mktemp("any")
    path = root / "manifest.json"
    write_manifest(path, entries, root=root)
    assert tuple(sorted(entries, key=lambda entry: entry.name)) == read_manifest(path)
    assert encode(reversed(entries)) == path.read_bytes()


def test_further_keys_of_the_same_version_are_left_alone(tmp_path: Path, path: Path) -> None:
    write_manifest(path, [make_entry()], root=tmp_path)
    content = json.loads(path.read_bytes())
    content["tasks"][0]["more"] = content["more"] = 1
    path.write_text(json.dumps(content))
    assert (make_entry(),) == read_manifest(path)


# ---- writing ----------------------------------------------------------------------------


def test_manifest_that_would_not_change_is_not_touched(tmp_path: Path, path: Path) -> None:
    assert write_manifest(path, [make_entry()], root=tmp_path)
    before = path.stat()
    assert not write_manifest(path, [make_entry()], root=tmp_path)
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert write_manifest(path, [make_entry(line=4)], root=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are a POSIX matter")
def test_manifest_and_its_folder_are_private_whatever_the_umask(tmp_path: Path, path: Path) -> None:
    before = os.umask(0)
    try:
        write_manifest(path, [make_entry()], root=tmp_path)
    finally:
        os.umask(before)
    assert (0o600, 0o700) == (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777)


# ---- reading ----------------------------------------------------------------------------


def _with(**fields: Any) -> dict[str, Any]:
    item = json.loads(encode([make_entry()]))["tasks"][0]
    return {"version": 1, "tasks": [item, {**item, **fields}]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"version": 1, "tasks": [', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        ({"version": 1}, "not a list of tasks"),
        ({"version": 2, "tasks": []}, "a newer Nuvom"),
        ({"version": "1", "tasks": []}, "another program"),
        (_with(line="3"), r"got `str` - at `\$\.tasks\[1\]\.line`"),
    ],
)
def test_damaged_or_newer_manifest_is_refused_with_the_reason(
    path: Path, content: Any, words: str
) -> None:
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(InvalidManifest, match=words) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert "nuvom discover tasks" in str(caught.value)


def test_missing_manifest_is_none_and_an_unreadable_one_is_refused(path: Path) -> None:
    assert read_manifest(path) is None
    path.mkdir(parents=True)
    with pytest.raises(InvalidManifest):
        read_manifest(path)
    assert not has_content(path, b"")


# ---- changes ----------------------------------------------------------------------------


def test_changes_are_told_apart_and_sorted() -> None:
    old = [make_entry(f"app.{name}") for name in "gfdcba"]
    new = [make_entry(f"app.{name}") for name in "czy"]
    changed = [make_entry("app.b", hash="1" * 64), make_entry("app.d", line=99, options={})]
    moved = make_entry("app.a", line=99)
    changes = diff(old, [moved, *reversed(changed), *new])
    assert ["app.y", "app.z"] == [task.name for task in changes.added]
    assert ["app.f", "app.g"] == [task.name for task in changes.removed]
    assert (tuple(changed), (moved,)) == (changes.changed, changes.moved)
    assert not changes.is_empty


# ---- age --------------------------------------------------------------------------------


def test_manifest_is_stale_when_a_file_that_it_names_is_newer_or_gone(
    tmp_path: Path, path: Path
) -> None:
    write(tmp_path, {"app.py": TASK})
    assert is_stale(tmp_path, path)
    write_manifest(path, scan(tmp_path).tasks, root=tmp_path)
    written = path.stat().st_mtime_ns
    for age_ns, stale in ((1, False), (0, False), (-1, True)):
        os.utime(tmp_path / "app.py", ns=(written - age_ns, written - age_ns))
        assert stale == is_stale(tmp_path, path)
    (tmp_path / "app.py").unlink()
    assert is_stale(tmp_path, path)
