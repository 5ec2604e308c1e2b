"""What browsers load: as locked, in the wheel, and no more than was agreed."""

from __future__ import annotations

import gzip
import re
from hashlib import sha256

from hatchling.builders.wheel import WheelBuilder

from tools.run import ROOT
from tools.vendor import LOCK, STATIC

_OWN = {"app.js", "nuvom.css", "vendor.lock"}
_LOADED = re.compile(r".+\.(js|css)|(?!.+-more).+\.woff2")  # by a page in English
_MOST_BYTES = 140_000
_MOST_SENT = 50_000  # compressed, of which the fonts are 23 kB
_MOST_STYLE = 24_000


def test_each_file_of_another_project_is_the_one_that_the_lock_names() -> None:
    lines = [one.split() for one in LOCK.read_text("utf-8").splitlines() if one[0] != "#"]
    locked = {file: digest for file, _, _, digest, _, _ in lines}
    found = {
        path.relative_to(STATIC).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in STATIC.rglob("*")
        if path.is_file()
    }
    assert {file: one for file, one in found.items() if file not in _OWN} == locked


def test_the_wheel_has_all_of_them() -> None:
    included = {one.relative_path for one in WheelBuilder(str(ROOT)).recurse_included_files()}
    files = {path.relative_to(ROOT).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    templates = {one.relative_to(ROOT).as_posix() for one in STATIC.parent.glob("templates/*")}
    assert files | templates <= included


def test_they_stay_small() -> None:
    data = {path.name: path.read_bytes() for path in STATIC.rglob("*") if path.is_file()}
    assert sum(map(len, data.values())) <= _MOST_BYTES
    assert len(data["nuvom.css"]) <= _MOST_STYLE
    loaded = [one for name, one in data.items() if _LOADED.fullmatch(name)]
    assert sum(min(len(one), len(gzip.compress(one))) for one in loaded) <= _MOST_SENT
