"""Access lists of Windows, judged as the text that the system gives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nuvom.errors import PluginNotTrusted
from nuvom.plugins import windows_acl
from nuvom.plugins.windows_acl import judge, other_writers, owner_of

ME = "S-1-5-21-1-2-3-1001"
HER = "S-1-5-21-1-2-3-1002"
FILE = Path("project") / "file.toml"


@pytest.mark.parametrize(
    "entries",
    [
        f"PAI(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;{ME})",
        f"AI(A;ID;0x1200a9;;;BU)(A;ID;FA;;;{ME})",  # others read and execute
        f"AI(A;ID;FR;;;WD)(A;ID;FRFX;;;AU)(A;ID;FA;;;{ME})",
        f"(A;OICIIO;FA;;;CO)(A;;FA;;;{ME})",  # for children yet to be made
        f"(D;;FA;;;{HER})(A;;FA;;;{ME})",  # denies
        "(A;;FA;;;OW)",
        "(A;;FA;;;S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464)",
        "",
    ],
)
def test_lists_that_let_only_the_owner_and_administrators_write_are_trusted(entries: str) -> None:
    assert [] == other_writers(f"O:{ME}G:{ME}D:{entries}", ME)


@pytest.mark.parametrize(
    ("entry", "who"),
    [
        (f"(A;;FA;;;{HER})", HER),
        ("(A;ID;0x1301bf;;;AU)", "AU"),  # what a new folder on C:\ grants: modify
        ("(A;;FW;;;WD)", "WD"),
        ("(A;;GA;;;WD)", "WD"),
        ("(A;;FRWD;;;BU)", "BU"),  # may change the list
        ("(A;;FRWO;;;BU)", "BU"),  # may make itself the owner
        ("(A;;SD;;;BU)", "BU"),  # may delete
        ("(A;OICI;0x2;;;BU)", "BU"),
        ('(XA;;FA;;;WD;(@User.Title=="PM"))', "WD"),
    ],
)
def test_whoever_else_may_write_is_named(entry: str, who: str) -> None:
    assert [who] == other_writers(f"O:{ME}D:AI(A;;FA;;;{ME}){entry}{entry}", ME)


@pytest.mark.parametrize("sddl", [f"O:{ME}D:NO_ACCESS_CONTROL", f"O:{ME}"])
def test_no_list_at_all_lets_everybody_write(sddl: str) -> None:
    assert ["everybody"] == other_writers(sddl, ME)


def test_owner_is_read_as_identifier_or_alias() -> None:
    assert ME == owner_of(f"O:{ME}G:DUD:")
    assert "BA" == owner_of("O:BAG:DUD:")
    assert "" == owner_of("D:")


def test_own_file_in_own_folder_is_trusted() -> None:
    judge(FILE, FILE, f"O:{ME}D:(A;;FA;;;{ME})", ME)
    judge(FILE, FILE.parent, f"O:BAD:(A;;FA;;;{ME})", ME)


def test_file_of_another_user_is_refused() -> None:
    with pytest.raises(PluginNotTrusted, match=f"it belongs to {HER}") as caught:
        judge(FILE, FILE, f"O:{HER}D:(A;;FA;;;{ME})", ME)

    assert "takeown" in caught.value.fix


def test_folder_that_others_may_write_is_refused_with_the_repair() -> None:
    with pytest.raises(PluginNotTrusted, match=r"its folder .* written to by AU") as caught:
        judge(FILE, FILE.parent, f"O:{ME}D:(A;;FA;;;{ME})(A;;0x1301bf;;;AU)", ME)

    assert f'icacls "{FILE.parent}"' in caught.value.fix


def test_file_and_folder_are_both_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def describe(place: Path) -> str:
        asked.append(place)
        return f"O:{ME}D:(A;;FA;;;{ME})"

    monkeypatch.setattr(windows_acl, "_describe", describe)
    monkeypatch.setattr(windows_acl, "_current_user", lambda: ME)
    windows_acl.check(FILE)

    assert [FILE, FILE.parent] == asked


@pytest.mark.skipif(sys.platform == "win32", reason="there it is what it is for")
def test_other_systems_have_no_such_lists(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="on this system"):
        windows_acl.check(tmp_path)
    with pytest.raises(OSError, match="on this system"):
        windows_acl._describe(tmp_path)


@pytest.mark.skipif(sys.platform != "win32", reason="asks the system")
def test_own_temporary_file_is_trusted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")

    assert windows_acl.owner_of(windows_acl._describe(path))
    assert windows_acl._current_user().startswith("S-1-5-")
