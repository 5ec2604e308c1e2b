"""Which job the running code belongs to."""

from __future__ import annotations

from contextvars import copy_context

from nuvom.core import job_context

from .logging_cases import Job, inside, make_job


def test_there_is_no_job_unless_one_was_set() -> None:
    assert copy_context().run(job_context.current.get) is None


def test_job_is_that_of_the_context() -> None:
    job = Job(make_job())
    with inside(job):
        assert job is job_context.current.get()
    assert job_context.current.get() is None
