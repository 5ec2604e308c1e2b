"""A queue for Nuvom in folders like a Maildir: a file for each job."""

from nuvom_mailbox.plugin import MailboxPlugin
from nuvom_mailbox.queue import MailboxQueue

__all__ = ["MailboxPlugin", "MailboxQueue"]
