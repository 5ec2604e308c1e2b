"""Whether an installed package may name a plugin: never no where there is one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nuvom.plugins.installed import may_have_entry_points
from nuvom.plugins.sources import installed_entries


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is all that packages are looked for in."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def install(site: Path, name: str, text: str) -> None:
    folder = site / name
    folder.mkdir()
    (folder / "METADATA").write_text("Name: mailer\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(text)


PLUGIN = "[nuvom]\nmail = mailer:Plugin\n"


def test_nothing_that_is_installed_names_a_plugin(site: Path) -> None:
    install(site, "mailer-1.0.dist-info", "[console_scripts]\nnuvom = nuvom.cli.cli:main\n")
    (site / "old-1.0.egg-info").write_text("Name: old\n")
    (site / "bare-1.0.dist-info").mkdir()
    assert not may_have_entry_points("nuvom")
    assert [] == installed_entries()


@pytest.mark.parametrize("name", ["mailer-1.0.dist-info", "mailer-1.0.egg-info"])
def test_plugin_of_a_package_is_found(site: Path, name: str) -> None:
    install(site, name, f"[console_scripts]\nm = mailer:main\n{PLUGIN}")
    assert may_have_entry_points("nuvom")
    if name.endswith(".dist-info"):
        assert ["mail"] == [entry.name for entry in installed_entries()]


@pytest.mark.parametrize("name", ["packages.zip", "mailer.egg"])
def test_archives_are_left_to_the_library(
    site: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (site / name).write_bytes(b"")
    monkeypatch.setattr(sys, "path", [str(site / name)])
    assert may_have_entry_points("nuvom")


def test_eggs_inside_a_folder_are_left_to_the_library(site: Path) -> None:
    (site / "mailer.egg").mkdir()
    assert may_have_entry_points("nuvom")


def test_folder_that_is_not_there_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/no/such/folder"])
    assert not may_have_entry_points("nuvom")


def test_working_directory_is_looked_into(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "mailer-1.0.dist-info", PLUGIN)
    monkeypatch.chdir(site)
    monkeypatch.setattr(sys, "path", [""])
    assert may_have_entry_points("nuvom")


def test_finder_of_somebody_elses_is_asked(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find_distributions(self) -> None: ...

        def find_spec(self, *_: object) -> None: ...

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert may_have_entry_points("nuvom")


def test_what_cannot_be_read_is_left_to_the_library(site: Path) -> None:
    (site / "mailer-1.0.dist-info").mkdir()
    (site / "mailer-1.0.dist-info" / "entry_points.txt").mkdir()
    assert may_have_entry_points("nuvom")
