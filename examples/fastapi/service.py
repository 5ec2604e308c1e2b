"""A service that counts words: submit a text, watch the job, fetch the result.

Development: ``EMBEDDED_WORKERS=1 uvicorn service:app --reload``. Production: ``uvicorn service:app
--workers 4``, and ``nuvom runworker`` beside it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any, Self

from fastapi import FastAPI, Header, HTTPException, Query, Request, Response
from pydantic import BaseModel
from tasks import count_words

import nuvom
from nuvom import Job, JobCancelled, JobFailed, JobNotFound, JobStatus, JobTimeout

EMBEDDED_WORKERS = int(os.environ.get("EMBEDDED_WORKERS", "0"))
LONGEST_WAIT_SECS = 30.0

app = FastAPI(lifespan=nuvom.asgi.lifespan(embedded_workers=EMBEDDED_WORKERS))


class Text(BaseModel):
    """What is submitted."""

    text: str
    most: int = 10


class JobView(BaseModel):
    """How far a job is."""

    id: str
    status: JobStatus
    done: float = 0
    total: float | None = None
    error: str | None = None

    @classmethod
    def of(cls, job: Job[Any]) -> Self:
        """Read a job once."""
        now = job.snapshot()
        done, total, _ = now.progress or (0, None, "")
        error = now.error.message if now.error else None
        return cls(id=job.id, status=now.status, done=done, total=total, error=error)


@app.post("/texts", status_code=202)
async def submit(
    text: Text,
    request: Request,
    response: Response,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> dict[str, str]:
    """Store a job. A request that is sent again with the same key finds the first one."""
    counting = count_words.options(unique_key=idempotency_key, unique_for=3600)
    job = await counting.adelay(text.text, text.most)
    response.headers["Location"] = str(request.url_for("status", job_id=job.id))
    return {"id": job.id}


@app.get("/jobs/{job_id}")
def status(job_id: str) -> JobView:
    """Say how far a job is."""
    return JobView.of(load(job_id))


@app.get("/jobs/{job_id}/result")
async def result(
    job_id: str, wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT_SECS)] = 0
) -> dict[str, int]:
    """Return the result, and wait for it for at most ``wait`` seconds."""
    job = await asyncio.to_thread(load, job_id)
    try:
        found: dict[str, int] = await job.aget(timeout=wait)
    except JobTimeout as error:
        raise HTTPException(409, "The job has not ended yet.") from error
    except (JobCancelled, JobFailed) as error:
        raise HTTPException(410, error.what) from error
    return found


@app.delete("/jobs/{job_id}")
def cancel(job_id: str) -> dict[str, bool]:
    """Cancel a job that has not ended."""
    return {"cancelled": load(job_id).cancel()}


def load(job_id: str) -> Job[Any]:
    """Return a job, or answer 404."""
    try:
        return Job.load(job_id)
    except JobNotFound as error:
        raise HTTPException(404, "There is no such job.") from error
