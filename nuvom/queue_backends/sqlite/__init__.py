"""The SQLite store: one file that holds jobs and their results."""

from nuvom.queue_backends.sqlite.queue import SQLiteJobQueue

__all__ = ["SQLiteJobQueue"]
