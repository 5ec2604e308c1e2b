"""The laws of a queue, and what is special about a mailbox. Run: pytest tests"""

from pathlib import Path
from typing import Any

from nuvom_mailbox import MailboxQueue

from nuvom.config import Settings
from nuvom.testing import make_job
from nuvom.testing.conformance import QueueConformance


class TestMailbox(QueueConformance):
    """Each inherited test is a law."""

    def make(self, tmp_path: Path, **settings: Any) -> MailboxQueue:
        """Return a queue with an empty box."""
        return MailboxQueue(Settings(root=tmp_path, **settings))


def test_what_is_not_renamed_yet_is_not_there(tmp_path: Path) -> None:
    """A letter that is still written is not handed out."""
    queue = MailboxQueue(str(tmp_path))
    queue.enqueue(make_job("tasks.add"))
    (tmp_path / "tmp" / "half").write_bytes(b"not whole")
    assert queue.qsize() == 1
    assert len(queue.pop_batch(5)) == 1
