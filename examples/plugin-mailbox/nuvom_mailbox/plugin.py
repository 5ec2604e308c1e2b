"""The plugin that offers the queue, and a figure for whoever exports metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.plugins.contracts import Plugin
from nuvom.plugins.registry import register_metrics_provider, register_queue_backend
from nuvom_mailbox.queue import MailboxQueue, folder_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.config import Settings
    from nuvom.plugins.contracts import Extras


class MailboxPlugin(Plugin):
    """Lets ``queue_backend = "mailbox"`` mean ``MailboxQueue``."""

    api_version = "1.0"
    name = "mailbox"
    provides = ("queue_backend",)

    def __init__(self) -> None:
        self._remove: Callable[[], None] = lambda: None

    def start(self, settings: Settings, extras: Extras) -> None:
        """Register the queue, and how many letters wait."""
        del extras
        register_queue_backend(self.name, MailboxQueue)
        box = folder_of(settings)
        self._remove = register_metrics_provider(self.name, lambda: {"mailbox_letters": count(box)})

    def stop(self) -> None:
        """Take the figure back; a registered class does no harm."""
        self._remove()


def count(box: str) -> float:
    """Return how many letters wait, 0 where there is no box yet."""
    return float(len(MailboxQueue(box)))
