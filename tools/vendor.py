"""Fetches what the dashboard has from other projects, in the versions that ``vendor.lock`` names.

``python -m tools.vendor`` takes files of packages on npm, such as ``htmx.org/dist/htmx.min.js``,
and writes their hashes into the lock. For another version, first change the line there.
Only people run this: tests compare the files with their hashes, and download nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

STATIC = Path(__file__).resolve().parent.parent / "nuvom" / "contrib" / "dashboard" / "static"
LOCK = STATIC / "vendor.lock"


def fetched(package: str, version: str, member: str) -> bytes:
    """Return one file of a package on npm."""
    with TemporaryDirectory() as place:
        npm = shutil.which("npm") or "npm"
        subprocess.run([npm, "pack", "--silent", f"{package}@{version}"], cwd=place, check=True)
        (archive,) = Path(place).glob("*.tgz")
        with tarfile.open(archive) as found:
            content = found.extractfile(f"package/{member}")
            if content is None:
                raise FileNotFoundError(member)
            return content.read()


def main() -> None:
    """Bring the files and the lock up to date."""
    lines = []
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        package, slash, member = ([*line.split(), ""])[1].partition("/")
        if line.startswith("#") or not slash:
            lines.append(line)
            continue
        file, name, version, _, licence, project = line.split()
        data = fetched(package, version, member)
        (STATIC / file).write_bytes(data)
        lines.append(" ".join((file, name, version, sha256(data).hexdigest(), licence, project)))
        print(f"{file}: {len(data)} bytes")
    LOCK.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
