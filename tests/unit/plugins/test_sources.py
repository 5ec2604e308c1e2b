"""Names of plugins: from the project's file and from installed packages, nothing imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.errors import InvalidConfigFile
from nuvom.plugins.lifecycle import PluginEntry
from nuvom.plugins.loader import installed_entries, project_entries


def test_entries_are_given_in_the_order_of_the_file(
    tmp_path: Path, plugin_file: Callable[[str], Path]
) -> None:
    path = plugin_file(
        """
        [plugins]
        queue_backend = ["custom.module:MyQueue", "other:Outer.Inner", "custom.module:MyQueue"]
        monitoring = ["größe.modul:Größe"]
        result_backend = []
        """
    )

    assert [
        PluginEntry("myqueue", "custom.module:MyQueue", "queue_backend", str(path)),
        PluginEntry("inner", "other:Outer.Inner", "queue_backend", str(path)),
        PluginEntry("größe", "größe.modul:Größe", "monitoring", str(path)),
    ] == project_entries(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[plugins", "not valid TOML"),
        ("[plugin]\n", r'"plugin" is not known here, only \[plugins\]. Did you mean "plugins"'),
        ("plugins = 1\n", "plugins has to be a table"),
        ('[plugins]\nqueue_backend = "m:Q"\n', r'a list: queue_backend = \["module:Class"\]'),
        ('[plugins]\nqueue_backend = ["m.Q"]\n', '"m.Q" has to be "module:Class"'),
        ('[plugins]\nqueue_backend = ["m:"]\n', '"m:" has to be'),
        ('[plugins]\nqueue_backend = ["m:Q; import os"]\n', "has to be"),
        ('[plugins]\nqueue_backend = ["../m:Q"]\n', "has to be"),
        ("[plugins]\nqueue_backend = [1]\n", '"1" has to be'),
    ],
)
def test_file_that_is_wrong_says_what_is_wrong(
    tmp_path: Path, plugin_file: Callable[[str], Path], text: str, reason: str
) -> None:
    path = plugin_file(text)

    with pytest.raises(InvalidConfigFile, match=reason) as caught:
        project_entries(tmp_path)

    assert path == caught.value.path


def test_installed_packages_are_named_with_version_and_not_imported(
    package: Callable[..., None],
) -> None:
    package(
        "nuvom_mailbox",
        "raise SystemExit('imported')",
        {"mailbox": "nuvom_mailbox:Mailbox", "also": "nuvom_mailbox : Other [fast]"},
    )
    named = [entry for entry in installed_entries() if "nuvom_mailbox" in entry.target]

    assert [
        PluginEntry("also", "nuvom_mailbox:Other", "", "entry point also of nuvom_mailbox", "1.2"),
        PluginEntry(
            "mailbox", "nuvom_mailbox:Mailbox", "", "entry point mailbox of nuvom_mailbox", "1.2"
        ),
    ] == named
    assert "nuvom_mailbox" not in sys.modules


def test_entry_answers_to_its_name_and_to_each_part_of_its_target() -> None:
    entry = PluginEntry("myqueue", "custom.module:MyQueue", "queue_backend", "file")

    for name in ("myqueue", "MyQueue", "custom.module", "custom.module:MyQueue"):
        assert entry.answers_to(name)
    assert not entry.answers_to("module")
    assert entry.is_project
    assert not entry._replace(key="").is_project
