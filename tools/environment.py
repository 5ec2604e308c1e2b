"""The virtual environments of ``dev.py``: made, filled with pinned requirements, stamped.

A stamp lets the next call start at once; a lock file beside the folder keeps two calls apart.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tools.run import ROOT, run, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STAMP = "nuvom-dev.json"
NETWORK = (
    "Check the network or proxy and run this again. Without a network, point pip at\n"
    "a folder of wheels: PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER."
)


class SetupFailed(Exception):  # noqa: N818  # named after what happened, as in nuvom/errors.py
    """An environment could not be made; ``fix`` says what to do."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.fix = fix


class Environment:
    """A virtual environment that is made, filled and stamped on demand.

    The stamp holds hashes of what is installed, ``made`` (by dev.py, which may then remove the
    folder) and ``busy`` (an installation began and did not end).

    Args:
        folder: Where it is.
        base: The Python to make it with.
        root: The checkout that its requirements and its package come from.
    """

    def __init__(self, folder: Path, *, base: str = sys.executable, root: Path = ROOT) -> None:
        self.folder = folder
        self.base = base
        self.root = root
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / ("python.exe" if os.name == "nt" else "python")

    @contextlib.contextmanager
    def ready(self, files: Iterable[str], package: str = "") -> Iterator[None]:
        """Install what is missing; while the caller's block runs, nobody else changes it.

        Args:
            files: Names in ``requirements/``.
            package: ``editable``, ``installed`` for a copy of the package as users get it, or
                nothing.
        Raises: SetupFailed.
        """
        wanted = {name: digest([self.root / "requirements" / name]) for name in files}
        form = {package: digest(sources(self.root, package))} if package else {}
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = self.folder.with_name(f"{self.folder.name}.lock")
        while True:
            with locked(lock, alone=False):
                if self.has(wanted, form):
                    yield
                    return
            with locked(lock, alone=True):
                if not self.has(wanted, form):
                    self._fill(wanted, form)

    def has(self, files: dict[str, str], package: dict[str, str]) -> bool:
        """Return whether the stamp covers all of this."""
        stamp = self.stamp()
        covered = files.items() <= stamp["files"].items()
        covered = covered and package.items() <= stamp["package"].items()
        return covered and not stamp["busy"] and self.is_usable()

    def is_usable(self) -> bool:
        """Return whether it runs a Python like its base and is in a sound state."""
        stamp = self.stamp()
        cut_short = stamp["made"] and stamp["busy"]
        is_current = self.python.exists() and self.version() == version_of(self.base)
        return is_current and not cut_short

    def run(self, *arguments: str | Path, cwd: Path = ROOT) -> int:
        """Run its Python with these arguments; return the exit code."""
        return run(self.python, *arguments, cwd=cwd, env=self.variables())

    def variables(self) -> dict[str, str]:
        """Return the environment variables of a program that runs in it.

        Whoever forbids bytecode files is not obeyed: the tests start some thousand programs,
        and each would compile the package anew, which takes a fifth of the whole run.
        """
        dropped = ("PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        path = os.pathsep.join([str(self.bin), kept.get("PATH", os.defpath)])
        return {**kept, "VIRTUAL_ENV": str(self.folder), "PATH": path, "PIP_USER": "0"}

    def version(self) -> str:
        """Return its Python's version as ``3.11``, or ``""`` where there is none."""
        try:
            lines = (self.folder / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
        except OSError:
            return ""
        fields = dict(line.replace(" ", "").partition("=")[::2] for line in lines)
        return ".".join(fields.get("version", fields.get("version_info", "")).split(".")[:2])

    def stamp(self) -> dict[str, Any]:
        """Return what is installed. A damaged stamp counts as an installation cut short."""
        nothing = {"made": False, "busy": False, "files": {}, "package": {}}
        path = self.folder / STAMP
        if not path.exists():
            return nothing
        try:
            return {**nothing, **json.loads(path.read_text(encoding="utf-8"))}
        except (ValueError, TypeError):
            return {**nothing, "made": True, "busy": True}

    def _write_stamp(self, **stamp: Any) -> None:
        (self.folder / STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")

    def _fill(self, files: dict[str, str], package: dict[str, str]) -> None:
        if not self.is_usable():
            self._make()
        stamp = self.stamp()
        missing = [name for name, mark in files.items() if stamp["files"].get(name) != mark]
        self._write_stamp(**{**stamp, "busy": True})
        try:
            if missing:
                self._install_requirements(missing)
            if package and stamp["package"] != package:
                self._install_package(next(iter(package)))
        except SetupFailed:  # pip ended by itself: what it left is sound, only incomplete
            self._write_stamp(**{**stamp, "busy": False, "files": {}, "package": {}})
            raise
        done = {"busy": False, "files": {**stamp["files"], **files}}
        done |= {"package": package or stamp["package"]}
        self._write_stamp(**{**stamp, **done})

    def _install_requirements(self, names: list[str]) -> None:
        say(f"installing {', '.join(names)} into {self.folder.name}")
        folder = self.root / "requirements"
        files = [part for name in names for part in ("-r", str(folder / name))]
        self._pip(NETWORK, "--require-hashes", *files)

    def _install_package(self, form: str) -> None:
        say(f"installing nuvom ({form}) into {self.folder.name}")
        how = "--editable" if form == "editable" else "--force-reinstall"
        fix = "See the message above: a file that pyproject.toml names may be missing or wrong."
        self._pip(fix, "--no-deps", "--no-build-isolation", how, str(self.root))

    def _pip(self, fix: str, *arguments: str) -> None:
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
        if self.run("-m", "pip", "install", *quiet, *arguments) != 0:
            raise SetupFailed("pip could not install what is needed (its message is above)", fix)

    def _make(self) -> None:
        self._clear()
        version = version_of(self.base)
        if not has_modules(self.base, "ensurepip", "venv"):
            raise SetupFailed(
                f"this Python ({self.base}) cannot make environments: it has no venv",
                f"Install it: sudo apt install python{version}-venv",
            )
        say(f"creating {self.folder.name} with Python {version}")
        self.folder.mkdir(exist_ok=True)
        self._write_stamp(made=True, busy=True, files={}, package={})
        if run(self.base, "-m", "venv", self.folder) != 0:
            raise SetupFailed(f"{self.folder} could not be created", "See the message above.")

    def _clear(self) -> None:
        """Remove what dev.py made; refuse to remove what somebody else did."""
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return
        if not self.stamp()["made"]:
            raise SetupFailed(
                f"{self.folder} is no environment of dev.py for Python {version_of(self.base)}",
                "Remove it, or name another folder in NUVOM_VENV.",
            )
        if Path(sys.prefix).resolve() == self.folder.resolve():
            raise SetupFailed(
                f"{self.folder} has to be made anew, but this very program runs in it",
                "Run dev.py with another Python, such as python3.",
            )
        shutil.rmtree(self.folder)


@functools.cache
def version_of(python: str) -> str:
    """Return the version of a Python as ``3.11``.

    Raises: OSError, subprocess.CalledProcessError: it does not run.
    """
    if python == sys.executable:
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    return _answer(python, "import sys; print('%d.%d' % sys.version_info[:2])")


def has_modules(python: str, *names: str) -> bool:
    """Return whether a Python has these modules."""
    looks = f"import importlib.util as u; print(all(u.find_spec(n) for n in {names!r}))"
    return _answer(python, looks) == "True"


def _answer(python: str, program: str) -> str:
    done = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def sources(root: Path, package: str) -> list[Path]:
    """Return the files whose change makes a new installation of the package necessary."""
    built = [root / "pyproject.toml", root / "README.md", root / "LICENSE"]
    if package == "editable":
        return built[:1]
    code = (root / "nuvom").rglob("*")
    return built + sorted(path for path in code if path.is_file() and path.suffix != ".pyc")


def digest(paths: Iterable[Path]) -> str:
    """Return a hash of the files' places and contents; a missing file counts as empty."""
    whole = hashlib.sha256()
    for path in paths:
        data = path.read_bytes() if path.exists() else b""
        whole.update(f"{path} {len(data)}\n".encode())
        whole.update(data)
    return whole.hexdigest()


@contextlib.contextmanager
def locked(path: Path, *, alone: bool) -> Iterator[None]:
    """Keep calls apart: many may use an environment, one alone may change it.

    The operating system drops the lock with the process, so no kill leaves it behind.
    """
    with path.open("ab") as stream:
        if not _take_lock(stream, alone=alone, patient=False):
            say(f"waiting for another dev.py that is at work ({path.name})")
            _take_lock(stream, alone=alone, patient=True)
        yield


if sys.platform == "win32":
    import msvcrt

    def _take_lock(stream: IO[bytes], *, alone: bool, patient: bool) -> bool:
        while alone:  # there is no shared form here: it keeps only installations apart
            stream.seek(0)
            try:
                msvcrt.locking(stream.fileno(), msvcrt.LK_LOCK, 1)
            except OSError:  # it gives up after ten seconds; an installation takes longer
                if not patient:
                    return False
            else:
                return True
        return True

else:
    import fcntl

    def _take_lock(stream: IO[bytes], *, alone: bool, patient: bool) -> bool:
        """Lock an open file; return False where others hold it and ``patient`` is False."""
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fcntl.flock(stream, kind if patient else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
