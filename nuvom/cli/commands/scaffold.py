"""``nuvom init [DIR]``, and the files that it and ``nuvom plugin scaffold`` write.

The content of a new project and a new plugin is in ``nuvom/cli/templates/``. A new plugin is a
small package that passes the conformance kit unchanged: a starting point, not a sketch.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import click

from nuvom._version import __version__
from nuvom.cli.context import Invocation, command, template
from nuvom.cli.output import quoted
from nuvom.config.project import CONFIG_FILE, PYPROJECT, ensure_state_dir, has_section, here
from nuvom.discovery.manifest import write_manifest
from nuvom.discovery.scan import scan
from nuvom.errors import Refused
from nuvom.host.files import storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator

PLUGIN_TYPES = ("queue_backend", "result_backend", "monitoring")
_PROJECT_FILES = {
    "tasks.py": "project/tasks.py.txt",
    CONFIG_FILE: "project/nuvom.toml.txt",
    ".nuvomignore": "project/nuvomignore.txt",
}
_ELSEWHERE = "name another: nuvom init DIR"
_SETTING = '- Choose it: `NUVOM_{upper}={name}`, or `{kind} = "{name}"` in `nuvom.toml`.\n'


@command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("-f", "--force", is_flag=True, help="Overwrite the files that init writes.")
def init(invocation: Invocation, folder: Path | None, *, force: bool) -> None:
    """Turn DIR, or this folder, into a project: tasks.py, nuvom.toml and .nuvomignore.

    Files that exist are kept, unless you give --force.
    """
    chosen = invocation.project if folder is None else folder
    root = here() if chosen is None else chosen.absolute()
    done = dict(write_project(root, force=force))
    out = invocation.out
    told = "\n".join(f"{change:<8}  {quoted(root / file)}" for file, change in done.items())
    out.answer("nuvom.init/1", {"root": root, "files": done}, told)
    if done["tasks.py"] == "kept":
        out.say("tasks.py exists already; --force would overwrite it.")
    enter = "" if root == Path.cwd() else f"cd {quoted(root)}; "
    out.hint(f"Next: {enter}nuvom dev, and in another terminal: nuvom run add 2 3 --wait")


def write_project(root: Path, *, force: bool) -> Iterator[tuple[str, str]]:
    """Turn ``root`` into a project; yield each file, and ``written`` or ``kept``.

    Args:
        force: Overwrite the files that ``init`` writes.

    Raises: BackendUnavailable, StorageFull: a file cannot be written.
    """
    for file, source in _PROJECT_FILES.items():
        if file == CONFIG_FILE and _is_configured_elsewhere(root):
            yield PYPROJECT, "kept"
        else:
            is_kept = (root / file).exists() and not force
            if not is_kept:
                # ``x`` refuses a file that has appeared since the check.
                _write(root / file, template(source), _ELSEWHERE, "w" if force else "x")
            yield file, "kept" if is_kept else "written"
    ensure_state_dir(root)
    found = scan(root)
    write_manifest(root / ".nuvom" / "manifest.json", found.tasks, root=root)


def _is_configured_elsewhere(root: Path) -> bool:
    try:
        return has_section((root / PYPROJECT).read_bytes())
    except OSError:  # there is none
        return False


def _write(path: Path, text: str, alternative: str, mode: str = "w") -> None:
    """Write a file, and the folders above it. Raises: BackendUnavailable, StorageFull."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, mode, encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except OSError as error:
        raise storage_error(path, error, f"Make it writable, or {alternative}") from error


# ---- plugins ----------------------------------------------------------------------------


def class_name(name: str) -> str:
    """Return ``MyQueue`` for ``my_queue``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def write_plugin(folder: Path, name: str, kind: str, *, force: bool) -> list[Path]:
    """Write a plugin package into ``folder``; return its files.

    Raises: Refused: a file exists and ``force`` is False; nothing is written.
        BackendUnavailable, StorageFull: a file cannot be written.
    """
    setting = _SETTING.format(upper=kind.upper(), kind=kind, name=name)
    values = {
        "name": name,
        "cls": class_name(name),
        "title": name.replace("_", " ").strip().capitalize(),
        "dashed": name.replace("_", "-").strip("-"),
        "kind": kind.replace("_", " "),
        "key": kind,
        "version": __version__,
        "setting": setting if kind.endswith("_backend") else "",
    }
    files = {
        folder / f"{name}.py": f"{kind}.py.txt",
        folder / "tests" / f"test_{name}.py": f"test_{kind}.py.txt",
        folder / "pyproject.toml": "pyproject.toml.txt",
        folder / "README.md": "README.md.txt",
    }
    taken = [path for path in files if path.exists()]
    if taken and not force:
        raise Refused(f"{taken[0]} exists already", "Choose another name, or add --force.")
    for path, source in files.items():
        text = Template(template(f"plugin/{source}")).substitute(values)
        _write(path, text.rstrip("\n") + "\n", "choose another folder with --out.")
    return list(files)
