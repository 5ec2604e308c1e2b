"""Fetches the source distributions of Django whose own tests of tasks are run with Nuvom.

``python -m tools.django_sources`` unpacks one of each supported version into ``.django/``, where
``tests/integration/test_django_tasks.py`` looks for them. Tests themselves download nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).resolve().parent.parent / ".django"
VERSIONS = ("6.0", "6.1")


def main() -> None:
    """Download and unpack what is not there yet."""
    for version in VERSIONS:
        if list(FOLDER.glob(f"django-{version}.*")):
            continue
        with TemporaryDirectory() as place:
            wanted = ("--no-binary", ":all:", "--no-deps", "--dest", place, f"django=={version}.*")
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", *wanted], check=True)
            (archive,) = Path(place).glob("*.tar.gz")
            with tarfile.open(archive) as found:
                found.extractall(FOLDER, filter="data")
        print(f"unpacked {archive.name}")


if __name__ == "__main__":
    main()
