"""Jobs in Django's admin: a list, a page for each job, and buttons to retry and cancel.

Everything is read from Nuvom's store, with secrets masked. Nothing can be edited.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from nuvom.contrib.django.models import QueuedJob
from nuvom.core.guard import engine_call
from nuvom.core.record import JobStatus
from nuvom.core.text import mask_text
from nuvom.core.transitions import RETRYABLE
from nuvom.errors import JobNotFound, NuvomError
from nuvom.inspection.inspector import Inspector
from nuvom.inspection.views import call_text, error_text, status_text
from nuvom.runtime import current_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.record import JobSnapshot

_ON_A_PAGE = 100
_FILTERS = ("status", "queue", "task")
_ACTIONS = {"retry": "It waits for a worker again.", "cancel": "It was cancelled."}


@admin.register(QueuedJob)
class JobAdmin(admin.ModelAdmin):
    """Shows jobs to whoever has the permission ``nuvom.view_job``."""

    def get_urls(self) -> list[Any]:
        """Return the addresses, under the names that the admin gives its own pages."""
        view = self.admin_site.admin_view
        return [
            path("", view(self.list_view), name="nuvom_queuedjob_changelist"),
            path("<str:job_id>/", view(self.job_view), name="nuvom_queuedjob_change"),
            path("<str:job_id>/<str:action>/", view(self.act), name="nuvom_queuedjob_act"),
        ]

    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        """Return False: jobs come from calls."""
        del request, obj
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        """Return whether the user may see jobs."""
        del obj
        return bool(request.user.has_perm("nuvom.view_job"))

    # ---- pages --------------------------------------------------------------------------

    def list_view(self, request: Any) -> Any:
        """Show jobs, newest first, a page at a time."""
        self._require(request, "view")
        given = {name: request.GET[name] for name in _FILTERS if request.GET.get(name)}
        jobs: list[JobSnapshot] = []
        try:
            jobs = _page(given, request.GET.get("before"))
        except NuvomError as error:
            messages.error(request, f"{error.what} {error.fix}")
        older = None
        if len(jobs) > _ON_A_PAGE:
            older = urlencode({**given, "before": jobs[_ON_A_PAGE - 1].record.id})
        context = {
            "title": "Jobs",
            "jobs": [_row(one) for one in jobs[:_ON_A_PAGE]],
            "given": given,
            "statuses": [str(one) for one in JobStatus],
            "older": older,
        }
        return self._shown(request, "nuvom/jobs.html", context)

    def job_view(self, request: Any, job_id: str) -> Any:
        """Show everything that is known of a job."""
        self._require(request, "view")
        try:
            facts, snapshot = _facts(job_id)
        except JobNotFound as error:
            raise Http404(error.what) from error
        allowed = {
            "retry": snapshot.status in RETRYABLE,
            "cancel": not snapshot.status.is_final,
        }
        context = {
            "title": f"Job {job_id}",
            "job_id": job_id,
            "facts": facts,
            "actions": [
                name for name, is_possible in allowed.items() if is_possible and _may(request, name)
            ],
        }
        return self._shown(request, "nuvom/job.html", context)

    def act(self, request: Any, job_id: str, action: str) -> Any:
        """Retry or cancel a job; a button's form is sent here."""
        if action not in _ACTIONS:
            raise Http404(action)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._require(request, action)
        control = current_runtime().control
        change: Callable[[str], Any] = control.retry if action == "retry" else control.cancel
        try:
            before = engine_call(change)(job_id)
        except NuvomError as error:
            messages.error(request, f"{error.what} {error.fix}")
        else:
            if before is None:
                raise Http404(job_id)
            self._say(request, action, before)
        return HttpResponseRedirect(reverse("admin:nuvom_queuedjob_change", args=[job_id]))

    def _say(self, request: Any, action: str, before: JobStatus) -> None:
        is_done = before in RETRYABLE if action == "retry" else not before.is_final
        if is_done:
            messages.success(request, f"{_ACTIONS[action]} It was {before}.")
        else:
            messages.warning(request, f"Nothing was changed: the job is {before}.")

    def _require(self, request: Any, action: str) -> None:
        if not _may(request, action):
            raise PermissionDenied

    def _shown(self, request: Any, template: str, context: dict[str, Any]) -> Any:
        whole = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        return TemplateResponse(request, template, whole)


def _may(request: Any, action: str) -> bool:
    return bool(request.user.has_perm(f"nuvom.{action}_job"))


@engine_call
def _page(given: dict[str, str], before: str | None) -> list[JobSnapshot]:
    status = given.get("status")
    return Inspector(current_runtime()).page(
        statuses=[JobStatus(status)] if status in set(JobStatus) else (),
        queue=given.get("queue"),
        task=given.get("task"),
        before=before,
        limit=_ON_A_PAGE + 1,
    )


def _row(snapshot: JobSnapshot) -> dict[str, Any]:
    record = snapshot.record
    return {
        "id": record.id,
        "task": record.func_name,
        "status": status_text(snapshot, current_runtime().clock.now()),
        "queue": record.queue,
        "attempt": record.attempt or "-",
        "created": _moment(record.created_at),
        "error": "" if snapshot.error is None else error_text(snapshot.error),
    }


@engine_call
def _facts(job_id: str) -> tuple[dict[str, Any], JobSnapshot]:
    """Return what is known of a job, by name, and the job. Raises: JobNotFound."""
    inspector = Inspector(current_runtime())
    snapshot = inspector.snapshot(job_id)
    record, reason = snapshot.record, inspector.why(snapshot)
    facts: dict[str, Any] = {
        **_row(snapshot),
        "not running": "" if reason is None else f"{reason.text}. {reason.fix}".strip(),
        "priority": record.priority,
        "most retries": record.max_retries,
        "started": _moment(snapshot.started_at),
        "finished": _moment(snapshot.finished_at),
        "worker": snapshot.worker,
        "arguments": _shown_arguments(inspector, snapshot),
        "tags": ", ".join(record.tags),
    }
    if snapshot.status is JobStatus.SUCCESS:
        facts["result"] = repr(inspector.shown_result(snapshot))
    for one in inspector.attempts(job_id):
        trace = "" if one.error is None else one.error.traceback or error_text(one.error)
        facts[f"attempt {one.number}"] = f"{one.outcome}\n{mask_text(trace)}".strip()
    return {name: value for name, value in facts.items() if value not in (None, "")}, snapshot


def _shown_arguments(inspector: Inspector, snapshot: JobSnapshot) -> str:
    record = snapshot.record
    try:
        return call_text(*inspector.shown_arguments(record))
    except NuvomError as error:  # damaged, or of a task that is not here
        return error.what


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
