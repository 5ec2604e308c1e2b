"""What tests of the log share: a job to run in, hostile texts, and a handler that collects."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nuvom.core import job_context
from nuvom.core.record import JobRecord
from nuvom.log import LogHandler
from nuvom.logs.formats import make_format

WORKER = "0198f000-0000-7000-8000-0000000000aa"
FORMATS = ("plain", "rich", "json", "logfmt")

# Each tries to end the line and begin one of its own, to move the cursor, or to turn the text.
FORGERIES = [
    "x\r\n2026-08-01T00:00:00.000Z INFO     nuvom: FORGED",
    "x\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029FORGED",
    "x\x00\b\x1b[2K\x1b]0;FORGED\x07\x9b2KFORGED",
    "x\u202e\u2066FORGED\u2069\ud800",
    '{"schema": "nuvom.log/1", "event": "FORGED"}',
    '\\" event=FORGED msg=\\" event=FORGED msg="',
    "[bold red]FORGED[/bold red][link=http://x]",
    "%s %d FORGED %(levelname)s {levelname}",
]


@dataclass
class Job:
    record: JobRecord
    worker: str = WORKER
    lane: str = "thread"


def make_job(job_id: str = "0198f000-0000-7000-8000-000000000001", **fields: object) -> JobRecord:
    values = {"func_name": "tasks.add", "attempt": 1, "lease_epoch": 3, **fields}
    return JobRecord(id=job_id, **values)  # type: ignore[arg-type]  # as a test says


@contextmanager
def inside(job: Job) -> Iterator[None]:
    token = job_context.current.set(job)
    try:
        yield
    finally:
        job_context.current.reset(token)


def failing(error: BaseException) -> tuple[object, ...]:
    """Raise ``error`` and return what ``sys.exc_info`` says of it."""
    try:
        raise error  # noqa: TRY301  # to have a traceback
    except BaseException:  # noqa: BLE001  # handed on
        return sys.exc_info()


class Collector:
    """A handler of ours on a logger, and what it wrote."""

    def __init__(self, logger: logging.Logger, fmt: str = "plain") -> None:
        self.stream = io.StringIO()
        self.handler = LogHandler(self.stream, make_format(fmt, self.stream))
        logger.addHandler(self.handler)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")[:-1]
