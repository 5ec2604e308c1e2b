"""Where damaged bytes of a store are kept, each piece with a note that says why."""

from __future__ import annotations

import logging
import os
from zlib import crc32

from nuvom.host.files import private_directory, write_durably
from nuvom.log import get_logger, log_event

FOLDER = "quarantine"
_LOG = get_logger("files")


class Quarantine:
    """The folder ``quarantine`` of a store. Putting the same piece there twice keeps one."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, FOLDER)

    def keep(self, name: str, data: bytes, reason: str) -> None:
        """Keep ``data`` in a file, and why in another one beside it; durable when it returns.

        Args:
            name: What the file's name begins with; it ends with a checksum of ``data``.
        Raises: StorageFull, BackendUnavailable: leave the original where it is.
        """
        target = os.path.join(self.path, f"{name}-{crc32(data):08x}")
        if os.path.exists(f"{target}.reason"):  # who reads the log anew finds the same damage
            return
        private_directory(self.path)
        write_durably(target, data, exclusive=True)
        if write_durably(f"{target}.reason", f"{reason}\n".encode(), exclusive=True):
            text = f"Damaged bytes were set aside in {target}: {reason}."
            log_event(_LOG, logging.WARNING, "storage.quarantined", text, fields={"path": target})
