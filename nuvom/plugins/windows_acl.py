"""Who else may write to a file or folder on Windows, by its access list.

The system describes a file's security as text (SDDL); the judgement is a pure function of
that text, so that it can be tested anywhere. Called by ``trust.py`` only.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from nuvom.errors import PluginNotTrusted

if TYPE_CHECKING:
    from pathlib import Path

# SYSTEM, Administrators, TrustedInstaller: whoever acts as one of these can do anything anyhow.
_MACHINE = frozenset(
    {
        "SY",
        "BA",
        "LA",
        "S-1-5-18",
        "S-1-5-32-544",
        "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
    }
)
_OWNER_RIGHTS = frozenset({"OW", "S-1-3-4"})  # granted to whoever owns the file
# Write or append data, delete children, delete, change the list or the owner, and the generic
# rights that hold these.
_WRITE_MASK = 0x2 | 0x4 | 0x40 | 0x10000 | 0x40000 | 0x80000 | 0x10000000 | 0x40000000
_WRITE_WORDS = frozenset({"FA", "FW", "GA", "GW", "WD", "WO", "SD", "DC", "LC", "DT"})
_ENTRY = re.compile(
    r"\((?P<type>[^;]*);(?P<flags>[^;]*);(?P<rights>[^;]*);[^;]*;[^;]*;(?P<who>[^;)]*)"
)


def owner_of(sddl: str) -> str:
    """Return the owner that a security descriptor names: an identifier or a two-letter alias."""
    found = re.search(r"O:(S-[\d-]+|[A-Z]{2})", sddl)
    return found[1] if found else ""


def other_writers(sddl: str, user: str) -> list[str]:
    """Return who, beside ``user`` and the machine's administrators, may write.

    Args:
        sddl: Owner and access list, such as ``O:BAD:(A;;FA;;;SY)(A;;FA;;;S-1-5-21-7)``.
        user: Identifier of the current user.
    """
    _, found, entries = sddl.partition("D:")
    if not found or "NO_ACCESS_CONTROL" in entries:
        return ["everybody"]
    trusted = _MACHINE | _OWNER_RIGHTS | {user}
    writers = [
        match["who"]
        for match in _ENTRY.finditer(entries)
        # Allowing entries; those marked IO are for children yet to be made.
        if match["type"] in ("A", "XA") and "IO" not in _pairs(match["flags"])
        if _may_write(match["rights"]) and match["who"] not in trusted
    ]
    return list(dict.fromkeys(writers))


def _may_write(rights: str) -> bool:
    if rights.lower().startswith("0x"):
        return bool(int(rights, 16) & _WRITE_MASK)
    return not _WRITE_WORDS.isdisjoint(_pairs(rights))


def _pairs(letters: str) -> set[str]:
    return {letters[place : place + 2] for place in range(0, len(letters), 2)}


def judge(path: Path, place: Path, sddl: str, user: str) -> None:
    """Refuse ``path`` when others own or may write to ``place``: the file or its folder.

    Raises: PluginNotTrusted.
    """
    what = "it" if place == path else f"its folder {place}"
    owner = owner_of(sddl)
    if owner not in _MACHINE | {user}:
        repair = f'If you trust what is in it, run: takeown /F "{place}"'
        raise PluginNotTrusted(path, f"{what} belongs to {owner or 'nobody known'}", repair)
    others = other_writers(sddl, user)
    if others:
        repair = f'Run: icacls "{place}" /inheritance:r /grant:r "%USERNAME%:F"'
        reason = f"{what} can be written to by {', '.join(others)}"
        raise PluginNotTrusted(path, reason, repair)


def check(path: Path) -> None:
    """Refuse the file ``path`` when others own or may write to it or its folder.

    Raises: PluginNotTrusted; OSError: the system does not tell.
    """
    user = _current_user()
    for place in (path, path.parent):
        judge(path, place, _describe(place), user)


if sys.platform == "win32":  # pragma: no cover  # the calls exist there only
    import ctypes
    from ctypes import wintypes

    _FILE_OBJECT = 1
    _OWNER_AND_LIST = 0x1 | 0x4
    _TOKEN_QUERY = 0x8
    _TOKEN_USER = 1

    def _describe(place: Path) -> str:
        """Return owner and access list of ``place`` as SDDL."""
        security = ctypes.WinDLL("advapi32", use_last_error=True)
        descriptor = ctypes.c_void_p()
        failed = security.GetNamedSecurityInfoW(
            ctypes.c_wchar_p(str(place)),
            _FILE_OBJECT,
            _OWNER_AND_LIST,
            None,
            None,
            None,
            None,
            ctypes.byref(descriptor),
        )
        if failed:
            raise ctypes.WinError(failed)
        try:
            text = ctypes.c_void_p()
            if not security.ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor, 1, _OWNER_AND_LIST, ctypes.byref(text), None
            ):
                raise ctypes.WinError(ctypes.get_last_error())
            return _take(text)
        finally:
            _free(descriptor)

    def _current_user() -> str:
        """Return the identifier of the user that this process acts as."""
        security = ctypes.WinDLL("advapi32", use_last_error=True)
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        token = wintypes.HANDLE()
        if not security.OpenProcessToken(
            wintypes.HANDLE(kernel.GetCurrentProcess()), _TOKEN_QUERY, ctypes.byref(token)
        ):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            found = ctypes.create_string_buffer(256)  # a pointer, attributes, then 68 bytes at most
            size = wintypes.DWORD()
            if not security.GetTokenInformation(
                token, _TOKEN_USER, found, len(found), ctypes.byref(size)
            ):
                raise ctypes.WinError(ctypes.get_last_error())
            text = ctypes.c_void_p()
            identifier = ctypes.cast(found, ctypes.POINTER(ctypes.c_void_p))[0]
            if not security.ConvertSidToStringSidW(ctypes.c_void_p(identifier), ctypes.byref(text)):
                raise ctypes.WinError(ctypes.get_last_error())
            return _take(text)
        finally:
            kernel.CloseHandle(token)

    def _take(text: ctypes.c_void_p) -> str:
        """Return the text that the system allocated, and give its memory back."""
        try:
            return ctypes.wstring_at(text.value or 0)
        finally:
            _free(text)

    def _free(memory: ctypes.c_void_p) -> None:
        kernel = ctypes.WinDLL("kernel32")
        kernel.LocalFree.argtypes = [ctypes.c_void_p]
        kernel.LocalFree(memory)

else:

    def _describe(place: Path) -> str:
        raise OSError(f"{place} has no access list on this system")

    def _current_user() -> str:
        raise OSError("users have no such identifiers on this system")
