"""Saves what can be read of a damaged SQLite file: ``nuvom doctor --salvage NEW_FILE``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.config.sources import load
from nuvom.diagnosis.findings import Finding, fail, failed, warn
from nuvom.errors import NuvomError, plural
from nuvom.host.worker_lock import count_workers
from nuvom.queue_backends.sqlite.salvage import salvage

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "salvage"


def salvage_findings(root: Path, target: Path) -> list[Finding]:
    """Copy the readable jobs of the project at ``root`` into ``target``; return what came of it.

    Raises: InvalidSetting and others: the settings cannot be read.
    """
    settings = load(root).settings
    if settings.queue_backend != "sqlite":
        text = f"the queue is {settings.queue_backend}; only SQLite files can be salvaged"
        return [fail(_NAME, text, "A file queue sets damaged entries aside by itself.")]
    source = settings.db_path
    try:
        alive, _ = count_workers(source.with_name(f"{source.name}.d"))
        if alive:
            text = f"{plural(alive, 'worker')} still at work on {source}"
            return [fail(_NAME, text, "Stop them, and all programs that enqueue, and try again.")]
        saved = salvage(source, target)
    except NuvomError as error:
        return [failed(_NAME, error)]
    text = f"{plural(saved.jobs, 'job')} with {plural(saved.attempts, 'attempt')} are in {target}"
    names = " ".join(f"{source.name}{end}" for end in ("", "-wal", "-shm"))
    fix = f"To use it, move {names} out of {source.parent} and it to {source}."
    lost = f"at most {plural(saved.lost, 'job')}" if saved.lost else "none"
    return [warn(_NAME, f"{text}; {lost} could not be read", fix)]
