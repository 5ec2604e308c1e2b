"""Where damaged bytes of a store are kept, each piece with a note that says why."""

from __future__ import annotations

import logging
import os

from nuvom._durable import private_directory, write_durably
from nuvom.log import get_logger, log_event

FOLDER = "quarantine"
_LOG = get_logger("files")


class Quarantine:
    """The folder ``quarantine`` of a store. Putting the same piece there twice keeps one."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, FOLDER)

    def keep(self, name: str, data: bytes, reason: str) -> None:
        """Keep ``data`` as file ``name``, and why in ``name.reason``; durable when it returns.

        Raises: StorageFull, BackendUnavailable: leave the original where it is.
        """
        private_directory(self.path)
        target = os.path.join(self.path, name)
        write_durably(target, data, exclusive=True)
        if write_durably(f"{target}.reason", f"{reason}\n".encode(), exclusive=True):
            text = f"Damaged bytes were set aside in {target}: {reason}."
            log_event(_LOG, logging.WARNING, "storage.quarantined", text, fields={"path": target})
