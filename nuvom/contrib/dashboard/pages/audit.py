"""Audit: who did what from here, to how many, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.contrib.dashboard.visit import Page

if TYPE_CHECKING:
    from nuvom.contrib.dashboard.visit import Visit

_PAGE = 50


def audit(visit: Visit) -> Page:
    """Show what people did, newest first."""
    before = visit.asked("before") or None
    found = visit.inspector.audit(_PAGE + 1, before)
    context = {
        "entries": found[:_PAGE],
        "next_before": found[_PAGE - 1].id if len(found) > _PAGE else None,
        "is_first": before is None,
        "keeps_audit": visit.inspector.keeps_history,
    }
    return Page("audit.html", context)
